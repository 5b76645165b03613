//! When the client shakes hands: on first use, once for all who wait, for each origin and each node expected.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::future::{join_all, select_all};
use http::{Response, StatusCode, header};
use tokio::sync::oneshot;
use tower::ServiceExt as _;
use tower_seal::{
    Config, Error, Identity, NodeId,
    error::{Code, Result},
    trust::{Candidate, Pinned, Trust, Verdict},
};

use crate::support::*;

type Call = Pin<Box<dyn Future<Output = Result<(u16, Bytes)>> + Send>>;

fn call(http: &Http) -> Call {
    let http = http.clone();
    Box::pin(async move { ask(&http, post("http://example.com/", "hi")).await })
}

/// A middle that keeps hellos until the gate opens.
fn holding_hellos(wire: Wire, gate: &Gate) -> Wire {
    let gate = gate.clone();
    middle(wire, move |request, next| {
        let gate = gate.clone();
        async move {
            if is_hello(&request) {
                gate.pass().await;
            }
            next.oneshot(request).await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn one_handshake_serves_however_many_calls_wait_for_it() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let gate = Gate::new();
    let http = sides.seal(holding_hellos(wire, &gate));
    // Services made from one layer share its sessions, as clones do.
    let mut calls = join_all((0..10).map(|_| call(&http)));
    begin(&mut calls).await;
    gate.open();
    assert!(calls.await.into_iter().all(|answer| answer.unwrap().1 == "hi"));
    assert_eq!(traffic.values(), (1, 10));
    call(&http).await.unwrap();
    assert_eq!(traffic.values(), (1, 11));
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_its_sessions() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let layer = tower_seal::http::SealLayer::new(sides.client.clone());
    for _ in 0..3 {
        call(&seal(&layer, wire.clone())).await.unwrap();
    }
    assert_eq!(traffic.values(), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_that_is_dropped_does_not_end_the_handshake_for_the_others() {
    for dropped in 0..3 {
        let sides = Sides::new();
        let gate = Gate::new();
        // Counted before it is held, so that a second one would be seen.
        let (wire, traffic) = Traffic::through(holding_hellos(sides.serve(echo()), &gate));
        let http = sides.seal(wire);
        let mut calls: Vec<Call> = (0..3).map(|_| call(&http)).collect();
        for call in &mut calls {
            begin(call).await;
        }
        drop(calls.remove(dropped));
        let mut rest = join_all(calls);
        begin(&mut rest).await;
        gate.open();
        assert!(rest.await.into_iter().all(|answer| answer.unwrap().1 == "hi"), "{dropped}");
        assert_eq!(traffic.values(), (1, 2), "{dropped}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_handshake_ends_with_the_last_call_that_waits_and_the_next_one_begins_anew() {
    let sides = Sides::new();
    let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let wire = middle(wire, move |request, next| {
        let began = began.clone();
        async move {
            let (alive, end) = oneshot::channel::<()>();
            if is_hello(&request) && began.send(end).is_ok() {
                std::future::pending::<()>().await;
                drop(alive);
            }
            next.oneshot(request).await
        }
    });
    let http = sides.seal(wire);
    let mut calls: Vec<Call> = (0..2).map(|_| call(&http)).collect();
    for call in &mut calls {
        begin(call).await;
    }
    let end = begun.recv().await.unwrap();
    drop(calls);
    assert!(end.await.is_err());
    // From here on hellos pass.
    drop(begun);
    call(&http).await.unwrap();
    assert_eq!(traffic.values(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_origin_has_a_session_of_its_own() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let http = sides.seal(wire);
    for (uri, hellos) in [
        ("http://a/", 1),
        ("http://A/other?x", 1),
        ("http://b/", 2),
        ("https://a/", 3),
        ("http://a:81/", 4),
        ("http://a/again", 4),
        ("http://b/again", 4),
    ] {
        ask(&http, post(uri, "")).await.unwrap();
        assert_eq!(traffic.hellos.value(), hellos, "{uri}");
    }
}

/// Trusts two nodes, and expects one of them.
struct Expecting {
    nodes: Pinned,
    expected: std::sync::Mutex<NodeId>,
}

impl Trust for Expecting {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        self.nodes.judge(candidate)
    }

    fn expects(&self, origin: Option<&str>) -> Option<NodeId> {
        assert_eq!(origin, Some("http://example.com"));
        Some(*self.expected.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn each_expected_node_has_a_session_of_its_own() {
    let sides = Sides::new();
    let other = Config::new(Identity::generate(), sides.clients.clone());
    let nodes = [sides.server.node_id(), other.node_id()];
    let trust = Arc::new(Expecting { nodes: Pinned::new(nodes), expected: nodes[0].into() });
    let servers = [sides.serve(echo()), serve(&tower_seal::http::UnsealLayer::new(other), echo())];
    let route = trust.clone();
    let wire = middle(servers[0].clone(), move |request, first| {
        let expects_first = *route.expected.lock().unwrap() == nodes[0];
        if expects_first { first.oneshot(request) } else { servers[1].clone().oneshot(request) }
    });
    let (wire, traffic) = Traffic::through(wire);
    let client = Config::new(Identity::generate(), trust.clone());
    sides.clients.insert(client.node_id());
    let http = seal(&tower_seal::http::SealLayer::new(client), wire);
    for (node, hellos) in [(0, 1), (1, 2), (0, 2), (1, 2)] {
        *trust.expected.lock().unwrap() = nodes[node];
        call(&http).await.unwrap();
        assert_eq!(traffic.hellos.value(), hellos);
    }
}

// ---- when it fails ----

fn plain(status: u16, content_type: &str, body: &'static str) -> Response<Body> {
    Response::builder().status(status).header(header::CONTENT_TYPE, content_type).body(full(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_reports_to_all_who_wait_and_the_next_call_tries_anew() {
    const BUSY: &str = r#"{"type":"error","code":"busy","message":"later"}"#;
    const REPLY: &str = r#"{"type":"key_exchange","version":1}"#;
    type Check = fn(&Error) -> bool;
    let failures: [(Option<Response<Body>>, Check); 10] = [
        (None, |error| matches!(error, Error::Transport(_))),
        (Some(plain(503, ERROR, BUSY)), |e| matches!(e, Error::Refused { code: Code::Busy, signed: false })),
        (Some(plain(200, ERROR, "{}")), |error| error.code() == Some(Code::Malformed)),
        (Some(plain(200, HANDSHAKE, REPLY)), |error| error.code() == Some(Code::Malformed)),
        (Some(plain(201, HANDSHAKE, REPLY)), |error| matches!(error, Error::Unsealed { status: 201 })),
        (Some(plain(200, "text/html", "<html>")), |error| matches!(error, Error::Unsealed { status: 200 })),
        (Some(plain(200, BINARY, "")), |error| matches!(error, Error::Unsealed { status: 200 })),
        (Some(plain(307, "text/plain", "")), |error| matches!(error, Error::Unsealed { status: 307 })),
        (Some(plain(400, "application/json", "{}")), |error| {
            matches!(error, Error::Unsealed { status: 400 })
        }),
        (Some(plain(404, "text/plain", "")), |error| matches!(error, Error::Unsealed { status: 404 })),
    ];
    for (failure, check) in failures {
        let sides = Sides::new();
        let gate = Gate::new();
        let said = format!("{:?}", failure.as_ref().map(|response| (response.status(), response.headers())));
        let failure = Arc::new(std::sync::Mutex::new(Some(failure)));
        let wire = middle(sides.serve(echo()), move |request, next| {
            let failure = failure.lock().unwrap().take();
            async move {
                match failure {
                    Some(Some(response)) => Ok(response),
                    Some(None) => Err(Failure::new("no connection")),
                    None => next.oneshot(request).await,
                }
            }
        });
        let (wire, traffic) = Traffic::through(holding_hellos(wire, &gate));
        let http = sides.seal(wire);
        let mut calls = join_all((0..3).map(|_| call(&http)));
        begin(&mut calls).await;
        gate.open();
        for answer in calls.await {
            let error = answer.unwrap_err();
            assert!(check(&error), "{said}: {error:?}");
        }
        assert_eq!(traffic.values(), (1, 0), "{said}");
        assert_eq!(call(&http).await.unwrap().1, "hi");
        assert_eq!(traffic.values(), (2, 1), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_without_an_answer_times_out_for_all_who_wait() {
    let mut sides = Sides::new();
    let mut limits = tower_seal::config::Limits::default();
    limits.handshake = 7 * SECOND;
    sides.client = sides.client.limits(limits);
    let gate = Gate::new();
    let (wire, traffic) = Traffic::through(holding_hellos(sides.serve(echo()), &gate));
    let http = sides.seal(wire);
    let began = tokio::time::Instant::now();
    for answer in join_all((0..3).map(|_| call(&http))).await {
        assert!(matches!(answer.unwrap_err(), Error::TimedOut { .. }));
    }
    assert_eq!(began.elapsed().as_secs(), 7);
    gate.open();
    call(&http).await.unwrap();
    assert_eq!(traffic.values(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_does_not_end_is_too_large() {
    let sides = Sides::new();
    let (tap, body) = channel();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let wire = middle(sides.serve(echo()), move |_, _| {
        let body = body.lock().unwrap().take().unwrap();
        async { Ok(Response::builder().header(header::CONTENT_TYPE, HANDSHAKE).body(body).unwrap()) }
    });
    let http = sides.seal(wire);
    let mut call = call(&http);
    begin(&mut call).await;
    tap.send(vec![b' '; 16 << 10]);
    begin(&mut call).await;
    tap.send(" ");
    assert_eq!(call.await.unwrap_err().code(), Some(Code::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_queued_behind_other_calls() {
    let sides = Sides::new();
    let gate = Gate::new();
    let slow = gate.clone();
    let app = app(move |request| {
        let slow = slow.clone();
        async move {
            if request.uri().path() == "/slow" {
                slow.pass().await;
            }
            Response::builder().status(StatusCode::ACCEPTED).body(empty()).unwrap()
        }
    });
    let http = sides.seal(sides.serve(app));
    let ask = |path: &str| {
        let (http, request) = (http.clone(), get(&format!("http://example.com{path}")));
        Box::pin(async move { ask(&http, request).await.unwrap().0 })
    };
    let mut slow = select_all((0..5).map(|_| ask("/slow")));
    begin(&mut slow).await;
    assert_eq!(ask("/fast").await, 202);
    begin(&mut slow).await;
    gate.open();
    assert_eq!(slow.await.0, 202);
}

#[tokio::test(start_paused = true)]
async fn a_new_session_that_is_lost_at_once_is_not_taken_up_again_by_those_who_waited_for_it() {
    let sides = Sides::new();
    let switch = Switch::new(sides.serve(echo()));
    let (wire, traffic) = Traffic::through(switch.wire());
    let gates = [Gate::new(), Gate::new()];
    let (restarted, hellos, passes) = (sides.serve(echo()), Count::default(), gates.clone());
    let wire = middle(wire, move |request, next| {
        let (restarted, switch, passes) = (restarted.clone(), switch.clone(), passes.clone());
        let number = if is_hello(&request) { Some(hellos.add()) } else { None };
        async move {
            if let Some(number) = number {
                passes[number.min(1)].pass().await;
            }
            let response = next.oneshot(request).await;
            if number == Some(0) {
                switch.to(restarted);
            }
            response
        }
    });
    let http = sides.seal(wire);
    let ask = || Box::pin(ask(&http, get("http://example.com/")));
    let mut calls = join_all([ask(), ask(), ask()]);
    begin(&mut calls).await;
    gates[0].open();
    begin(&mut calls).await;
    gates[1].open();
    assert!(calls.await.iter().all(Result::is_ok));
    assert_eq!(traffic.values(), (2, 6), "one more handshake, for all of them");
}

#[tokio::test(start_paused = true)]
async fn who_hears_first_of_a_failed_handshake_can_try_anew_at_once() {
    let sides = Sides::new();
    let gate = Gate::new();
    let (hellos, passes) = (Count::default(), gate.clone());
    let wire = middle(sides.serve(echo()), move |request, next| {
        let fails = is_hello(&request) && hellos.add() == 0;
        let passes = passes.clone();
        async move {
            passes.pass().await;
            if fails { Err(Failure::new("no connection")) } else { next.oneshot(request).await }
        }
    });
    let http = sides.seal(wire);
    let twice: Call = {
        let http = http.clone();
        Box::pin(async move {
            assert!(call(&http).await.is_err());
            call(&http).await
        })
    };
    let mut calls = join_all([twice, call(&http)]);
    begin(&mut calls).await;
    gate.open();
    let answers = calls.await;
    assert!(answers[0].is_ok() && answers[1].is_err(), "{answers:?}");
}
