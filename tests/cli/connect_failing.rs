//! `connect` to a far side that cannot be reached or trusted: each request is told what to do, and the process stays.

use tower_seal::{
    Config, Identity,
    trust::{AnyIdentity, Pinned},
};

use crate::{
    connect_hand::{Absent, Connect, Far, call, result},
    support::{Home, Nobody, Upstream},
};

const NODE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// `message` has all of `words`.
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} in\n{message}");
    }
}

/// What it says of a request, which it does twice.
async fn fault(host: &mut Connect, name: &str) -> String {
    let mut said = Vec::new();
    for id in [1, 2] {
        host.say(call(id, "tools/call")).await;
        said.push(host.fault(id, name).await);
    }
    assert_eq!(said[0], said[1]);
    said.remove(0)
}

fn as_websocket(url: &str) -> String {
    url.replace("http://", "ws://")
}

#[tokio::test]
async fn it_does_not_start_with_what_cannot_be() {
    let home = Home::new();
    let own = home.run(&["id"]).await.done();
    let url = "ws://127.0.0.1:1/mcp";
    for (arguments, code, words) in [
        (&["connect", url][..], 2, &["whom to trust at the URL?", "--peer NODE_ID", "--first-use"][..]),
        (&["connect", "--first-use"], 2, &["<URL>"]),
        (&["connect", "--peer", NODE, "--first-use", url], 2, &["cannot be used with", "--first-use"]),
        (&["connect", "--peer", NODE, "ftp://a"], 2, &["has to begin with ws://", "such as wss://"]),
        (&["connect", "--peer", NODE, "/mcp"], 2, &["has to begin with ws://"]),
        (&["connect", "--peer", NODE, "wss://me:secret@a/"], 2, &["no user or password"]),
        (&["connect", "--peer", "me", url], 2, &["--peer <NODE_ID>"]),
        (&["connect", "--peer", own.trim(), url], 2, &["is this side's own node id", "--identity FILE"]),
        (&["connect", "--first-use", "--encoding", "xml", url], 2, &["possible values: json, binary"]),
        (&["connect", "--first-use", "--ca", "/nowhere.pem", url], 3, &["/nowhere.pem", "--ca"]),
        (&["connect", "--first-use", "--identity", "/", url], 3, &["/"]),
    ] {
        home.run(arguments).await.refused(code, words);
    }
    let damaged = home.written("known", "what is this\n");
    home.run(&["connect", "--first-use", "--peers", &damaged, url]).await.refused(3, &[&damaged]);
}

#[tokio::test]
async fn a_far_side_that_is_not_there_is_unreachable_until_it_is() {
    let (home, nobody) = (Home::new(), Nobody::new());
    for url in [nobody.url(), as_websocket(&nobody.url())] {
        let mut host = Connect::start(&home, &["--first-use", &format!("{url}/mcp?token=secret")]);
        let message = fault(&mut host, "unreachable").await;
        says(&message, &[&format!("{url}/mcp: "), "refused", "Check the URL, and that the far side runs."]);
        let logged = host.end().await;
        assert!(logged.contains("refused"), "so does the log: {logged}");
        assert!(!message.contains("secret") && !logged.contains("secret"), "{message} {logged}");
    }

    let server = Identity::generate();
    let node = server.node_id().to_string();
    let absent = Absent::new();
    let mut host = Connect::start(&home, &["--peer", &node, &absent.url()]);
    fault(&mut host, "unreachable").await;
    let far = absent.comes(Config::new(server, AnyIdentity));
    host.say(call(3, "ping")).await;
    let mut line = far.accept().await;
    line.expect(call(3, "ping")).await;
    line.send(result(3)).await;
    assert_eq!(host.line().await, result(3));
    host.end_stdin();
    line.ended().await;
    host.ended().await;
}

#[tokio::test]
async fn a_far_side_without_the_seal_is_unsealed() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    for url in [upstream.url(), as_websocket(&upstream.url())] {
        let mut host = Connect::start(&home, &["--first-use", &url]);
        let message = fault(&mut host, "unsealed").await;
        says(&message, &[&url, "was not sealed", "`tower-seal serve`", "without --plaintext"]);
        host.end().await;
    }
    assert_eq!(home.run(&["peers", "list"]).await.done(), "");
}

#[tokio::test]
async fn plaintext_is_not_taken_by_who_seals() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let mut host = Connect::start(&home, &["--plaintext", &(serve.url() + "/mcp")]);
    let message = fault(&mut host, "encryption_required").await;
    says(&message, &[&serve.url(), "Leave --plaintext out here."]);
    host.end().await;
    assert_eq!(upstream.hits(), 0);

    let serve = home.wrap(&[], &["cat"]).await;
    let url = as_websocket(&serve.url());
    let mut host = Connect::start(&home, &["--plaintext", &url]);
    let message = fault(&mut host, "unsealed").await;
    says(&message, &[&url, "no plain WebSocket", "leave --plaintext out here"]);
    host.end().await;
}

