//! When trust in a node is withdrawn, its sessions end: the next request is refused, and a stream that runs
//! ends with its next record.

use http::{Request, Response};
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use tower_seal::{
    Config, Error, Identity,
    error::Code,
    http::SealLayer,
    telemetry::Metric,
    trust::{FirstUse, KnownPeers, Pinned},
};

use crate::support::*;

/// Streams the request in and the response out, both in the hands of the test; `/` is an echo.
fn streaming() -> (Wire, mpsc::UnboundedReceiver<(Body, Tap)>) {
    let (arrive, arrived) = mpsc::unbounded_channel();
    let app = app(move |request: Request<Body>| {
        let (tap, body) = channel();
        if request.uri().path() == "/" {
            tap.send("hello");
        } else {
            arrive.send((request.into_body(), tap)).unwrap();
        }
        async { Response::new(body) }
    });
    (app, arrived)
}

fn untrusted(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused { code: Code::UntrustedPeer, signed: false }
            | Error::Untrusted { code: Code::UntrustedPeer, .. }
    )
}

#[tokio::test(start_paused = true)]
async fn a_client_that_the_server_trusts_no_more_is_refused() {
    for (method, first) in [("GET", None), ("POST", Some(()))] {
        let sides = Sides::new();
        let (wire, traffic) = Traffic::through(sides.serve(streaming().0));
        let http = sides.seal(wire);
        let request = || Request::builder().method(method).uri("http://example.com/").body(empty()).unwrap();
        ask(&http, request()).await.unwrap();
        sides.clients.remove(sides.client.node_id());
        if first.is_some() {
            // The session is gone, and a POST is not sent again.
            assert!(matches!(ask(&http, request()).await.unwrap_err(), Error::OutcomeUnknown));
        }
        for _ in 0..2 {
            let error = ask(&http, request()).await.unwrap_err();
            assert!(untrusted(&error), "{method} {error:?}");
        }
        assert_eq!(traffic.values(), (3, 2), "{method}");
        assert_eq!(sides.server.telemetry().value(Metric::SessionsLive), 0);
        // Trust is given again.
        sides.clients.insert(sides.client.node_id());
        assert_eq!(ask(&http, request()).await.unwrap().1, "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_client_trusts_no_more_gets_no_request() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(streaming().0));
    let http = sides.seal(wire);
    ask(&http, get("http://example.com/")).await.unwrap();
    sides.servers.remove(sides.server.node_id());
    for _ in 0..2 {
        let error = ask(&http, get("http://example.com/")).await.unwrap_err();
        assert!(untrusted(&error), "{error:?}");
    }
    assert_eq!(traffic.requests.value(), 1);
    sides.servers.insert(sides.server.node_id());
    assert_eq!(ask(&http, get("http://example.com/")).await.unwrap().1, "hello");
}

#[tokio::test(start_paused = true)]
async fn the_sessions_of_other_peers_go_on() {
    let sides = Sides::new();
    let other = Config::new(Identity::generate(), Pinned::new([sides.server.node_id()]));
    sides.clients.insert(other.node_id());
    let wire = sides.serve(streaming().0);
    let (wire, traffic) = Traffic::through(wire);
    let others = seal(&SealLayer::new(other), wire.clone());
    ask(&others, get("http://example.com/")).await.unwrap();
    ask(&sides.seal(wire), get("http://example.com/")).await.unwrap();
    sides.clients.remove(sides.client.node_id());
    ask(&others, get("http://example.com/")).await.unwrap();
    assert_eq!(traffic.values(), (2, 3));
}

#[tokio::test]
async fn an_event_stream_ends_with_an_error_at_its_next_event_over_each_wire() {
    for each @ (version, encoding) in EACH {
        for server_side in [true, false] {
            let sides = Sides::speaking(encoding);
            let (app, mut arrived) = streaming();
            let address = listen(sides.serve(app)).await;
            let http = sides.seal(connection(version));
            let response = http.oneshot(get(&format!("http://{address}/events"))).await.unwrap();
            let mut events = response.into_body();
            let (_, tap) = arrived.recv().await.unwrap();
            tap.send("one");
            assert_eq!(piece(&mut events).await.unwrap().unwrap(), "one");
            if server_side {
                sides.clients.remove(sides.client.node_id());
            } else {
                sides.servers.remove(sides.server.node_id());
            }
            tap.send("secret");
            assert!(piece(&mut events).await.is_err(), "{each:?}");
            assert!(piece(&mut events).await.unwrap().is_none());
            drop(events);
            tap.dropped().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_streams_in_ends_with_an_error_at_its_next_record() {
    for server_side in [true, false] {
        let sides = Sides::new();
        let (app, mut arrived) = streaming();
        let http = sides.seal(sides.serve(app));
        let (up, body) = channel();
        let request = Request::post("http://example.com/upload").body(body).unwrap();
        let response = http.oneshot(request).await.unwrap();
        let (mut asked, _tap) = arrived.recv().await.unwrap();
        up.send("one");
        assert_eq!(piece(&mut asked).await.unwrap().unwrap(), "one");
        if server_side {
            sides.clients.remove(sides.client.node_id());
        } else {
            sides.servers.remove(sides.server.node_id());
        }
        up.send("two");
        assert!(piece(&mut asked).await.is_err());
        up.dropped().await;
        drop(response);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_in_hand_when_trust_goes_gets_no_answer() {
    let sides = Sides::new();
    let gate = Gate::new();
    let (enter, mut entered) = mpsc::unbounded_channel();
    let opens = gate.clone();
    let app = app(move |_| {
        enter.send(()).unwrap();
        let opens = opens.clone();
        async move {
            opens.pass().await;
            Response::new(full("secret"))
        }
    });
    let http = sides.seal(sides.serve(app));
    let call = tokio::spawn(async move { ask(&http, post("http://example.com/", "")).await });
    entered.recv().await.unwrap();
    sides.clients.remove(sides.client.node_id());
    gate.open();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_met_for_the_first_time_takes_one_handshake() {
    let mut sides = Sides::new();
    let folder = tempfile::tempdir().unwrap();
    let learning = FirstUse::new(KnownPeers::open(folder.path().join("peers")).unwrap()).unwrap();
    sides.client = Config::new(Identity::generate(), learning);
    sides.clients.insert(sides.client.node_id());
    let (wire, traffic) = Traffic::through(sides.serve(streaming().0));
    let http = sides.seal(wire);
    for _ in 0..3 {
        assert_eq!(ask(&http, get("http://example.com/")).await.unwrap().1, "hello");
    }
    assert_eq!(traffic.values(), (1, 3));
}
