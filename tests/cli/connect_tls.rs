//! `connect` through TLS, of an authority of one's own.

use crate::{
    broken::terminated,
    connect_hand::{Connect, call},
    support::{Home, Upstream},
};

#[tokio::test]
async fn both_kinds_of_urls_work_with_ca_and_not_without() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.wrap(&["--upstream", &upstream.url()], &["cat"]).await;
    let (url, pem) = terminated(serve.address.clone()).await;
    let ca = home.written("ca.pem", &pem);
    for url in [url.replace("https://", "wss://"), url] {
        let mut host = Connect::start(&home, &["--peer", &serve.node, &url]);
        host.say(call(1, "ping")).await;
        let message = host.fault(1, "certificate").await;
        assert!(message.contains("give that with --ca") && message.contains(&url), "{message}");
        host.end().await;

        let mut host = Connect::start(&home, &["--peer", &serve.node, "--ca", &ca, &url]);
        host.say(call(1, "ping")).await;
        // The child echoes; the upstream answers with what it was asked, which is no JSON-RPC.
        if url.starts_with("wss") {
            assert_eq!(host.line().await, call(1, "ping"));
            host.signal("TERM");
            host.fault(1, "stopped").await;
            host.ended().await;
        } else {
            host.fault(1, "unexpected_answer").await;
            assert_eq!(upstream.hits(), 1);
            host.end().await;
        }
    }
}
