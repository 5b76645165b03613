//! Connections that break before there is an answer: the same bytes go out once more, and are served at most once.

use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::advance;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    Error,
    error::{Code, Result},
    http::{NotSent, SealBody},
};

use crate::{
    retry::{Restarted, request},
    support::*,
};

/// What becomes of a sealed request on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Arrives,
    /// The connection breaks before it has arrived.
    Lost,
    /// It is served, and the connection breaks before the answer has come back.
    Served,
    /// It is held back for so long.
    Late(u32),
}

/// A middle that lets the sealed requests meet these fates, and keeps their bytes.
fn fates(next: Wire, fates: Vec<Fate>) -> (Wire, Arc<Mutex<Vec<Bytes>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let kept = sent.clone();
    let wire = middle(next, move |request, next| {
        let (kept, fates) = (kept.clone(), fates.clone());
        async move {
            if is_hello(&request) {
                return next.oneshot(request).await;
            }
            let (parts, body) = request.into_parts();
            let number = kept.lock().unwrap().len();
            kept.lock().unwrap().push(Bytes::new());
            let fate = fates.get(number).copied().unwrap_or(Fate::Arrives);
            if fate == Fate::Lost {
                return Err(Failure::new("broken before"));
            }
            let bytes = content(body).await?;
            kept.lock().unwrap()[number] = bytes.clone();
            if let Fate::Late(seconds) = fate {
                advance(seconds * SECOND).await;
            }
            let response = next.oneshot(Request::from_parts(parts, full(bytes))).await?;
            if fate == Fate::Served { Err(Failure::new("broken after")) } else { Ok(response) }
        }
    });
    (wire, sent)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_met_once_with_the_same_bytes_which_are_served_at_most_once() {
    use Fate::*;
    type Check = fn(&Result<Bytes>, &str) -> bool;
    let ok: Check = |answer, _| answer.as_ref().is_ok_and(|content| content == "content");
    let unknown: Check = |answer, _| matches!(answer, Err(Error::OutcomeUnknown));
    // As far as the caller can know, it may have been served.
    let broken: Check = |answer, method| match answer {
        Err(Error::Transport(_)) => method == "GET",
        Err(Error::OutcomeUnknown) => method == "POST",
        _ => false,
    };
    let expired: Check =
        |answer, _| matches!(answer, Err(Error::Refused { code: Code::Expired, signed: true }));
    for (fate, check, sent, served) in [
        (vec![Lost], ok, 2, 1),
        (vec![Served], unknown, 2, 1),
        (vec![Lost, Lost], broken, 2, 0),
        (vec![Lost, Served], broken, 2, 1),
        (vec![Served, Lost], broken, 2, 1),
        (vec![Served, Late(61)], unknown, 2, 1),
        (vec![Lost, Late(61)], unknown, 2, 0),
        (vec![Late(61)], expired, 1, 0),
        (vec![Late(59)], ok, 1, 1),
    ] {
        for method in ["GET", "POST"] {
            let world = Restarted::new(|layer| layer).await;
            let (wire, bytes) = fates(world.wire.clone(), fate.clone());
            let http = seal(&world.layer, wire);
            let answer = ask(&http, request(method, full("content"))).await.map(|(_, content)| content);
            assert!(check(&answer, method), "{method} {fate:?}: {answer:?}");
            assert_eq!(bytes.lock().unwrap().len(), sent, "{method} {fate:?}");
            assert_eq!(world.served.value() - 1, served, "{method} {fate:?}");
            let bytes: Vec<_> = bytes.lock().unwrap().iter().filter(|b| !b.is_empty()).cloned().collect();
            assert!(bytes.windows(2).all(|two| two[0] == two[1]), "{method} {fate:?}");

            assert_eq!(ask(&http, request(method, full("next"))).await.unwrap().1, "next");
            assert_eq!(world.traffic.hellos.value(), 1, "the session lives on");
        }
    }
}

/// How two attempts end, and whether it is certain then that nothing has been served.
#[tokio::test(start_paused = true)]
async fn what_was_never_sent_has_a_known_outcome() {
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused).into();
    let unsent = || NotSent::new("no route").into();
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset).into();
    type Break<'a> = &'a (dyn Fn() -> Box<dyn std::error::Error + Send + Sync> + Sync);
    let attempts: [([Break<'_>; 2], bool); 5] = [
        ([&refused, &refused], true),
        ([&unsent, &refused], true),
        ([&reset, &refused], false),
        ([&unsent, &reset], false),
        ([&reset, &reset], false),
    ];
    for (breaks, certain) in attempts {
        let world = Restarted::new(|layer| layer).await;
        let mut breaks = breaks.iter().map(|error| error()).collect::<Vec<_>>();
        breaks.reverse();
        let (breaks, wire) = (Arc::new(Mutex::new(breaks)), world.wire.clone());
        let http = world.layer.layer(service_fn(move |request: Request<SealBody<Body>>| {
            let broken = if is_hello(&request) { None } else { breaks.lock().unwrap().pop() };
            let answer = wire.clone().oneshot(request.map(boxed));
            async move {
                match broken {
                    Some(error) => Err(error),
                    None => Ok(answer.await?),
                }
            }
        }));
        let error = http.oneshot(request("POST", full("content"))).await.map(drop).unwrap_err();
        assert_eq!(matches!(error, Error::Transport(_)), certain, "{error:?}");
        assert_eq!(matches!(error, Error::OutcomeUnknown), !certain, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_request_is_never_sent_twice() {
    for fate in [Fate::Lost, Fate::Served] {
        let world = Restarted::new(|layer| layer.repeat_if(|_, _| true)).await;
        let (wire, bytes) = fates(world.wire.clone(), vec![fate]);
        let http = seal(&world.layer, wire);
        let (tap, body) = channel();
        tap.send("begun");
        let mut call = Box::pin(ask(&http, request("GET", body)));
        if fate == Fate::Served {
            begin(&mut call).await;
            tap.send("ended");
            drop(tap);
        }
        let error = call.await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert_eq!(bytes.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_socket_that_closes_before_the_answer_is_met_once_with_the_same_bytes() {
    use Fate::*;
    for (version, encoding) in EACH {
        for (fate, served) in [(Lost, true), (Served, false)] {
            let sides = Sides::speaking(encoding);
            let count = Count::default();
            let counted = count.clone();
            let app = app(move |_| {
                counted.add();
                async { Response::new(full("done")) }
            });
            // A server whose service fails closes the connection without an answer.
            let (wire, bytes) = fates(sides.serve(app), vec![Arrives, fate]);
            let address = listen(wire).await;
            let http = sides.seal(connection(version));
            let call = || ask(&http, post(&format!("http://{address}/"), ""));
            call().await.unwrap();
            let answer = call().await;
            match answer {
                Ok((_, content)) => assert!(served && content == "done"),
                Err(error) => {
                    assert!(!served && matches!(error, Error::OutcomeUnknown), "{fate:?} {error:?}")
                }
            }
            assert_eq!((bytes.lock().unwrap().len(), count.value()), (3, 2), "{version:?} {fate:?}");
            assert_eq!(call().await.unwrap().1, "done");
        }
    }
}
