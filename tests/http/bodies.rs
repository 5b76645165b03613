//! Content of any size in both directions, in as many pieces as it came.

use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_seal::{
    Config,
    config::{Encoding, Limits, Padding},
    error::Code,
    telemetry::Metric,
};

use crate::support::*;

/// Passes on each piece as it comes.
fn pass_through() -> Wire {
    app(|request| async move { Response::new(request.into_body()) })
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn content_of_any_size_goes_both_ways_over_each_wire() {
    const PIECE: usize = 256 << 10;
    for (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let http = sides.seal(connection(version));
        // Unoptimised ciphers are slow.
        let large =
            if (version == Version::Http2) == (encoding == Encoding::Json) { 3 * MIB } else { 2 * PIECE };
        for (app, lengths) in
            [(echo(), &[0, 1, PIECE - 1, PIECE, PIECE + 1][..]), (pass_through(), &[0, 1, PIECE, large + 5])]
        {
            let address = listen(sides.serve(app)).await;
            for &length in lengths {
                let content = pattern(length);
                let request = post(&format!("http://{address}/"), content.clone());
                let (status, got) = ask(&http, request).await.unwrap();
                assert!(status == 200 && got == content, "{version:?} {encoding:?} {length} {}", got.len());
            }
        }
    }
}

#[tokio::test]
async fn content_in_many_pieces_goes_both_ways_over_each_wire() {
    for (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let address = listen(sides.serve(pass_through())).await;
        let http = sides.seal(connection(version));
        let (tap, body) = channel();
        let request = Request::put(format!("http://{address}/")).body(body).unwrap();
        let mut expected = Vec::new();
        for i in 0..100 {
            // Empty pieces too.
            let piece = pattern(i % 7 * 100);
            expected.extend_from_slice(&piece);
            tap.send(piece);
        }
        drop(tap);
        assert_eq!(ask(&http, request).await.unwrap().1, expected, "{version:?} {encoding:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_unary_message_is_one_final_record_each_way() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let http = sides.seal(sides.serve(echo()));
        ask(&http, post("http://example.com/", "first")).await.unwrap();
        let sealed = |config: &Config| config.telemetry().value(Metric::RecordsSealed);
        let before = (sealed(&sides.client), sealed(&sides.server));
        ask(&http, post("http://example.com/", pattern(100_000))).await.unwrap();
        assert_eq!((sealed(&sides.client), sealed(&sides.server)), (before.0 + 1, before.1 + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_are_dropped_and_the_content_stays() {
    let sides = Sides::new();
    let with_trailers = |content: &'static str| {
        let trailers = [("x".parse().unwrap(), "y".parse().unwrap())].into_iter().collect();
        full(content).with_trailers(async { Some(Ok(trailers)) }).boxed()
    };
    let app = app(move |request| async move {
        assert!(request.into_body().collect().await.unwrap().trailers().is_none());
        Response::new(with_trailers("answer"))
    });
    let request = Request::post("http://example.com/").body(with_trailers("question")).unwrap();
    let response = sides.seal(sides.serve(app)).oneshot(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert!(collected.trailers().is_none());
    assert_eq!(collected.to_bytes(), "answer");
}

#[tokio::test(start_paused = true)]
async fn padded_content_has_its_own_length_inside_and_another_outside() {
    let mut sides = Sides::new();
    sides.client = sides.client.padding(Padding::Multiple(4096.try_into().unwrap()));
    let (lengths, mut outer) = tokio::sync::mpsc::unbounded_channel();
    let wire = middle(sides.serve(echo()), move |request, next| {
        let lengths = lengths.clone();
        async move {
            let (parts, body) = request.into_parts();
            let bytes = content(body).await?;
            lengths.send(bytes.len()).unwrap();
            next.oneshot(Request::from_parts(parts, full(bytes))).await
        }
    });
    let http = sides.seal(wire);
    ask(&http, post("http://example.com/", "warm up")).await.unwrap();
    for _ in 0..2 {
        outer.recv().await.unwrap();
    }
    let mut seen = Vec::new();
    for length in [0, 1, 1000, 3000] {
        let content = pattern(length);
        assert_eq!(ask(&http, post("http://example.com/", content.clone())).await.unwrap().1, content);
        seen.push(outer.recv().await.unwrap());
    }
    assert!(seen.iter().all(|length| length == &seen[0]), "{seen:?}");
}

// ---- limits ----

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[tokio::test(start_paused = true)]
async fn content_above_the_body_limit_is_refused_by_either_side() {
    for encoding in BOTH {
        let mut sides = Sides::speaking(encoding);
        sides.server = sides.server.limits(limits(|limits| limits.body = 1000));
        sides.client = sides.client.limits(limits(|limits| limits.body = 3000));
        let app = app(|request| async move {
            let length: usize = request.headers()["x-length"].to_str().unwrap().parse().unwrap();
            // Whatever comes of the content, it answers.
            let _ = content(request.into_body()).await;
            Response::new(full(pattern(length)))
        });
        let http = sides.seal(sides.serve(app));
        let up = |body| Request::put("http://example.com/").header("x-length", 0).body(body).unwrap();
        let streamed = |pieces: &[usize]| {
            let (tap, body) = channel();
            pieces.iter().for_each(|&piece| tap.send(pattern(piece)));
            (tap, up(body))
        };
        assert_eq!(ask(&http, up(full(pattern(1000)))).await.unwrap().0, 200);
        let (tap, request) = streamed(&[600]);
        let (answer, ()) = tokio::join!(ask(&http, request), async move {
            tokio::task::yield_now().await;
            tap.send(pattern(400));
        });
        assert_eq!(answer.unwrap().0, 200);

        let error = ask(&http, up(full(pattern(1001)))).await.unwrap_err();
        assert_eq!((error.code(), signed(&error)), (Some(Code::TooLarge), true));
        let (tap, request) = streamed(&[600]);
        let (answer, ()) = tokio::join!(ask(&http, request), async {
            tokio::task::yield_now().await;
            tap.send(pattern(401));
        });
        let error = answer.unwrap_err();
        assert_eq!((error.code(), signed(&error)), (Some(Code::TooLarge), true));

        let down =
            |length| Request::get("http://example.com/").header("x-length", length).body(empty()).unwrap();
        assert_eq!(ask(&http, down(3000)).await.unwrap().1.len(), 3000);
        let error = ask(&http, down(3001)).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::TooLarge));
        assert_eq!(ask(&http, down(3)).await.unwrap().1.len(), 3, "afterwards all is well");
    }
}

fn signed(error: &tower_seal::Error) -> bool {
    matches!(error, tower_seal::Error::Refused { signed: true, .. })
}

#[tokio::test(start_paused = true)]
async fn a_head_above_its_limit_is_refused_by_either_side() {
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.head = 1000));
    sides.client = sides.client.limits(limits(|limits| limits.head = 3000));
    let app = app(|request| async move {
        let length =
            request.headers().get("x-length").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
        Response::builder().header("x", "x".repeat(length)).body(full(pattern(5000))).unwrap()
    });
    let http = sides.seal(sides.serve(app));
    let request = |name, value: String| {
        Request::post("http://example.com/").header(name, value).body(full(pattern(5000))).unwrap()
    };
    assert_eq!(ask(&http, request("x", "x".repeat(900))).await.unwrap().1.len(), 5000);
    let error = ask(&http, request("x", "x".repeat(1000))).await.unwrap_err();
    assert_eq!((error.code(), signed(&error)), (Some(Code::TooLarge), true));
    assert_eq!(ask(&http, request("x-length", "2900".into())).await.unwrap().1.len(), 5000);
    let error = ask(&http, request("x-length", "3000".into())).await.unwrap_err();
    assert_eq!((error.code(), signed(&error)), (Some(Code::TooLarge), false));
}

#[tokio::test(start_paused = true)]
async fn every_receiver_takes_records_of_a_mebibyte() {
    use tower_seal::protocol::Final;

    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.record = 1000));
    let wire = sides.serve(echo());
    for encoding in BOTH {
        let hand = crate::hand::Hand::new(&sides.client, encoding, &wire).await;
        let text = "x".repeat(MIB - 1000);
        let mut message = crate::hand::message("POST", "/", &text);
        message.resize(MIB, 0);
        let request = hand.begin(&message, Final::Yes);
        let answer = hand.post("/", full(request.bytes)).await;
        let (status, content) = hand.open(&answer, &request.response);
        assert!(status == 200 && content == text.as_bytes(), "{encoding:?}");
    }
}
