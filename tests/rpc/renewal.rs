//! Sessions that grow old.

use tower::{Layer as _, ServiceBuilder, ServiceExt as _};
use tower_seal::{Error, error::Code, rpc::SealLayer, telemetry::Metric};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_before_its_time_is_up_and_nobody_waits_for_it() {
    let sides = Sides::new().server_limits(|limits| limits.session = 1000 * SECOND);
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let gate = Gate::new();
    let held = gate.clone();
    let first = Count::default();
    let wire = middle(wire, move |frame, next| {
        let held = (is_hello(&frame) && first.add() > 0).then(|| held.clone());
        async move {
            if let Some(held) = held {
                held.pass().await;
            }
            next.oneshot(frame).await
        }
    });
    let rpc = sides.seal(wire);
    for _ in 0..8 {
        ask(&rpc, request(1, "m")).await.unwrap();
        tokio::time::advance(110 * SECOND).await;
    }
    assert_eq!(traffic.values(), (1, 8));
    tokio::time::advance(30 * SECOND).await;
    // Due; the old one serves while the new one is made, for this call and for others.
    for _ in 0..3 {
        ask(&rpc, request(1, "m")).await.unwrap();
    }
    assert_eq!(traffic.values(), (1, 11));
    gate.open();
    settle().await;
    assert_eq!(traffic.hellos.value(), 2);
    ask(&rpc, request(1, "m")).await.unwrap();
    tokio::time::advance(200 * SECOND).await;
    ask(&rpc, request(1, "m")).await.unwrap();
    assert_eq!(traffic.hellos.value(), 2, "the new one serves");
}

#[tokio::test(start_paused = true)]
async fn the_call_that_begins_a_renewal_keeps_its_place_under_a_limit_of_one_at_a_time() {
    let sides = Sides::new().server_limits(|limits| limits.session = 1000 * SECOND);
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let wire = middle(wire, move |frame, next| {
        let stuck = is_hello(&frame) && traffic.hellos.value() > 0;
        async move { if stuck { std::future::pending().await } else { next.oneshot(frame).await } }
    });
    let wire = ServiceBuilder::new().concurrency_limit(1).service(wire);
    let rpc = SealLayer::new(sides.client.clone()).layer(wire);
    for _ in 0..3 {
        rpc.clone().oneshot(request(1, "m")).await.unwrap();
        tokio::time::advance(302 * SECOND).await;
    }
    let began = tokio::time::Instant::now();
    rpc.oneshot(request(1, "m")).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 0, "the old session serves, and nobody waited for the handshake");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_rested_long_is_made_anew() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let rpc = sides.seal(wire);
    ask(&rpc, request(1, "m")).await.unwrap();
    tokio::time::advance(1000 * SECOND).await;
    ask(&rpc, request(1, "m")).await.unwrap();
    assert_eq!(traffic.values(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn notifications_alone_confirm_the_session_on_the_server_only() {
    // None of its records has been opened by the client, so it makes a new one before the far side could have
    // given it up.
    let sides = Sides::new();
    let (app, served) = counted(echo());
    let (wire, traffic) = Traffic::through(sides.serve(app));
    let rpc = sides.seal(wire);
    for i in 0..4 {
        assert_eq!(ask(&rpc, notification("m")).await.unwrap(), None);
        assert_eq!(served.value(), i + 1);
        tokio::time::advance(20 * SECOND).await;
    }
    assert_eq!(traffic.values(), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_first_answer_is_late_is_not_swept_and_serves_the_next_call() {
    let sides = Sides::new();
    // Later than a session may stay unconfirmed, and than several rounds of the sweeper.
    let slow = app(|message| async move {
        tokio::time::sleep(100 * SECOND).await;
        reply(&parse(&message.bytes))
    });
    let (wire, traffic) = Traffic::through(sides.serve(slow));
    let rpc = sides.seal(wire);
    for _ in 0..2 {
        assert_eq!(ask(&rpc, request(1, "m")).await.unwrap().unwrap(), response(1, "m"));
    }
    assert_eq!(traffic.values(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn keys_are_wiped_when_sessions_are_over_without_another_message() {
    let sides = Sides::new().server_limits(|limits| limits.idle = 100 * SECOND);
    let rpc = sides.seal(sides.serve(echo()));
    ask(&rpc, request(1, "m")).await.unwrap();
    let live = || sides.server.telemetry().value(Metric::SessionsLive);
    tokio::time::sleep(90 * SECOND).await;
    assert_eq!(live(), 1);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(live(), 0);
    let kept = || sides.client.telemetry().value(Metric::SessionsLive);
    assert_eq!(kept(), 1, "a client's idle time is its own, a quarter of an hour");
    tokio::time::sleep(900 * SECOND).await;
    assert_eq!(kept(), 0);
}

#[test]
fn keys_are_wiped_though_the_runtime_of_the_first_session_is_gone() {
    let sides = Sides::new().server_limits(|limits| limits.idle = 100 * SECOND);
    let wire = sides.serve(echo());
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for _ in 0..2 {
        runtime().block_on(async {
            ask(&sides.seal(wire.clone()), request(1, "m")).await.unwrap();
        });
    }
    runtime().block_on(async {
        ask(&sides.seal(wire.clone()), request(1, "m")).await.unwrap();
        tokio::time::sleep(200 * SECOND).await;
    });
    assert_eq!(sides.server.telemetry().value(Metric::SessionsLive), 0);
}

/// The responder counts from its reply and the initiator from when that came: one that was held back makes every
/// request of its session late there.
#[tokio::test(start_paused = true)]
async fn a_reply_that_is_held_back_beyond_the_timeout_of_requests_costs_one_call() {
    let sides = Sides::new().client_limits(|limits| limits.request = 5 * SECOND);
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let hellos = Count::default();
    let wire = middle(wire, move |frame, next| {
        let is_held = is_hello(&frame) && hellos.add() == 0;
        async move {
            let answer = next.oneshot(frame).await;
            if is_held {
                tokio::time::advance(6 * SECOND).await;
            }
            answer
        }
    });
    let rpc = sides.seal(wire);
    let error = ask(&rpc, request(1, "m")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Expired, signed: true }), "{error:?}");
    ask(&rpc, request(1, "m")).await.unwrap();
    assert_eq!(traffic.values(), (2, 2));
}