#[tokio::test]
async fn an_http_server_is_not_reached_by_websocket_and_that_is_said() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let url = as_websocket(&serve.url());
    let mut host = Connect::start(&home, &["--peer", &serve.node, &url]);
    let message = fault(&mut host, "unsealed").await;
    says(&message, &[&url, "an HTTP server", "with an http:// or https:// URL."]);
    host.end().await;
}

#[tokio::test]
async fn another_node_than_the_pinned_one_is_refused() {
    let (home, upstream, far) = (Home::new(), Upstream::start().await, Far::start().await);
    let other = home.id("other").await;
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;

    let mut host = Connect::start(&home, &["--peer", &other, &serve.url()]);
    host.say(call(1, "ping")).await;
    let message = host.fault(1, "wrong_audience").await;
    says(&message, &[&serve.url(), "Another key answers there", "`tower-seal serve`", "--peer"]);
    host.end().await;

    let mut host = Connect::start(&home, &["--peer", &other, &far.url()]);
    host.say(call(1, "ping")).await;
    far.refuse().await;
    let message = host.fault(1, "wrong_audience").await;
    says(&message, &[&far.url(), "Another key answers there", "--peer"]);
    host.end().await;
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn a_client_that_is_not_let_in_is_told_what_its_operator_has_to_ask_for() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let (friend, me) = (home.id("friend").await, home.id("me").await);
    let serve = home.serve(&upstream, &["--allow", &friend]).await;
    let far = Far::with(Config::new(Identity::generate(), Pinned::new([friend.parse().unwrap()]))).await;
    let key = home.path("me");
    for (url, node) in [(serve.url(), serve.node.clone()), (far.url(), far.node())] {
        let mut host = Connect::start(&home, &["--peer", &node, "--identity", &key, &url]);
        host.say(call(1, "ping")).await;
        if url == far.url() {
            far.refuse().await;
        }
        let message = host.fault(1, "untrusted_peer").await;
        says(&message, &[&url, "refused: untrusted_peer", &format!("`tower-seal serve --allow {me}`")]);
        host.end().await;
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn a_changed_key_is_refused_until_it_is_forgotten() {
    let home = Home::new();
    let file = home.path("known");
    let mut far = Far::start().await;
    let (url, first) = (far.url(), far.node());
    let origin = url.strip_suffix("/mcp").unwrap().to_owned();
    let mut host = Connect::start(&home, &["--first-use", "--peers", &file, &url]);
    host.say(call(1, "ping")).await;
    let mut line = far.accept().await;
    line.expect(call(1, "ping")).await;
    let known = home.run(&["peers", "--peers", &file, "list"]).await.done();
    assert_eq!(known, format!("{origin} {first}\n"));
    drop(line);
    host.fault(1, "connection_lost").await;

    far.becomes(Config::new(Identity::generate(), AnyIdentity));
    host.say(call(2, "ping")).await;
    far.refuse().await;
    let message = host.fault(2, "wrong_audience").await;
    let peers = format!("tower-seal peers --peers {file}");
    says(
        &message,
        &[
            &format!("The node at {origin} has changed: node {first:.10}… is known there"),
            "Either its key was renewed, or somebody in between answers in its place.",
            &format!("run `{peers} trust {origin} NODE_ID`"),
            &format!("`{peers} forget {origin}`, to trust whoever answers next."),
        ],
    );
    // Just as it says, and without a restart.
    home.run(&["peers", "--peers", &file, "forget", &origin]).await.done();
    host.say(call(3, "ping")).await;
    let mut line = far.accept().await;
    line.expect(call(3, "ping")).await;
    line.send(result(3)).await;
    assert_eq!(host.line().await, result(3));
}

#[tokio::test]
async fn the_json_log_is_one_object_a_line_on_stderr() {
    let (home, nobody) = (Home::new(), Nobody::new());
    for url in [nobody.url(), as_websocket(&nobody.url())] {
        let mut host = Connect::start(&home, &["--first-use", "--log", "json", &url]);
        host.say("nonsense").await;
        host.line().await;
        fault(&mut host, "unreachable").await;
        let logged = host.end().await;
        let lines: Vec<serde_json::Value> = logged
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect();
        assert_eq!(lines.len(), 3, "{logged}");
        assert!(lines.iter().all(|line| line["level"] == "WARN"), "{logged}");
    }
}
