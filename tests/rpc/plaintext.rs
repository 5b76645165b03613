//! Without protection, where a side was told so.

use tower::{Layer as _, ServiceExt as _};
use tower_seal::{
    Config,
    rpc::{SealLayer, UnsealLayer},
    telemetry::Metric,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn plaintext_mode_is_transparent_and_counted() {
    let (server, client) = (Config::plaintext(), Config::plaintext());
    let wire = UnsealLayer::new(server.clone()).layer(app(|message| async move {
        assert_eq!(message.caller, None);
        Some(message.bytes)
    }));
    let rpc = SealLayer::new(client.clone()).layer(wire);
    for message in [request(1, "m"), "junk".into(), "{\"type\":\"encrypted\"}".into()] {
        let answer = rpc.clone().oneshot(message.clone()).await.unwrap();
        assert_eq!(answer, Some(message));
    }
    assert_eq!(server.telemetry().value(Metric::PlaintextRequests), 3);
    assert_eq!(client.telemetry().value(Metric::PlaintextRequests), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_in_transition_serves_both_and_tells_them_apart() {
    let mut sides = Sides::new();
    sides.server = sides.server.dangerously_accept_plaintext();
    let wire = sides.serve(app(|message| async move { Some(response(1, message.caller.is_some())) }));
    for message in [&*request(1, "m"), b"[{\"method\":\"m\"}]", b"junk", b"{\"type\":1}", b"{\"type\":\"x\"}"]
    {
        let answer = send(&wire, message.to_vec()).await.unwrap();
        assert_eq!(parse(&answer)["result"], false);
    }
    assert_eq!(sides.server.telemetry().value(Metric::PlaintextRequests), 5);
    let answer = ask(&sides.seal(wire.clone()), request(1, "m")).await.unwrap().unwrap();
    assert_eq!(parse(&answer)["result"], true);
    // What says that it is sealed is never taken for plaintext.
    let answer = send(&wire, "{\"type\":\"encrypted\",\"id\":1,\"method\":\"m\"}").await.unwrap();
    assert_eq!(parse(&answer)["code"], "malformed");
}
