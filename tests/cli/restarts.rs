//! Whatever restarts, the others go on.

use crate::support::{Home, Upstream, client, get, told};

#[tokio::test]
async fn an_upstream_that_restarts_is_found_again() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    assert_eq!(get(&proxy.url()).await.0, 200);
    let address = upstream.stop().await;
    assert_eq!(get(&proxy.url()).await.0, 502);
    let upstream = Upstream::start_at(address).await;
    assert_eq!(get(&proxy.url()).await.0, 200);
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test]
async fn serve_that_restarts_is_found_again_and_nothing_harmful_is_sent_twice() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve_at("127.0.0.1:0", &upstream, "server").await;
    let (address, node) = (serve.address.clone(), serve.node.clone());
    let proxy = home.proxy(&serve.url(), &["--peer", &node]).await;
    assert_eq!(get(&proxy.url()).await.0, 200);

    serve.kill().await;
    let serve = home.serve_at(&address, &upstream, "server").await;
    assert_eq!(serve.node, node);
    assert_eq!(get(&proxy.url()).await.0, 200, "a GET is sent again");
    assert_eq!(upstream.hits(), 2);

    serve.kill().await;
    let serve = home.serve_at(&address, &upstream, "server").await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#;
    let post = |body: &'static str| told(client().post(proxy.url()).body(body));
    let (status, failed) = post(call).await;
    assert_eq!((status, failed["error"]["code"].as_str()), (502, Some("outcome_unknown")), "{failed}");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("may have been served; it was not sent again"), "{message}");
    assert!(message.ends_with("Look whether it was done before you repeat it."), "{message}");
    assert_eq!(upstream.hits(), 2);
    assert_eq!(post(call).await.0, 200, "the next works");
    assert_eq!(upstream.hits(), 3);

    serve.kill().await;
    let _serve = home.serve_at(&address, &upstream, "server").await;
    assert_eq!(post(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#).await.0, 200, "harmless");
    assert_eq!(upstream.hits(), 4);
}

#[tokio::test]
async fn a_far_side_that_comes_late_is_found() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve_at("127.0.0.1:0", &upstream, "server").await;
    let (address, node) = (serve.address.clone(), serve.node.clone());
    let proxy = home.proxy(&serve.url(), &["--peer", &node]).await;
    serve.kill().await;
    assert_eq!(get(&proxy.url()).await.1["error"]["code"], "unreachable");
    let _serve = home.serve_at(&address, &upstream, "server").await;
    assert_eq!(get(&proxy.url()).await.0, 200);
}
