//! `proxy --first-use`: who was met is known from then on.

use crate::support::{Home, Upstream, get, problem, told};

/// `ORIGIN NODE_ID` lines.
async fn known(home: &Home, file: &str) -> String {
    home.run(&["peers", "--peers", &home.path(file), "list"]).await.done()
}

#[tokio::test]
async fn a_changed_key_is_refused_until_it_is_forgotten_or_trusted() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let file = home.path("known");
    let peers = format!("tower-seal peers --peers {file}");
    let serve = home.serve_at("127.0.0.1:0", &upstream, "first").await;
    let (address, origin, first) = (serve.address.clone(), serve.url(), serve.node.clone());
    let proxy = home.proxy(&origin, &["--first-use", "--peers", &file]).await;
    assert_eq!(known(&home, "known").await, "", "nobody before the first call");
    assert_eq!(get(&proxy.url()).await.0, 200);
    assert_eq!(get(&proxy.url()).await.0, 200);
    assert_eq!(known(&home, "known").await, format!("{origin} {first}\n"));
    assert!(!home.file(".local/share/tower-seal/known_peers").exists());

    serve.kill().await;
    let serve = home.serve_at(&address, &upstream, "second").await;
    let second = serve.node.clone();
    assert_ne!(second, first);
    let hits = upstream.hits();
    // In the session that there was; what is in the answer to that, anybody could have said.
    let message = problem(&proxy.url(), "unknown_session").await;
    assert!(
        message.ends_with("The far side lost the session, or another one answers in its place: try again."),
        "{message}"
    );
    for _ in 0..2 {
        let (status, told) = get(&proxy.url()).await;
        assert_eq!(status, 502, "{told}");
        let message = told["error"]["message"].as_str().unwrap();
        for words in [
            format!("The node at {origin} has changed: node {:.10}… is known there, but ", first),
            "Either its key was renewed, or somebody in between answers in its place.".to_owned(),
            format!("run `{peers} trust {origin} NODE_ID`"),
            format!("`{peers} forget {origin}`, to trust whoever answers next."),
        ] {
            assert!(message.contains(&words), "{words} in\n{message}");
        }
    }
    assert_eq!(upstream.hits(), hits, "nothing was sent to another node");
    assert_eq!(known(&home, "known").await, format!("{origin} {first}\n"));

    // Just as it says, and without a restart of `proxy`.
    home.run(&["peers", "--peers", &file, "forget", &origin]).await.done();
    assert_eq!(get(&proxy.url()).await.0, 200);
    assert_eq!(known(&home, "known").await, format!("{origin} {second}\n"));

    serve.kill().await;
    let serve = home.serve_at(&address, &upstream, "third").await;
    problem(&proxy.url(), "unknown_session").await;
    problem(&proxy.url(), "wrong_audience").await;
    home.run(&["peers", "--peers", &file, "trust", &origin, &serve.node]).await.done();
    assert_eq!(get(&proxy.url()).await.0, 200);
}

#[tokio::test]
async fn the_message_for_the_usual_file_names_no_other() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let origin = serve.url();
    home.run(&["peers", "trust", &origin, &home.id("other").await]).await.done();
    let proxy = home.proxy(&origin, &["--first-use"]).await;
    let (status, told) = get(&proxy.url()).await;
    assert_eq!(status, 502);
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("`tower-seal peers forget {origin}`")), "{message}");
}

#[tokio::test]
async fn who_refuses_is_not_learned() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let friend = home.id("friend").await;
    let serve = home.serve(&upstream, &["--allow", &friend]).await;
    let file = home.path("known");
    let stranger = ["--first-use", "--peers", &file, "--identity", &home.path("stranger")];
    let proxy = home.proxy(&serve.url(), &stranger).await;
    let message = problem(&proxy.url(), "untrusted_peer").await;
    assert!(message.contains(&format!("--allow {}", proxy.node)), "{message}");
    assert_eq!(known(&home, "known").await, "");

    let friend = ["--first-use", "--peers", &file, "--identity", &home.path("friend")];
    let proxy = home.proxy(&serve.url(), &friend).await;
    assert_eq!(get(&proxy.url()).await.0, 200);
    assert_eq!(known(&home, "known").await, format!("{} {}\n", serve.url(), serve.node));
}

#[tokio::test]
async fn a_file_damaged_meanwhile_lets_nobody_new_in_and_is_named() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let file = home.path("known");
    let proxy = home.proxy(&serve.url(), &["--first-use", "--peers", &file]).await;
    home.written("known", "what is this\n");
    let message = problem(&proxy.url(), "untrusted_peer").await;
    let remedy =
        format!("nobody new is trusted: `tower-seal peers --peers {file} list` says what is wrong with it.");
    assert!(message.ends_with(&remedy), "{message}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "what is this\n");

    home.written("known", "");
    assert_eq!(told(crate::support::client().get(proxy.url())).await.0, 200);
}

/// Another process hangs while it has the file.
#[tokio::test]
async fn a_locked_file_holds_nobody_up_and_is_written_when_it_can_be() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let file = home.path("known");
    let lock = std::fs::File::create(home.path("known.lock")).unwrap();
    fs4::FileExt::lock(&lock).unwrap();
    let proxy = home.proxy(&serve.url(), &["--first-use", "--peers", &file]).await;
    let began = std::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(get(&proxy.url()).await.0, 200);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "others may have it for 10 s");
    assert_eq!(known(&home, "known").await, "");
    drop(lock);
    // At the latest when it ends.
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await.0, Some(0));
    assert_eq!(known(&home, "known").await, format!("{} {}\n", serve.url(), serve.node));
}
