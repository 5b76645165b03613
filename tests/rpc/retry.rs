//! When a message is sent again, and when never (PROTOCOL sections 7 and 9).

use std::{
    error::Error as _,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tower::{BoxError, Layer as _, ServiceExt as _};
use tower_seal::{
    Config, Error, Identity,
    error::{Code, Result},
    rpc::{NotSent, SealLayer},
    trust::{AnyIdentity, Candidate, Trust, Verdict},
};

use crate::support::*;

/// A server that can be started anew, so that it has lost its sessions, and a client that has one.
struct Restarted {
    sides: Sides,
    rpc: Rpc,
    switch: Switch,
    traffic: Traffic,
    served: Count,
}

impl Restarted {
    async fn new(layer: impl FnOnce(SealLayer) -> SealLayer) -> Self {
        let sides = Sides::new();
        let layer = layer(SealLayer::new(sides.client.clone()));
        let switch = Switch::new(sides.serve(echo()));
        let (wire, traffic) = Traffic::through(switch.wire());
        let rpc = Rpc::new(layer.layer(wire));
        let world = Restarted { sides, rpc, switch, traffic, served: Count::default() };
        world.restart();
        ask(&world.rpc, request(1, "first")).await.unwrap();
        world
    }

    fn restart(&self) {
        let (app, served) = (echo(), self.served.clone());
        self.switch.to(self.sides.serve(App::new(tower::service_fn(move |message| {
            served.add();
            app.clone().oneshot(message)
        }))));
    }

    async fn ask(&self, message: Bytes) -> Result<Option<Bytes>> {
        ask(&self.rpc, message).await
    }

    /// Hellos, messages, and messages that the application got.
    fn counts(&self) -> (usize, usize, usize) {
        (self.traffic.hellos.value(), self.traffic.messages.value(), self.served.value())
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_leaves_the_outcome_unknown_and_the_next_call_works() {
    for message in [request(2, "m"), notification("m")] {
        let world = Restarted::new(|layer| layer).await;
        world.restart();
        let error = world.ask(message.clone()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown), "{error:?}");
        assert_eq!(world.counts(), (1, 2, 1));
        world.ask(message).await.unwrap();
        assert_eq!(world.counts(), (2, 3, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_harmless_is_sent_again_once_in_a_new_session() {
    let world = Restarted::new(|layer| {
        layer.repeat_if(|message| parse(message)["method"].as_str() == Some("tools/list"))
    })
    .await;
    world.restart();
    let answer = world.ask(request(2, "tools/list")).await.unwrap().unwrap();
    assert_eq!(parse(&answer)["id"], 2);
    assert_eq!(world.counts(), (2, 3, 2));
    world.restart();
    assert!(matches!(world.ask(request(2, "tools/call")).await, Err(Error::OutcomeUnknown)));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_again_ends_the_trying() {
    let sides = Sides::new();
    // Each message finds a server that has just been started.
    let switch = Switch::new(sides.serve(echo()));
    let (wire, traffic) = Traffic::through(switch.wire());
    let (server, own) = (sides.server.clone(), switch.clone());
    let wire = middle(wire, move |frame, next| {
        if !is_hello(&frame) {
            own.to(Wire::new(tower_seal::rpc::UnsealLayer::new(server.clone()).layer(echo())));
        }
        next.oneshot(frame)
    });
    let layer = SealLayer::new(sides.client.clone()).repeat_if(|_| true);
    let rpc = Rpc::new(layer.layer(wire));
    assert!(matches!(ask(&rpc, request(1, "m")).await, Err(Error::OutcomeUnknown)));
    assert_eq!(traffic.values(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_error_is_reported_and_costs_the_session_only() {
    let world = Restarted::new(|layer| layer.repeat_if(|_| true)).await;
    // A server with another identity has no such session, and no signature that counts.
    let stranger = Sides::new();
    world.switch.to(stranger.serve(echo()));
    let error = world.ask(request(2, "m")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::UnknownSession, signed: false }), "{error:?}");
    assert_eq!(world.traffic.values(), (1, 2), "nothing was sent again");
    world.restart();
    world.ask(request(2, "m")).await.unwrap();
    assert_eq!(world.traffic.values(), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn errors_signed_for_another_request_count_as_unsigned() {
    let world = Restarted::new(|layer| layer.repeat_if(|_| true)).await;
    let kept: Arc<Mutex<Option<Bytes>>> = Arc::default();
    let lost = world.sides.serve(echo());
    // The middle answers each message with the error about the one before.
    world.switch.to(middle(lost, move |frame, next| {
        let kept = kept.clone();
        async move {
            let error = next.oneshot(frame).await?;
            let before = std::mem::replace(&mut *kept.lock().unwrap(), error);
            Ok(Some(before.unwrap_or("{}".into())))
        }
    }));
    assert_eq!(world.ask(request(2, "m")).await.unwrap_err().code(), Some(Code::Malformed));
    let error = world.ask(request(3, "m")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::UnknownSession, signed: false }), "{error:?}");
    assert_eq!(world.counts(), (1, 3, 1));
}

// ---- a transport that breaks ----

/// A wire that fails before (`true`) or behind the server, as often as is said.
fn breaking(wire: Wire, before: bool, times: usize) -> Wire {
    let broken = Count::default();
    middle(wire, move |frame, next| {
        let broken = broken.clone();
        async move {
            if is_hello(&frame) {
                return next.oneshot(frame).await;
            }
            let breaks = broken.add() < times;
            if breaks && before {
                return Err(Failure("broken"));
            }
            let answer = next.oneshot(frame).await;
            if breaks { Err(Failure("broken")) } else { answer }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_go_once_more_over_a_transport_that_broke() {
    // before the server, times, message wants an answer, served, how it ends
    type End = fn(&Result<Option<Bytes>>) -> bool;
    let cases: [(bool, usize, bool, usize, End); 6] = [
        (true, 1, true, 1, |end| matches!(end, Ok(Some(_)))),
        // As far as the caller can know, it may have been served.
        (true, 2, true, 0, |end| matches!(end, Err(Error::OutcomeUnknown))),
        (false, 1, true, 1, |end| matches!(end, Err(Error::OutcomeUnknown))),
        (true, 1, false, 1, |end| matches!(end, Ok(None))),
        // It was taken, and there was no answer to lose.
        (false, 1, false, 1, |end| matches!(end, Ok(None))),
        (false, 2, false, 1, |end| matches!(end, Err(Error::OutcomeUnknown))),
    ];
    for (i, (before, times, asks, most, right)) in cases.into_iter().enumerate() {
        let sides = Sides::new();
        let (app, served) = counted(echo());
        let rpc = sides.seal(breaking(sides.serve(app), before, times));
        let end = ask(&rpc, if asks { request(1, "m") } else { notification("m") }).await;
        assert!(right(&end), "{i}: {end:?}");
        assert_eq!(served.value(), most, "{i}");
    }
}

/// How two attempts end, and whether it is certain then that nothing has been served.
#[tokio::test(start_paused = true)]
async fn only_what_was_never_sent_ends_with_an_error_of_the_transport() {
    type Break = fn() -> BoxError;
    let refused: Break = || io::Error::from(io::ErrorKind::ConnectionRefused).into();
    let unsent: Break = || NotSent::new("no route").into();
    let reset: Break = || io::Error::from(io::ErrorKind::ConnectionReset).into();
    for (breaks, certain) in [
        ([refused, refused], true),
        ([unsent, refused], true),
        ([reset, refused], false),
        ([unsent, reset], false),
        ([reset, reset], false),
    ] {
        for harmless in [false, true] {
            let sides = Sides::new();
            let (wire, attempts) = (sides.serve(echo()), Count::default());
            let wire = tower::service_fn(move |frame: Bytes| {
                let broken = (!is_hello(&frame)).then(|| breaks[attempts.add()]());
                let answer = wire.clone().oneshot(frame);
                async move { broken.map_or(Ok(answer.await?), Err) }
            });
            let layer = SealLayer::new(sides.client.clone()).repeat_if(move |_| harmless);
            let error = layer.layer(wire).oneshot(request(1, "m")).await.unwrap_err();
            assert_eq!(matches!(error, Error::Transport(_)), certain || harmless, "{error:?}");
            assert_eq!(matches!(error, Error::OutcomeUnknown), !certain && !harmless, "{error:?}");
        }
    }
}

/// The service below, of which it is known that it has not been called.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_worn_out_after_the_handshake_has_sent_nothing() {
    #[derive(Clone)]
    struct Once(Wire, Count);

    impl tower::Service<Bytes> for Once {
        type Response = Option<Bytes>;
        type Error = Failure;
        type Future = <Wire as tower::Service<Bytes>>::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            if self.1.value() > 0 { Poll::Ready(Err(Failure("worn out"))) } else { self.0.poll_ready(cx) }
        }

        fn call(&mut self, frame: Bytes) -> Self::Future {
            self.1.add();
            self.0.call(frame)
        }
    }

    let sides = Sides::new();
    let rpc = SealLayer::new(sides.client.clone()).layer(Once(sides.serve(echo()), Count::default()));
    let Error::Transport(error) = rpc.oneshot(request(1, "m")).await.unwrap_err() else { panic!() };
    assert!(error.is::<NotSent>());
    assert_eq!(error.source().unwrap().to_string(), "worn out");
}

#[tokio::test(start_paused = true)]
async fn a_second_copy_that_comes_after_the_deadline_leaves_the_outcome_unknown() {
    let sides = Sides::new();
    let (app, served) = counted(echo());
    let sendings = Count::default();
    let wire = middle(sides.serve(app), move |frame, next| {
        let nth = if is_hello(&frame) { 0 } else { sendings.add() };
        async move {
            match nth {
                1 => Err(Failure("broken")),
                2 => {
                    tokio::time::advance(61 * SECOND).await;
                    next.oneshot(frame).await
                }
                _ => next.oneshot(frame).await,
            }
        }
    });
    let rpc = sides.seal(wire);
    ask(&rpc, request(1, "m")).await.unwrap();
    assert!(matches!(ask(&rpc, request(2, "m")).await, Err(Error::OutcomeUnknown)));
    assert_eq!(served.value(), 1);
    assert_eq!(sides.server.telemetry().rejections(Code::Expired), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_copy_that_meets_a_lost_session_is_as_any_other() {
    for harmless in [false, true] {
        let world = Restarted::new(|layer| layer.repeat_if(move |_| harmless)).await;
        // The connection breaks since the server restarts.
        let (app, served) = counted(echo());
        let (restarted, switch) = (world.sides.serve(app), world.switch.clone());
        world.switch.to(middle(world.sides.serve(echo()), move |_, _| {
            switch.to(restarted.clone());
            async { Err(Failure("broken")) }
        }));
        let answer = world.ask(request(2, "m")).await;
        if harmless {
            assert_eq!(parse(&answer.unwrap().unwrap())["id"], 2);
        } else {
            assert!(matches!(answer, Err(Error::OutcomeUnknown)), "{answer:?}");
        }
        assert_eq!(served.value(), usize::from(harmless));
        // The first call; both copies of the second one, and a third sending in a new session.
        assert_eq!(world.traffic.values(), if harmless { (2, 4) } else { (1, 3) });
    }
}

/// Trusts everybody, but for one moment.
#[derive(Default)]
struct Fickle {
    asked: AtomicUsize,
    at: AtomicUsize,
}

impl Trust for Fickle {
    fn judge(&self, _: &Candidate<'_>) -> Verdict {
        let now = self.asked.load(Ordering::SeqCst) == self.at.load(Ordering::SeqCst);
        if now { Verdict::Refuse("not now") } else { Verdict::Accept }
    }

    fn revision(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) as u64
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_before_anything_is_sent_in_it_costs_no_repetition() {
    // The session is looked at when it is taken, and when a stream begins in it.
    for moment in [1, 2] {
        let mut sides = Sides::new();
        let trust = Arc::new(Fickle::default());
        sides.client = Config::new(Identity::generate(), trust.clone());
        sides.server = Config::new(Identity::generate(), AnyIdentity);
        let switch = Switch::new(sides.serve(echo()));
        let (wire, traffic) = Traffic::through(switch.wire());
        let rpc = Rpc::new(SealLayer::new(sides.client.clone()).repeat_if(|_| true).layer(wire));
        ask(&rpc, request(1, "m")).await.unwrap();
        // The new session is lost at once.
        let (restarted, own) = (sides.serve(echo()), switch.clone());
        switch.to(middle(sides.serve(echo()), move |frame, next| {
            let lost = !is_hello(&frame);
            if lost {
                own.to(restarted.clone());
            }
            if lost { restarted.clone().oneshot(frame) } else { next.oneshot(frame) }
        }));
        trust.at.store(trust.asked.load(Ordering::SeqCst) + moment, Ordering::SeqCst);
        let answer = ask(&rpc, request(2, "m")).await.unwrap().unwrap();
        assert_eq!(parse(&answer)["id"], 2, "{moment}");
        assert_eq!(traffic.values(), (3, 3), "{moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_does_not_come_in_time_ends_with_an_error() {
    let sides = Sides::new().client_limits(|limits| limits.response = 5 * SECOND);
    let (alive, mut gone) = tokio::sync::mpsc::channel::<()>(1);
    let app = app(move |_| {
        let alive = alive.clone();
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            None
        }
    });
    let rpc = sides.seal(sides.serve(app));
    let began = tokio::time::Instant::now();
    let error = ask(&rpc, request(1, "m")).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert_eq!(began.elapsed(), 5 * SECOND);
    drop(rpc);
    assert!(gone.recv().await.is_none(), "the server's call is gone");
}
