//! Requests that cannot be served: each answer says what happened and what to do.

use crate::support::{Home, Nobody, Upstream, get, problem, told};

/// `message` has all of `words`.
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} in\n{message}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_through_the_seal() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    let url = upstream.url();
    let upstream_address = upstream.stop().await.to_string();
    let message = problem(&(proxy.url() + "/mcp"), "upstream_unreachable").await;
    says(
        &message,
        &["The server behind tower-seal cannot be reached", "operator", "check that it runs", "--upstream"],
    );
    assert!(!message.contains(&upstream_address), "where it is, is nobody's business: {message}");
    says(
        &serve.logs("refused").await,
        &["the upstream does not answer", &url, "tcp connect error", "refused"],
    );
}

#[tokio::test]
async fn a_far_side_that_is_not_there_is_unreachable() {
    let (home, nobody) = (Home::new(), Nobody::new());
    let proxy = home.proxy(&nobody.url(), &["--first-use"]).await;
    let message = problem(&(proxy.url() + "/mcp"), "unreachable").await;
    says(&message, &[&nobody.url(), "refused", "Check the URL, and that the far side runs."]);
    assert_eq!(home.run(&["peers", "list"]).await.done(), "", "nobody was met");
}

#[tokio::test]
async fn a_far_side_without_the_seal_is_unsealed_and_nothing_of_it_is_passed_on() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let plain = home.serve(&upstream, &["--plaintext"]).await;
    for url in [upstream.url(), plain.url()] {
        let proxy = home.proxy(&url, &["--first-use"]).await;
        let message = problem(&(proxy.url() + "/mcp"), "unsealed").await;
        says(
            &message,
            &[&url, "was not sealed", "check the URL", "`tower-seal serve`", "without --plaintext"],
        );
    }
    assert_eq!(home.run(&["peers", "list"]).await.done(), "");
}

#[tokio::test]
async fn plaintext_at_a_sealed_port_is_refused_with_403() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let proxy = home.proxy(&serve.url(), &["--plaintext"]).await;
    for url in [serve.url(), proxy.url()] {
        let (status, told) = get(&(url.clone() + "/mcp")).await;
        assert_eq!((status, told["code"].as_str()), (403, Some("encryption_required")), "{told}");
        says(told["message"].as_str().unwrap(), &["encryption_required: "]);
        let post = crate::support::client().post(url).body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        assert_eq!(crate::support::told(post).await.0, 403);
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn a_client_that_is_not_let_in_is_told_what_its_operator_has_to_ask_for() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let friend = home.id("friend").await;
    let serve = home.serve(&upstream, &["--allow", &friend, "--identity", &home.path("server")]).await;
    let proxy =
        home.proxy(&serve.url(), &["--peer", &serve.node, "--identity", &home.path("stranger")]).await;
    let message = problem(&proxy.url(), "untrusted_peer").await;
    says(&message, &["refused: untrusted_peer", &format!("`tower-seal serve --allow {}`", proxy.node)]);
    assert_eq!(upstream.hits(), 0);

    // As it says.
    let both = ["--allow", &friend, &proxy.node];
    let serve = home.serve(&upstream, &[&both[..], &["--identity", &home.path("server")]].concat()).await;
    let stranger =
        home.proxy(&serve.url(), &["--peer", &serve.node, "--identity", &home.path("stranger")]).await;
    assert_eq!(get(&stranger.url()).await.0, 200);
}

/// Both of one user, on one machine, with the usual file: the first thing that somebody tries.
#[tokio::test]
async fn two_sides_with_one_key_are_told_to_take_two() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let url = upstream.url();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--upstream", &url, "--allow-anyone"];
    let serve = crate::support::Daemon::start(home.command(&arguments), "serve").await;
    let proxy = home.proxy(&serve.url(), &["--first-use"]).await;
    let message = problem(&proxy.url(), "untrusted_peer").await;
    says(&message, &["with the same key as this, give one of the two another with --identity FILE."]);
}

#[tokio::test]
async fn another_node_than_the_pinned_one_is_refused() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let proxy = home.proxy(&serve.url(), &["--peer", &home.id("other").await]).await;
    let (status, told) = told(crate::support::client().get(proxy.url())).await;
    assert_eq!(status, 502);
    let code = told["error"]["code"].as_str().unwrap();
    assert!(["untrusted_peer", "wrong_audience"].contains(&code), "{told}");
    says(told["error"]["message"].as_str().unwrap(), &[&serve.url(), "`tower-seal serve`", "--peer"]);
    assert_eq!(upstream.hits(), 0);
}
