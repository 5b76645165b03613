//! What goes through `proxy` and `serve`: the same as without them.

use crate::support::{Home, Upstream, client, get, problem, told};

#[tokio::test]
async fn path_query_fields_and_bytes_are_the_same_in_both_encodings_and_policies() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let client_id = home.id("client").await;
    let serve = home.serve(&upstream, &["--allow", &client_id, "--identity", &home.path("server")]).await;
    assert_eq!(serve.node, home.id("server").await);
    let large = "ä1".repeat(200_000);
    for encoding in ["json", "binary"] {
        for signatures in ["every", "handshake"] {
            let key = home.path("client");
            let proxy = home
                .proxy(
                    &serve.url(),
                    &[
                        "--peer",
                        &serve.node,
                        "--identity",
                        &key,
                        "--encoding",
                        encoding,
                        "--signatures",
                        signatures,
                    ],
                )
                .await;
            assert_eq!(proxy.node, client_id);
            let (status, direct) =
                told(client().post(upstream.url() + "/a/b%20c?x=1&y=%2F").body("hi")).await;
            let (sealed_status, mut sealed) =
                told(client().post(proxy.url() + "/a/b%20c?x=1&y=%2F").body("hi")).await;
            assert_eq!(sealed["peer"].take(), serde_json::json!([client_id]));
            assert_eq!(sealed["host"].take(), serde_json::json!([serve.address]), "as the client called it");
            assert_eq!(
                (sealed_status, &sealed["uri"], &sealed["body"]),
                (status, &direct["uri"], &direct["body"])
            );
            for _ in 0..2 {
                let (_, sealed) = told(client().post(proxy.url()).body(large.clone())).await;
                assert_eq!(sealed["length"], large.len());
                assert!(sealed["body"] == large.as_str());
            }
            let response = client().get(proxy.url()).send().await.unwrap();
            assert_eq!(response.headers()["x-told"], "yes");
        }
    }
}

#[tokio::test]
async fn the_upstream_is_told_who_calls_and_nobody_else_can_say_so() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone", "--upstream-host", "inner.example"]).await;
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node, "--identity", &home.path("client")]).await;
    let spoofed = client()
        .get(proxy.url())
        .header("tower-seal-peer", "f".repeat(64))
        .header("Tower-Seal-Peer", serve.node.clone())
        .header("Tower_Seal_Peer", serve.node.clone())
        .header("tower-seal_peer", "f".repeat(64));
    let (_, seen) = told(spoofed).await;
    assert_eq!(seen["peer"], serde_json::json!([proxy.node]));
    assert_eq!(seen["host"], serde_json::json!(["inner.example"]));
}

#[tokio::test]
async fn plaintext_on_both_sides_is_plain_http_by_option_and_by_variable() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let spoofed = |url: String| client().get(url).header("tower-seal-peer", "f".repeat(64));
    let serve = home.serve(&upstream, &["--plaintext"]).await;
    let proxy = home.proxy(&serve.url(), &["--plaintext"]).await;
    for url in [proxy.url(), serve.url()] {
        let (status, seen) = told(spoofed(url + "/x?y=1")).await;
        assert_eq!((status, seen["uri"].as_str()), (200, Some("/x?y=1")));
        assert_eq!(seen["peer"], serde_json::json!([]), "nobody is verified");
    }
    for daemon in [&serve, &proxy] {
        daemon.logs("without any protection").await;
    }

    let (url, upstream_url) = (serve.url(), upstream.url());
    let start = |arguments: &[&str], what: &'static str| {
        let mut command = home.command(arguments);
        command.env("TOWER_SEAL_PLAINTEXT", "1");
        crate::support::Daemon::start(command, what)
    };
    let serve = start(&["serve", "--listen", "127.0.0.1:0", "--upstream", &upstream_url], "serve").await;
    let proxy = start(&["proxy", "--listen", "127.0.0.1:0", &url], "proxy").await;
    for url in [proxy.url(), serve.url()] {
        assert_eq!(get(&url).await.0, 200);
    }
}

#[tokio::test]
async fn a_prefix_that_a_gateway_strips_is_told_with_strip_prefix() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    // A gateway that serves `serve` below /tools.
    let gateway = |serve: String| async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let strip = move |request: axum::extract::Request| {
            let url = serve.clone() + request.uri().path().strip_prefix("/tools").unwrap();
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let answer =
                    client().request(head.method, url).headers(head.headers).body(body).send().await.unwrap();
                let (status, headers) = (answer.status(), answer.headers().clone());
                (status, headers, answer.bytes().await.unwrap())
            }
        };
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(strip)).await });
        format!("http://{address}/tools")
    };
    let right = home.serve(&upstream, &["--allow-anyone", "--strip-prefix", "/tools"]).await;
    let url = gateway(right.url()).await;
    let proxy = home.proxy(&url, &["--peer", &right.node]).await;
    assert_eq!(get(&(proxy.url() + "/mcp?x=1")).await.1["uri"], "/mcp?x=1");

    let wrong = home.serve(&upstream, &["--allow-anyone"]).await;
    let url = gateway(wrong.url()).await;
    let proxy = home.proxy(&url, &["--peer", &wrong.node]).await;
    let message = problem(&(proxy.url() + "/mcp"), "path_mismatch").await;
    assert!(message.contains("--strip-prefix"), "{message}");
}

#[tokio::test]
async fn only_the_authorities_given_are_served() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone", "--authority", "other.example"]).await;
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    let message = problem(&proxy.url(), "path_mismatch").await;
    assert!(message.contains("--authority"), "{message}");
    assert_eq!(upstream.hits(), 0);

    let listener = crate::support::Nobody::new();
    let address = listener.url().replace("http://", "");
    drop(listener);
    let (url, key) = (upstream.url(), home.path("serve.pem"));
    let arguments = [
        "serve",
        "--listen",
        &address,
        "--upstream",
        &url,
        "--allow-anyone",
        "--authority",
        &address,
        "--identity",
        &key,
    ];
    let serve = crate::support::Daemon::start(home.command(&arguments), "serve").await;
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    assert_eq!(get(&proxy.url()).await.0, 200);
}
