//! Hello and reply as frames, and the name that a hello may carry.

use bytes::Bytes;
use tower::{Layer as _, ServiceExt as _};
use tower_seal::{
    Config, Error, Identity,
    error::Code,
    rpc::{SealLayer, UnsealLayer},
    trust::Pinned,
};

use crate::{
    hand::{hello, unsigned},
    support::*,
};

#[tokio::test(start_paused = true)]
async fn targets_are_compared_by_a_side_that_knows_its_own_name() {
    let sides = Sides::new();
    for (own, sent, right) in [
        (None, None, true),
        (None, Some("tools"), true),
        (Some("tools"), Some("tools"), true),
        (Some("tools"), Some("Tools"), false),
        (Some("tools"), Some("other"), false),
        (Some("tools"), Some(""), false),
        (Some("tools"), None, false),
    ] {
        let mut unseal = UnsealLayer::new(sides.server.clone());
        let mut seal = SealLayer::new(sides.client.clone());
        if let Some(own) = own {
            unseal = unseal.target(own);
        }
        if let Some(sent) = sent {
            seal = seal.target(sent);
        }
        let (app, served) = counted(echo());
        let rpc = Rpc::new(seal.layer(unseal.layer(app)));
        match ask(&rpc, request(1, "m")).await {
            Ok(_) => assert!(right, "{own:?} {sent:?}"),
            Err(error) => {
                assert!(!right, "{own:?} {sent:?} {error:?}");
                assert!(matches!(error, Error::Refused { code: Code::PathMismatch, signed: false }));
            }
        }
        assert_eq!(served.value(), usize::from(right));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_sent_is_misuse() {
    let sides = Sides::new();
    for name in ["Töpfe", "a\nb", &"a".repeat(17_000)] {
        let rpc = Rpc::new(SealLayer::new(sides.client.clone()).target(name).layer(sides.serve(echo())));
        let error = ask(&rpc, request(1, "m")).await.unwrap_err();
        assert!(matches!(error, Error::Misuse { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_is_answered_once() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let (hello, _) = hello(&sides.client, None);
    assert!(is_hello(&send(&wire, hello.clone()).await.unwrap()));
    assert_eq!(unsigned(&send(&wire, hello).await.unwrap()), Code::Replayed);
}

#[tokio::test(start_paused = true)]
async fn hellos_are_known_by_their_type_wherever_it_stands() {
    let sides = Sides::new();
    let (hello, initiator) = hello(&sides.client, None);
    let text = String::from_utf8(hello.to_vec()).unwrap();
    let rest = text.strip_prefix("{\"type\":\"key_exchange\",").unwrap().strip_suffix('}').unwrap();
    let moved =
        format!("{{{rest},\"unknown\":{{\"type\":\"error\"}}, \"\\u0074ype\" : \"key_exchang\\u0065\"}}");
    let reply = send(&sides.serve(echo()), moved).await.unwrap();
    initiator.finish(&reply, crate::hand::now()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn hellos_of_strangers_and_for_others_are_refused() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let stranger = Config::new(Identity::generate(), Pinned::new([sides.server.node_id()]));
    let (message, _) = hello(&stranger, None);
    assert_eq!(unsigned(&send(&wire, message).await.unwrap()), Code::UntrustedPeer);

    let other = Identity::generate().node_id();
    let rpc = Rpc::new(SealLayer::new(sides.client.clone()).audience(other).layer(wire));
    let error = ask(&rpc, request(1, "m")).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::WrongAudience), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn hellos_beyond_the_rate_get_busy() {
    let sides = Sides::new().server_limits(|limits| limits.handshakes_per_second = 2);
    let wire = sides.serve(echo());
    for i in 0..4 {
        let (hello, _) = hello(&sides.client, None);
        let answer = send(&wire, hello).await.unwrap();
        if i < 2 {
            assert!(is_hello(&answer));
        } else {
            assert_eq!(unsigned(&answer), Code::Busy);
        }
    }
    assert_eq!(sides.server.telemetry().rejections(Code::Busy), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hello_above_16_kib_is_too_large() {
    let sides = Sides::new();
    let mut hello = b"{\"type\":\"key_exchange\"".to_vec();
    hello.resize(17_000, b' ');
    assert_eq!(unsigned(&send(&sides.serve(echo()), hello).await.unwrap()), Code::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn many_first_calls_share_one_handshake() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let gate = Gate::new();
    let held = gate.clone();
    let wire = middle(wire, move |frame, next| {
        let held = held.clone();
        async move {
            held.pass().await;
            next.oneshot(frame).await
        }
    });
    let rpc = sides.seal(wire);
    let calls = (0..20).map(|i| Box::pin(ask(&rpc, request(i, "m"))));
    let mut calls = futures_util::future::join_all(calls);
    begin(&mut calls).await;
    gate.open();
    assert!(calls.await.iter().all(Result::is_ok));
    assert_eq!(traffic.values(), (1, 20));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_takes_too_long_ends_with_an_error() {
    let sides = Sides::new();
    let wire = middle(sides.serve(echo()), |_, _| std::future::pending());
    let began = tokio::time::Instant::now();
    let error = ask(&sides.seal(wire), request(1, "m")).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert_eq!(began.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_reply_is_an_error_and_the_next_call_tries_again() {
    let answers: [(Option<&str>, Option<Code>); 6] = [
        (None, Some(Code::Truncated)),
        (Some("{\"type\":\"error\",\"code\":\"busy\",\"message\":\"\"}"), Some(Code::Busy)),
        (Some("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}"), Some(Code::Malformed)),
        (Some("{\"type\":\"key_exchange\",\"version\":1}"), Some(Code::Malformed)),
        (Some("\u{1}\0"), Some(Code::Malformed)),
        (Some(""), Some(Code::Malformed)),
    ];
    for (answer, code) in answers {
        let sides = Sides::new();
        let (wire, traffic) = Traffic::through(sides.serve(echo()));
        let first = Count::default();
        let wire = middle(wire, move |frame, next| {
            let forged = first.add() == 0;
            async move { if forged { Ok(answer.map(Bytes::from)) } else { next.oneshot(frame).await } }
        });
        let rpc = sides.seal(wire);
        assert_eq!(ask(&rpc, request(1, "m")).await.unwrap_err().code(), code, "{answer:?}");
        assert_eq!(traffic.values(), (0, 0), "no message went without a session");
        ask(&rpc, request(1, "m")).await.unwrap();
    }
}
