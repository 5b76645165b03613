//! Records that are ready together are signed together, on either side.

use std::collections::HashSet;

use futures_util::{FutureExt as _, future::join_all};
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use tower_seal::config::Encoding;

use crate::{
    costs::{assert_64_cost_one_signature_each_way, batches, verified},
    support::*,
};

/// Makes the session: one record each way.
async fn warm(rpc: &Rpc) {
    ask(rpc, request(0, "m")).await.unwrap();
}

async fn ask_many(rpc: &Rpc, many: usize) {
    let calls = (0..many).map(|i| async move {
        let method = format!("method {i}");
        assert_eq!(ask(rpc, request(i, &method)).await.unwrap().unwrap(), response(i, method));
    });
    join_all(calls).await;
}

#[tokio::test(start_paused = true)]
async fn messages_and_answers_that_are_ready_together_cost_one_signature_each_way() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let rpc = sides.seal(sides.serve(echo()));
        warm(&rpc).await;
        let both = [&sides.client, &sides.server];
        assert_64_cost_one_signature_each_way(both, ask_many(&rpc, 64)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_alone_is_signed_alone_and_at_once() {
    let sides = Sides::new();
    let rpc = sides.seal(sides.serve(echo()));
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        warm(&rpc).await;
    }
    assert_eq!(began.elapsed().as_nanos(), 0);
    for side in [&sides.client, &sides.server] {
        assert_eq!(batches(side), [5, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn notifications_are_signed_together_and_cost_the_far_side_no_signature() {
    let sides = Sides::new();
    let (app, served) = counted(echo());
    let rpc = sides.seal(sides.serve(app));
    warm(&rpc).await;
    for answer in join_all((0..6).map(|_| ask(&rpc, notification("m")))).await {
        assert_eq!(answer.unwrap(), None);
    }
    assert_eq!(served.value(), 7);
    assert_eq!(batches(&sides.client), [1, 0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(batches(&sides.server), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
async fn those_that_are_dropped_leave_the_others_their_signature() {
    let sides = Sides::new();
    let (app, served) = counted(echo());
    let rpc = sides.seal(sides.serve(app));
    warm(&rpc).await;
    let mut calls: Vec<_> = (0..8).map(|i| ask(&rpc, request(i, "m")).boxed()).collect();
    for call in &mut calls {
        begin(call).await;
    }
    // The first has joined first, and would be the first to sign.
    let rest = calls.split_off(5);
    drop(calls);
    for (i, answer) in (5..8).zip(join_all(rest).await) {
        assert_eq!(answer.unwrap().unwrap(), response(i, "m"));
    }
    assert_eq!(batches(&sides.client), [1, 0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(served.value(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_signs_each_alone() {
    let sides = Sides::new().client_limits(|limits| limits.signed_together = 1);
    let rpc = sides.seal(sides.serve(echo()));
    warm(&rpc).await;
    ask_many(&rpc, 8).await;
    assert_eq!(batches(&sides.client), [9, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(verified(&sides.server), 9);
}

#[tokio::test(start_paused = true)]
async fn no_batch_is_above_the_limit() {
    let sides = Sides::new().client_limits(|limits| limits.signed_together = 4);
    let rpc = sides.seal(sides.serve(echo()));
    warm(&rpc).await;
    ask_many(&rpc, 11).await;
    assert_eq!(batches(&sides.client), [1, 0, 3, 0, 0, 0, 0, 0, 0], "4, 4 and 3");
}

#[tokio::test(start_paused = true)]
async fn every_record_of_a_batch_has_a_place_of_its_own() {
    let sides = Sides::speaking(Encoding::Json);
    let (seen, mut records) = mpsc::unbounded_channel();
    let wire = middle(sides.serve(echo()), move |frame, next| {
        let seen = seen.clone();
        async move {
            seen.send(frame.clone()).unwrap();
            let answer = next.oneshot(frame).await?;
            seen.send(answer.clone().unwrap()).unwrap();
            Ok(answer)
        }
    });
    let rpc = sides.seal(wire);
    warm(&rpc).await;
    while records.try_recv().is_ok() {}
    ask_many(&rpc, 5).await;
    // Of each side: the places, and the signatures.
    let mut sent = [sides.client.node_id(), sides.server.node_id()]
        .map(|node| (node.to_string(), HashSet::new(), HashSet::new()));
    while let Ok(record) = records.try_recv() {
        let record = parse(&record);
        let (_, places, signatures) = sent.iter_mut().find(|(node, ..)| record["sender"] == **node).unwrap();
        assert_eq!(record["path"]["siblings"].as_array().unwrap().len(), 3);
        places.insert(record["path"]["index"].as_u64().unwrap());
        signatures.insert(record["signature"].as_str().unwrap().to_owned());
    }
    for (node, places, signatures) in sent {
        assert_eq!((places, signatures.len()), (HashSet::from([0, 1, 2, 3, 4]), 1), "{node}");
    }
}
