//! How long each side waits, by a clock that the tests turn.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use tokio::{sync::mpsc, time::Instant};
use tower::ServiceExt as _;
use tower_seal::{
    Error,
    config::{Encoding, Limits},
    error::Code,
    protocol::Final,
};

use crate::{
    hand::{Hand, frames, media_type, message, sealed, send},
    support::*,
};

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

// ---- deadlines ----

#[tokio::test(start_paused = true)]
async fn every_request_bears_its_deadline_from_the_configured_timeout() {
    for encoding in BOTH {
        let mut sides = Sides::speaking(encoding);
        sides.client = sides.client.limits(limits(|limits| limits.request = Duration::from_millis(12_345)));
        let (outside, mut outer) = mpsc::unbounded_channel();
        let wire = middle(sides.serve(echo()), move |request, next| {
            let outside = outside.clone();
            async move {
                let hello = is_hello(&request);
                let (parts, body) = request.into_parts();
                let bytes = content(body).await?;
                if !hello {
                    outside.send(bytes.clone()).unwrap();
                }
                next.oneshot(Request::from_parts(parts, full(bytes))).await
            }
        });
        let http = sides.seal(wire);
        for after in [0, 1000] {
            tokio::time::advance(Duration::from_millis(after)).await;
            ask(&http, post("http://example.com/", "hi")).await.unwrap();
            let bytes = outer.recv().await.unwrap();
            let deadline = match encoding {
                // Behind length, kind, flags, session, stream and salt (PROTOCOL section 4.2).
                Encoding::Binary => u64::from_be_bytes(bytes[4 + 2 + 40..][..8].try_into().unwrap()),
                Encoding::Json => {
                    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                    json["deadline"].as_u64().unwrap()
                }
            };
            assert_eq!(deadline, 12_345 + after, "{encoding:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_held_back_beyond_its_deadline_is_not_served() {
    for (seconds, held, served) in [(60, 59, true), (60, 61, false), (5, 4, true), (5, 6, false)] {
        let mut sides = Sides::new();
        sides.client = sides.client.limits(limits(|limits| limits.request = seconds * SECOND));
        let count = Count::default();
        let counted = count.clone();
        let app = app(move |_| {
            counted.add();
            async { Response::new(empty()) }
        });
        let holding = Gate::new();
        let hold = holding.clone();
        let wire = middle(sides.serve(app), move |request, next| {
            let hold = hold.clone();
            async move {
                if hold.is_open() {
                    tokio::time::advance(held * SECOND).await;
                }
                next.oneshot(request).await
            }
        });
        let http = sides.seal(wire);
        // So that the session is confirmed, and lasts.
        ask(&http, post("http://example.com/", "")).await.unwrap();
        holding.open();
        let answer = ask(&http, post("http://example.com/", "")).await;
        match answer {
            Ok(_) => assert!(served),
            Err(Error::Refused { code: Code::Expired, signed: true }) => assert!(!served),
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(count.value(), 1 + usize::from(served), "{seconds} {held}");
        assert_eq!(sides.server.telemetry().rejections(Code::Expired), u64::from(!served));
    }
}

/// The responder counts from its reply and the initiator from when that came: one that was held back makes every
/// request of its session late there.
#[tokio::test(start_paused = true)]
async fn a_reply_that_is_held_back_beyond_the_timeout_of_requests_costs_one_call() {
    let mut sides = Sides::new();
    sides.client = sides.client.limits(limits(|limits| limits.request = 5 * SECOND));
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let hellos = Count::default();
    let wire = middle(wire, move |request, next| {
        let is_held = is_hello(&request) && hellos.add() == 0;
        async move {
            let response = next.oneshot(request).await;
            if is_held {
                tokio::time::advance(6 * SECOND).await;
            }
            response
        }
    });
    let http = sides.seal(wire);
    let error = ask(&http, post("http://example.com/", "early")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Expired, signed: true }), "{error:?}");
    assert_eq!(ask(&http, post("http://example.com/", "early")).await.unwrap().1, "early");
    assert_eq!(traffic.values(), (2, 2));
}

// ---- what comes slowly ----

#[tokio::test(start_paused = true)]
async fn a_first_record_that_does_not_come_in_time_is_timeout() {
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.handshake = 8 * SECOND));
    let wire = sides.serve(echo());
    for encoding in BOTH {
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        let request = hand.begin(&message("POST", "/", "hi"), Final::Yes);
        let most = request.bytes.len() - 1;
        for sent in [0, 1, most] {
            let (tap, body) = channel();
            tap.send(request.bytes.slice(..sent));
            let began = Instant::now();
            let answer = hand.post("/", body).await;
            assert_eq!(answer.code(), (400, Code::Timeout), "{encoding:?} {sent}");
            assert_eq!(began.elapsed().as_secs(), 8);
            tap.dropped().await;
        }
        // A body that does not end after FINAL, either. This one could be parsed.
        let (tap, body) = channel();
        tap.send(request.bytes.clone());
        let began = Instant::now();
        let answer = hand.post("/", body).await;
        assert_eq!(answer.refusal(&request.response), (400, Code::Timeout, true));
        assert_eq!(began.elapsed().as_secs(), 8);
        // Nothing has been claimed.
        let answer = hand.post("/", full(request.bytes)).await;
        assert_eq!(hand.open(&answer, &request.response), (200, b"hi".to_vec()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_end_is_held_back_beyond_its_deadline_is_not_served() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    for (held, served) in [(4, true), (6, false)] {
        let message = message("POST", "/", "hi");
        let now = crate::hand::now();
        let request = hand
            .session
            .request(&message[..], Final::Yes, 5 * SECOND, true, &mut crate::hand::rng(), now)
            .unwrap();
        let (tap, body) = channel();
        tap.send(request.bytes);
        tokio::spawn(async move {
            tokio::time::sleep(held * SECOND).await;
            drop(tap);
        });
        let answer = hand.post("/", body).await;
        if served {
            assert_eq!(hand.open(&answer, &request.response).1, b"hi");
        } else {
            assert_eq!(answer.refusal(&request.response), (409, Code::Expired, true));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_in_do_not_stretch_the_time_for_the_first_record() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let bytes = hand.begin(&message("POST", "/", "hi"), Final::Yes).bytes;
    let (tap, body) = channel();
    let trickle = tokio::spawn(async move {
        for i in 0..bytes.len() {
            tap.send(bytes.slice(i..=i));
            tokio::select! {
                () = tokio::time::sleep(SECOND * 3 / 2) => {}
                () = tap.dropped() => return i,
            }
        }
        bytes.len()
    });
    assert_eq!(hand.post("/", body).await.code(), (400, Code::Timeout));
    assert_eq!(trickle.await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_does_not_come_in_time_is_timeout() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    for sent in ["", "{", "{\"type\":\"key_exchange\""] {
        let (tap, body) = channel();
        tap.send(sent);
        let began = Instant::now();
        assert_eq!(send(&wire, sealed("/", HANDSHAKE, body)).await.code(), (400, Code::Timeout));
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_rests_too_long_ends_with_an_error() {
    for encoding in BOTH {
        let mut sides = Sides::new();
        sides.server = sides.server.limits(limits(|limits| limits.stall = 70 * SECOND));
        let (seen, mut ends) = mpsc::unbounded_channel();
        let app = app(move |request| {
            let seen = seen.clone();
            async move {
                seen.send(reason(content(request.into_body()).await)).unwrap();
                Response::new(full("all is well"))
            }
        });
        let wire = sides.serve(app);
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        // Within a record, and between two.
        for cut in [10, 0] {
            let mut request = hand.begin(&message("POST", "/", "one"), Final::No);
            let second =
                request.rest.as_mut().unwrap().seal(&b"two"[..], Final::Yes, crate::hand::now()).unwrap();
            let (tap, body) = channel();
            tap.send(request.bytes);
            tap.send(second.slice(..cut));
            let began = Instant::now();
            let answer = hand.post("/", body).await;
            assert_eq!(answer.refusal(&request.response), (400, Code::Timeout, true), "{encoding:?} {cut}");
            assert_eq!(began.elapsed().as_secs(), 70);
            assert!(matches!(ends.recv().await.unwrap(), Error::TimedOut { .. }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_body_may_rest_between_records_and_not_within_one() {
    for encoding in BOTH {
        let mut sides = Sides::speaking(encoding);
        sides.client = sides.client.limits(limits(|limits| limits.stall = 70 * SECOND));
        let app = app(|_| async { Response::new(boxed(paced(["one", "two", "three"]))) });
        let (resting, mut rests) = mpsc::unbounded_channel();
        let wire = middle(sides.serve(app), move |request, next| {
            let resting = resting.clone();
            async move {
                let hello = is_hello(&request);
                let response = next.oneshot(request).await?;
                if hello {
                    return Ok(response);
                }
                let (parts, body) = response.into_parts();
                let records = frames(encoding, &content(body).await?);
                assert_eq!(parts.headers["content-type"], media_type(encoding));
                let (tap, body) = channel();
                tap.send(records[0].clone());
                resting.send((tap, records)).unwrap();
                Ok(Response::from_parts(parts, body))
            }
        });
        let response = sides.seal(wire).oneshot(get("http://example.com/")).await.unwrap();
        let mut body = response.into_body();
        let (tap, records) = rests.recv().await.unwrap();
        assert_eq!(piece(&mut body).await.unwrap().unwrap(), "one");
        // An event stream may be silent for hours.
        assert!(tokio::time::timeout(10_000 * SECOND, piece(&mut body)).await.is_err());
        tap.send(records[1].clone());
        assert_eq!(piece(&mut body).await.unwrap().unwrap(), "two");
        tap.send(records[2].slice(..20));
        let began = Instant::now();
        assert!(matches!(reason(piece(&mut body).await), Error::TimedOut { .. }), "{encoding:?}");
        assert_eq!(began.elapsed().as_secs(), 70);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_body_that_stays_open_after_final_ends_with_an_error() {
    let mut sides = Sides::new();
    sides.client = sides.client.limits(limits(|limits| limits.stall = 70 * SECOND));
    let (keep, mut kept) = mpsc::unbounded_channel();
    let wire = middle(sides.serve(echo()), move |request, next| {
        let keep = keep.clone();
        async move {
            if is_hello(&request) {
                return next.oneshot(request).await;
            }
            let (parts, body) = next.oneshot(request).await?.into_parts();
            let (tap, open) = channel();
            tap.send(content(body).await?);
            keep.send(tap).unwrap();
            Ok(Response::from_parts(parts, open))
        }
    });
    let response = sides.seal(wire).oneshot(post("http://example.com/", "hi")).await.unwrap();
    let mut body = response.into_body();
    let tap = kept.recv().await.unwrap();
    assert_eq!(piece(&mut body).await.unwrap().unwrap(), "hi");
    assert!(matches!(reason(piece(&mut body).await), Error::TimedOut { .. }));
    drop(tap);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_does_not_begin_in_time_ends_with_an_error() {
    for seconds in [600, 5] {
        let mut sides = Sides::new();
        if seconds != 600 {
            sides.client = sides.client.limits(limits(|limits| limits.response = seconds * SECOND));
        }
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let app = app(move |_| {
            let alive = alive.clone();
            async move {
                std::future::pending::<()>().await;
                drop(alive);
                Response::new(empty())
            }
        });
        let began = Instant::now();
        let error = ask(&sides.seal(sides.serve(app)), post("http://example.com/", "")).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
        assert_eq!(began.elapsed().as_secs(), u64::from(seconds));
        assert!(gone.recv().await.is_none(), "the server's call is gone");
    }
}

// ---- sessions ----

#[tokio::test(start_paused = true)]
async fn a_session_whose_first_answer_is_late_is_not_swept_and_serves_the_next_call() {
    let sides = Sides::new();
    // Later than a session may stay unconfirmed, and than several rounds of the sweeper.
    let slow = app(|request| async move {
        tokio::time::sleep(100 * SECOND).await;
        Response::new(request.into_body())
    });
    let (wire, traffic) = Traffic::through(sides.serve(slow));
    let http = sides.seal(wire);
    for _ in 0..2 {
        assert_eq!(ask(&http, post("http://example.com/", "hi")).await.unwrap(), (200, "hi".into()));
    }
    assert_eq!(traffic.values(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_swept_while_a_response_rests_and_its_next_record_makes_it_serve_again() {
    let sides = Sides::new();
    let (tap, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let app = app(move |_| {
        let body = body.lock().unwrap().take().unwrap_or_else(empty);
        async { Response::new(body) }
    });
    let (wire, traffic) = Traffic::through(sides.serve(app));
    let http = sides.seal(wire);
    let mut events = http.clone().oneshot(get("http://example.com/")).await.unwrap().into_body();
    // Longer than a session may rest on either side, and shorter than it lasts.
    tokio::time::sleep(1200 * SECOND).await;
    tap.send("event");
    assert_eq!(piece(&mut events).await.unwrap().unwrap(), "event");
    assert_eq!(ask(&http, post("http://example.com/", "")).await.unwrap().0, 200);
    assert_eq!(traffic.values(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn keys_are_wiped_when_sessions_are_over_without_another_request() {
    use tower_seal::telemetry::Metric;

    // All of them are sweepers: nothing else here has a task.
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.idle = 100 * SECOND));
    let http = sides.seal(sides.serve(echo()));
    ask(&http, post("http://example.com/", "")).await.unwrap();
    let live = || sides.server.telemetry().value(Metric::SessionsLive);
    let kept = || sides.client.telemetry().value(Metric::SessionsLive);
    assert_eq!((live(), kept(), tasks()), (1, 1, 2));
    tokio::time::sleep(90 * SECOND).await;
    assert_eq!((live(), kept(), tasks()), (1, 1, 2));
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!((live(), tasks()), (0, 1));
    assert_eq!(kept(), 1, "a client's idle time is its own, a quarter of an hour");
    tokio::time::sleep(900 * SECOND).await;
    assert_eq!((kept(), tasks()), (0, 0), "the sweepers end");
    ask(&http, post("http://example.com/", "")).await.unwrap();
    assert_eq!((live(), kept(), tasks()), (1, 1, 2), "and begin again");
    tokio::time::sleep(1000 * SECOND).await;
    assert_eq!((live(), kept(), tasks()), (0, 0, 0));
    // One that nobody confirmed, after a minute.
    let hand = Hand::new(&sides.client, Encoding::Binary, &sides.serve(echo())).await;
    assert_eq!((live(), tasks()), (1, 1));
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!((live(), tasks()), (0, 0));
    drop(hand);
}
