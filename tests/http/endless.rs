//! Floods of what comes slowly, without end, or in heads as long as they may be.

use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use tower_seal::{
    config::{Encoding, Signatures},
    error::Code,
    protocol::{Awaiting, Final},
    telemetry::Metric,
    trust::AnyIdentity,
};

use crate::{
    floods::{Flood, MANY, hello},
    hand::{Hand, message, now, sealed, send},
    support::*,
};

#[tokio::test(start_paused = true)]
async fn hellos_and_first_records_that_trickle_in_are_over_after_the_limit() {
    let flood = Flood::open(|limits| limits.handshake = 8 * SECOND).await;
    let peer = flood.peer();
    let hand = Hand::new(&peer, Encoding::Binary, &flood.wire).await;
    assert_eq!(hand.ask("/", "confirmed").await.0, 200);
    let operations = flood.value(Metric::HandshakeOperations);
    let slow: Vec<_> = (0..MANY)
        .map(|number| {
            let (wire, hand) = (flood.wire.clone(), hand.clone());
            let bytes = match number % 2 {
                0 => hello(&peer),
                _ => hand.begin(&message("POST", "/", "hi"), Final::Yes).bytes,
            };
            let (tap, body) = channel();
            tokio::spawn(async move {
                for at in 0..bytes.len() {
                    tap.send(bytes.slice(at..=at));
                    tokio::select! {
                        () = tap.dropped() => return,
                        () = tokio::time::sleep(SECOND) => {}
                    }
                }
            });
            tokio::spawn(async move {
                match number % 2 {
                    0 => send(&wire, sealed("/", HANDSHAKE, body)).await.code(),
                    _ => hand.post("/", body).await.code(),
                }
            })
        })
        .collect();
    for _ in 0..7 {
        flood.serves().await;
        tokio::time::sleep(SECOND).await;
    }
    assert!(slow.iter().all(|slow| !slow.is_finished()));
    tokio::time::sleep(2 * SECOND).await;
    for slow in slow {
        assert!(slow.is_finished(), "it is over");
        assert_eq!(slow.await.unwrap(), (400, Code::Timeout));
    }
    assert_eq!(flood.refused(Code::Timeout), MANY);
    assert_eq!(flood.value(Metric::HandshakeOperations), operations);
    flood.serves().await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_rest_are_over_after_the_limit() {
    let flood = Flood::open(|limits| limits.stall = 70 * SECOND).await;
    let hand = Hand::new(&flood.peer(), Encoding::Binary, &flood.wire).await;
    let resting: Vec<_> = (0..MANY)
        .map(|_| {
            let (hand, (tap, body)) = (hand.clone(), channel());
            tokio::spawn(async move {
                let request = hand.begin(&message("POST", "/", "begun"), Final::No);
                tap.send(request.bytes);
                let answer = hand.post("/", body).await.refusal(&request.response);
                drop(tap);
                answer
            })
        })
        .collect();
    for _ in 0..6 {
        tokio::time::sleep(10 * SECOND).await;
        flood.serves().await;
    }
    tokio::time::sleep(11 * SECOND).await;
    for resting in resting {
        assert!(resting.is_finished(), "it is over");
        assert_eq!(resting.await.unwrap(), (400, Code::Timeout, true));
    }
    assert_eq!(flood.refused(Code::Timeout), MANY);
}

/// A request body that always has another record at hand, each with this content; how many were taken.
fn endless(hand: &Hand, content: &'static [u8], most: usize) -> (Body, Awaiting, Count) {
    let request = hand.begin(&message("POST", "/endless", ""), Final::No);
    let (taken, mut sealer) = (Count::default(), request.rest.unwrap());
    let counted = taken.clone();
    let records = std::iter::once(request.bytes).chain((0..most).map(move |_| {
        counted.add();
        sealer.seal(content, Final::No, now()).unwrap()
    }));
    let records = records.map(|record| Ok::<_, Failure>(http_body::Frame::data(record)));
    (StreamBody::new(futures_util::stream::iter(records)).boxed(), request.response, taken)
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_tiny_records_ends_at_the_limit_of_its_content() {
    let flood = Flood::open(|limits| limits.body = 1000).await;
    let hand = Hand::new(&flood.peer(), Encoding::Binary, &flood.wire).await;
    let (body, awaiting, taken) = endless(&hand, b"x", usize::MAX);
    assert_eq!(hand.post("/endless", body).await.refusal(&awaiting), (413, Code::TooLarge, true));
    assert_eq!(taken.value(), 1001, "and not one more");
    assert_eq!(flood.refused(Code::TooLarge), 1);
    flood.serves().await;
}

/// Others have their turn though the body always has something at hand, and nothing in it ever gets to the application.
#[tokio::test(start_paused = true)]
async fn a_stream_of_empty_records_does_not_keep_the_executor_to_itself() {
    const MOST: usize = 20_000;
    let flood = Flood::open(|_| ()).await;
    let peer = flood.peer().signatures(Signatures::Handshake);
    let hand = Hand::new(&peer, Encoding::Binary, &flood.wire).await;
    let (body, _, taken) = endless(&hand, b"", MOST);
    let attack = tokio::spawn(async move { hand.post("/endless", body).await.status });
    // As a task like the other one: the scheduler prefers those to the test itself.
    let honest = tokio::spawn(async move {
        while taken.value() == 0 {
            tokio::task::yield_now().await;
        }
        flood.serves().await;
        assert!(taken.value() < MOST, "the honest client was served last");
    });
    honest.await.unwrap();
    attack.abort();
}

#[tokio::test(start_paused = true)]
async fn the_longest_heads_are_taken_or_refused_and_others_served() {
    let app = app(|request| async move {
        let fields = request.headers().len();
        let _ = content(request.into_body()).await;
        Response::builder().header("x-fields", fields).body(full("honest")).unwrap()
    });
    let flood = Flood::over(app, Some(std::sync::Arc::new(AnyIdentity)), |_| ()).await;
    let hand = Hand::new(&flood.peer(), Encoding::Binary, &flood.wire).await;
    let head = |fields: usize, value: usize| {
        let mut head = bhttp::Message::request(
            b"GET".to_vec(),
            b"http".to_vec(),
            b"example.com".to_vec(),
            b"/".to_vec(),
        );
        for field in 0..fields {
            head.put_header(format!("x{field:x}"), vec![b'v'; value]);
        }
        crate::hand::write(&head)
    };
    for (number, (message, is_taken)) in
        [(head(1000, 0), true), (head(60, 1000), true), (head(70, 1000), false), (head(1100, 0), false)]
            .iter()
            .cycle()
            .take(20)
            .enumerate()
    {
        let request = hand.begin(message, Final::Yes);
        let answer = hand.post("/", full(request.bytes)).await;
        match is_taken {
            true => assert_eq!(hand.open(&answer, &request.response).0, 200),
            false => assert_eq!(answer.refusal(&request.response), (413, Code::TooLarge, true)),
        }
        if number.is_multiple_of(5) {
            flood.serves().await;
        }
    }
    assert_eq!(flood.refused(Code::TooLarge), 10);
}
