//! What is left in logs and counters: who and how much, and nothing of what was said.

use tower_seal::{
    Config,
    rpc::serve,
    telemetry::{Metric, SEAL_SPAN, UNSEAL_SPAN},
};

use crate::{far::by_hand, support::*};

#[tokio::test(start_paused = true)]
async fn spans_say_who_spoke_and_nothing_says_what() {
    recorder::keep();
    let sides = Sides::new();
    let rpc = sides.seal(sides.serve(echo()));
    ask(&rpc, request("secret", "secret")).await.unwrap();
    send(&sides.serve(echo()), request("secret", "secret")).await.unwrap();

    let (pipe, mut far) = by_hand(16);
    let failing = App::new(tower::service_fn(|_| async { Err(Failure("secret")) }));
    let _end = tokio::spawn(serve(&sides.server, pipe, failing));
    far.send(request("secret", "secret")).await;
    far.send("{\"secret").await;
    far.receive().await;
    far.receive().await;

    let log = recorder::kept();
    let says = |span: &str, who: tower_seal::NodeId| {
        let field = format!("peer={who}");
        log.lines().any(|line| line.contains(&format!("{span}{{")) && line.contains(&field))
    };
    assert!(says(SEAL_SPAN, sides.server.node_id()), "{log}");
    assert!(says(UNSEAL_SPAN, sides.client.node_id()), "{log}");
    assert!(log.contains("encryption_required") && log.contains("failed to answer"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn both_sides_count_the_same() {
    let sides = Sides::new();
    let rpc = sides.seal(sides.serve(echo()));
    for _ in 0..2 {
        ask(&rpc, request(1, "m")).await.unwrap();
    }
    ask(&rpc, notification("m")).await.unwrap();
    let counts = |config: &Config| {
        [Metric::Handshakes, Metric::SessionsLive, Metric::RecordsSealed, Metric::RecordsOpened]
            .map(|metric| config.telemetry().value(metric))
    };
    assert_eq!(counts(&sides.client), [1, 1, 3, 2]);
    assert_eq!(counts(&sides.server), [1, 1, 2, 3]);
    drop(rpc);
    assert_eq!(counts(&sides.client)[1], 0, "nobody holds its keys any more");
}
