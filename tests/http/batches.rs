//! Records that are ready together are signed together, on either side.

use std::collections::HashSet;

use futures_util::{FutureExt as _, future::join_all};
use http::Response;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tower_seal::config::{Encoding, Limits};

use crate::{
    costs::{assert_64_cost_one_signature_each_way, batches, verified},
    support::*,
};

/// Makes the session, and forgets what that took.
async fn warm(http: &Http) {
    ask(http, get("http://a/")).await.unwrap();
}

async fn ask_many(http: &Http, many: usize) {
    let calls =
        (0..many).map(|i| {
            let body = format!("body {i}");
            async move {
                assert_eq!(ask(http, post("http://a/", body.clone())).await.unwrap(), (200, body.into()))
            }
        });
    join_all(calls).await;
}

#[tokio::test]
async fn requests_and_responses_that_are_ready_together_cost_one_signature_each_way() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let http = sides.seal(sides.serve(echo()));
        warm(&http).await;
        let both = [&sides.client, &sides.server];
        assert_64_cost_one_signature_each_way(both, ask_many(&http, 64)).await;
    }
}

#[tokio::test]
async fn a_request_that_is_alone_is_signed_alone_and_at_once() {
    let sides = Sides::new();
    let http = sides.seal(sides.serve(echo()));
    for _ in 0..5 {
        warm(&http).await;
    }
    assert_eq!(batches(&sides.client), [5, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(batches(&sides.server), [5, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn sessions_of_one_identity_are_signed_together() {
    let sides = Sides::new();
    // Two layers, so two sessions, of one identity.
    let wire = sides.serve(echo());
    let (one, other) = (sides.seal(wire.clone()), sides.seal(wire));
    warm(&one).await;
    warm(&other).await;
    let seen = verified(&sides.server);
    tokio::join!(ask_many(&one, 3), ask_many(&other, 5));
    assert_eq!(batches(&sides.client), [2, 0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(verified(&sides.server) - seen, 1, "the sender's root holds in its other session, too");
}

#[tokio::test]
async fn those_that_are_dropped_leave_the_others_their_signature() {
    let sides = Sides::new();
    let http = sides.seal(sides.serve(echo()));
    warm(&http).await;
    let mut calls: Vec<_> = (0..8).map(|i| ask(&http, post("http://a/", format!("{i}"))).boxed()).collect();
    for call in &mut calls {
        begin(call).await;
    }
    // The first has joined first, and would be the first to sign.
    let rest = calls.split_off(5);
    drop(calls);
    for (i, answer) in (5..8).zip(join_all(rest).await) {
        assert_eq!(answer.unwrap().1, format!("{i}"));
    }
    assert_eq!(batches(&sides.client), [1, 0, 0, 1, 0, 0, 0, 0, 0]);
    ask_many(&http, 2).await;
}

#[tokio::test]
async fn a_limit_of_one_signs_each_alone() {
    let mut sides = Sides::new();
    let mut limits = Limits::default();
    limits.signed_together = 1;
    sides.client = sides.client.limits(limits);
    let http = sides.seal(sides.serve(echo()));
    warm(&http).await;
    ask_many(&http, 8).await;
    assert_eq!(batches(&sides.client), [9, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(verified(&sides.server), 9);
}

#[tokio::test]
async fn no_batch_is_above_the_limit() {
    let mut sides = Sides::new();
    let mut limits = Limits::default();
    limits.signed_together = 4;
    sides.client = sides.client.limits(limits);
    let http = sides.seal(sides.serve(echo()));
    warm(&http).await;
    ask_many(&http, 11).await;
    assert_eq!(batches(&sides.client), [1, 0, 3, 0, 0, 0, 0, 0, 0], "4, 4 and 3");
}

#[tokio::test]
async fn events_of_many_streams_are_signed_together() {
    let sides = Sides::new();
    let (streams, mut made) = mpsc::unbounded_channel();
    let app = app(move |_| {
        let streams = streams.clone();
        async move {
            let (events, body) = channel();
            streams.send(events).unwrap();
            Response::new(body)
        }
    });
    let http = sides.seal(sides.serve(app));
    let mut bodies = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..6 {
        bodies.push(tower::ServiceExt::oneshot(http.clone(), get("http://a/")).await.unwrap().into_body());
        senders.push(made.recv().await.unwrap());
    }
    let before = sides.server.telemetry().records_signed();
    for sender in &senders {
        sender.send("event");
    }
    let events = join_all(bodies.iter_mut().map(|body| body.frame())).await;
    for event in events {
        assert_eq!(event.unwrap().unwrap().into_data().unwrap(), "event");
    }
    assert_eq!(sides.server.telemetry().records_signed() - before, 6);
    assert_eq!(batches(&sides.server)[3], 1, "one batch of up to 8");
}

#[tokio::test]
async fn every_record_of_a_batch_has_a_place_of_its_own() {
    let sides = Sides::speaking(Encoding::Json);
    let (seen, mut records) = mpsc::unbounded_channel();
    let wire = middle(sides.serve(echo()), move |request, next| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let bytes = content(body).await.unwrap();
            let _ = seen.send(bytes.clone());
            tower::ServiceExt::oneshot(next, http::Request::from_parts(head, full(bytes))).await
        }
    });
    let http = sides.seal(wire);
    warm(&http).await;
    while records.try_recv().is_ok() {}
    ask_many(&http, 5).await;
    let mut places = HashSet::new();
    let mut signatures = HashSet::new();
    while let Ok(record) = records.try_recv() {
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["path"]["siblings"].as_array().unwrap().len(), 3);
        places.insert(record["path"]["index"].as_u64().unwrap());
        signatures.insert(record["signature"].as_str().unwrap().to_owned());
    }
    assert_eq!((places, signatures.len()), (HashSet::from([0, 1, 2, 3, 4]), 1));
}

/// Each in a task of its own, on two threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_threads_batches_form_on_either_side() {
    for in_flight in [16, 64] {
        let sides = Sides::new();
        let http = sides.seal(sides.serve(echo()));
        warm(&http).await;
        let calls = (0..in_flight).map(|call| {
            let http = http.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let body = format!("call {call}, round {round}");
                    let answer = ask(&http, post("http://a/", body.clone())).await.unwrap();
                    assert_eq!(answer, (200, body.into()));
                }
            })
        });
        for call in join_all(calls).await {
            call.unwrap();
        }
        for side in [&sides.client, &sides.server] {
            let signatures: u64 = batches(side).iter().sum();
            let records = side.telemetry().records_signed();
            assert_eq!(records, 1 + 20 * in_flight);
            assert!(signatures * 2 < records, "{signatures} signatures for {records} records");
        }
    }
}
