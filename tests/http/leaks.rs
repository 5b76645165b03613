//! What must not pass between inside and outside, and what must not happen while a request waits.

use std::time::Duration;

use http::{HeaderName, Response, header};
use http_body_util::BodyExt as _;
use hyper::ext::ReasonPhrase;
use tokio::time::advance;
use tower::ServiceExt as _;
use tower_seal::{
    Error,
    config::{Encoding, Limits},
    error::Code,
    http::{SealLayer, UnsealLayer},
    protocol::Final,
    telemetry::Metric,
};

use crate::{
    hand::{Hand, frames, media_type, message, sealed, send},
    support::*,
};

fn phrase(text: &'static str) -> ReasonPhrase {
    ReasonPhrase::try_from(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn the_inner_reason_phrase_is_not_read_outside() {
    let sides = Sides::new();
    let wire = sides
        .serve(app(|_| async { Response::builder().extension(phrase("Secret")).body(empty()).unwrap() }));
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let request = hand.begin(&message("GET", "/", ""), Final::Yes);
    let outer = wire.oneshot(sealed("/", media_type(Encoding::Binary), full(request.bytes))).await.unwrap();
    assert_eq!(outer.status(), 200);
    assert!(outer.extensions().get::<ReasonPhrase>().is_none());
}

#[tokio::test]
async fn the_outer_reason_phrase_does_not_reach_the_application() {
    let sides = Sides::new();
    let wire = middle(sides.serve(echo()), |request, next| async move {
        let mut response = next.oneshot(request).await?;
        response.extensions_mut().insert(phrase("Evil"));
        Ok(response)
    });
    let response = sides.seal(wire).oneshot(get("http://example.com/")).await.unwrap();
    assert!(response.extensions().get::<ReasonPhrase>().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_end_is_held_back_beyond_its_deadline_is_not_served() {
    let mut sides = Sides::new();
    let mut limits = Limits::default();
    // So that it is the deadline, of 60 s, which ends the wait, and not the patience of the server.
    limits.handshake = Duration::from_secs(1000);
    sides.server = sides.server.limits(limits);
    let served = Count::default();
    let counting = served.clone();
    let wire = sides.serve(app(move |_| {
        counting.add();
        async { Response::new(empty()) }
    }));
    for encoding in BOTH {
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        // A session that is not confirmed would have ended by then.
        assert_eq!(hand.ask("/", "").await.0, 200);
        let request = hand.begin(&message("GET", "/", ""), Final::Yes);
        // All of its bytes are there, but not the end of the body.
        let (tap, body) = channel();
        tap.send(request.bytes.clone());
        let answer = tokio::spawn({
            let wire = wire.clone();
            async move { send(&wire, sealed("/", media_type(encoding), body)).await }
        });
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        advance(61 * SECOND).await;
        drop(tap);
        assert_eq!(answer.await.unwrap().refusal(&request.response), (409, Code::Expired, true));
    }
    assert_eq!(served.value(), BOTH.len(), "only those that confirmed");
}

#[tokio::test]
async fn trust_that_is_withdrawn_while_the_end_is_held_back_counts() {
    let sides = Sides::new();
    let served = Count::default();
    let counting = served.clone();
    let wire = sides.serve(app(move |_| {
        counting.add();
        async { Response::new(empty()) }
    }));
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let request = hand.begin(&message("GET", "/", ""), Final::Yes);
    let (tap, body) = channel();
    tap.send(request.bytes.clone());
    let mut answer = Box::pin(send(&wire, sealed("/", media_type(Encoding::Binary), body)));
    begin(&mut answer).await;
    sides.clients.remove(sides.client.node_id());
    drop(tap);
    assert_eq!(answer.await.refusal(&request.response), (409, Code::UnknownSession, true));
    assert_eq!(served.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn forgeries_do_not_keep_a_session_alive() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    assert_eq!(hand.ask("/", "hi").await.0, 200);
    for _ in 0..2 {
        advance(500 * SECOND).await;
        let request = hand.begin(&message("GET", "/", ""), Final::Yes);
        let mut bytes = request.bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let forged = hand.post("/", full(bytes)).await;
        let code = forged.refusal(&request.response).1;
        assert!([Code::DecryptionFailed, Code::UnknownSession].contains(&code), "{code}");
    }
    let request = hand.begin(&message("GET", "/", ""), Final::Yes);
    let answer = hand.post("/", full(request.bytes.clone())).await;
    assert_eq!(answer.refusal(&request.response).1, Code::UnknownSession, "it rested for 1000 s");
}

#[tokio::test]
async fn a_closed_list_cannot_be_probed() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let stranger = tower_seal::Identity::generate().node_id();
    let operations = sides.server.telemetry().value(Metric::HandshakeOperations);
    let mut answers = Vec::new();
    for node in [sides.client.node_id(), stranger] {
        let hello = serde_json::json!({
            "type": "key_exchange", "version": 1, "public_key": "09".repeat(32), "node_id": node.to_string(),
            "suites": ["x25519-aes256gcm-sha256"], "signatures": "every", "signature": "00".repeat(64),
        });
        let answer = send(&wire, sealed("/", HANDSHAKE, full(hello.to_string()))).await;
        assert_eq!(answer.code(), (403, Code::UntrustedPeer));
        answers.push(answer.body);
    }
    assert_eq!(answers[0], answers[1]);
    // The stranger bought no public-key operation.
    assert_eq!(sides.server.telemetry().value(Metric::HandshakeOperations), operations + 1);
}

#[tokio::test]
async fn rejections_of_further_records_are_counted() {
    let sides = Sides::new();
    let events = app(|_| async { Response::new(boxed(paced(["one", "two", "three"]))) });
    let wire = middle(sides.serve(events), |request, next| async move {
        if is_hello(&request) {
            return next.oneshot(request).await;
        }
        let (parts, body) = next.oneshot(request).await?.into_parts();
        let records = frames(Encoding::Binary, &content(body).await?);
        let mut bytes = records.concat();
        *bytes.last_mut().unwrap() ^= 1;
        Ok(Response::from_parts(parts, full(bytes)))
    });
    let response = sides.seal(wire).oneshot(get("http://example.com/")).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(sides.client.telemetry().rejections(Code::DecryptionFailed), 1);
}

#[tokio::test]
async fn what_stripping_leaves_has_one_slash() {
    let sides = Sides::new();
    let layer = UnsealLayer::new(sides.server.clone()).stripped_prefix("/tools").unwrap();
    let wire = serve(&layer, echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let request = hand.begin(&message("GET", "/tools//evil", ""), Final::Yes);
    let answer = hand.post("//evil", full(request.bytes.clone())).await;
    assert_eq!(answer.refusal(&request.response).1, Code::PathMismatch);
}

#[tokio::test]
async fn fields_of_the_transport_are_not_copied_outside() {
    let sides = Sides::new();
    let names = [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::TRANSFER_ENCODING, header::HOST];
    for name in names.into_iter().chain([HeaderName::from_static("seal-session")]) {
        let layer = SealLayer::new(sides.client.clone()).copy_to_outside([name]);
        assert!(matches!(layer.unwrap_err(), Error::Misuse { .. }));
    }
}
