//! Nothing reaches the caller that did not come out of a record of this very response, and no attack on a
//! response ends it well, or harms the session.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, header};
use tower::ServiceExt as _;
use tower_seal::{
    Error,
    config::Encoding,
    error::{Code, Result},
};

use crate::{
    hand::{frames, media_type},
    support::*,
};

/// What the middle makes of an outer response.
type Attack = dyn Fn(Response<Bytes>) -> Response<Body> + Send + Sync;

/// Puts the first sealed response after the attack was laid through it.
fn ambush(wire: Wire) -> (Wire, impl Fn(Box<Attack>)) {
    let laid = Arc::new(Mutex::new(None::<Box<Attack>>));
    let waiting = laid.clone();
    let wire = middle(wire, move |request, next| {
        let attack = if is_hello(&request) { None } else { waiting.lock().unwrap().take() };
        async move {
            let response = next.oneshot(request).await?;
            let Some(attack) = attack else { return Ok(response) };
            let (parts, body) = response.into_parts();
            Ok(attack(Response::from_parts(parts, content(body).await?)))
        }
    });
    (wire, move |attack| *laid.lock().unwrap() = Some(attack))
}

/// The status and all content, and how it ended.
async fn read(http: &Http) -> Result<(Bytes, Option<Error>)> {
    let response = http.clone().oneshot(get("http://example.com/")).await?;
    let (mut body, mut got) = (response.into_body(), Vec::new());
    loop {
        match piece(&mut body).await {
            Ok(Some(piece)) => got.extend_from_slice(&piece),
            Ok(None) => return Ok((got.into(), None)),
            error => {
                let error = reason(error);
                assert!(piece(&mut body).await.unwrap().is_none());
                return Ok((got.into(), Some(error)));
            }
        }
    }
}

/// Reads a response that nobody has touched.
async fn honest(http: &Http) -> Bytes {
    let (content, error) = read(http).await.unwrap();
    assert!(error.is_none(), "{error:?}");
    content
}

/// Answers with three records: a head with `one`, then `two`, then `three`.
fn three_records() -> Wire {
    app(|_| async {
        let body = boxed(paced(["one", "two", "three"]));
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_sealed_is_an_error_and_nothing_of_it_is_passed_on() {
    type Fields = &'static [(&'static str, &'static str)];
    let plain: [(u16, Fields, &str); 14] = [
        (200, &[], ""),
        (200, &[("content-type", "text/html")], "<html>"),
        (200, &[("content-type", "application/json")], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        (200, &[("content-type", "text/event-stream")], "data: {}\n\n"),
        (200, &[("content-type", HANDSHAKE)], "{}"),
        (202, &[], ""),
        (204, &[], ""),
        (302, &[("location", "http://elsewhere.example/")], ""),
        (307, &[("location", "http://elsewhere.example/")], ""),
        (400, &[("content-type", "application/json")], r#"{"jsonrpc":"2.0","error":{"code":-32600}}"#),
        (401, &[("www-authenticate", "Bearer")], ""),
        (404, &[("content-type", "text/plain")], "no"),
        (405, &[], ""),
        (502, &[("content-type", "text/html")], "<html>"),
    ];
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(three_records()));
    let (wire, attack) = ambush(wire);
    let http = sides.seal(wire);
    for (i, (status, fields, body)) in plain.into_iter().enumerate() {
        attack(Box::new(move |_| {
            let response = Response::builder().status(status);
            let response =
                fields.iter().fold(response, |response, (name, value)| response.header(*name, *value));
            response.body(full(body)).unwrap()
        }));
        let error = read(&http).await.unwrap_err();
        assert!(matches!(error, Error::Unsealed { status: s } if s == status), "{status} {error:?}");
        assert_eq!(traffic.requests.value(), 2 * i + 1, "it was not sent again");
        assert_eq!(honest(&http).await, "onetwothree");
    }
    assert_eq!(traffic.hellos.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endless_unsealed_response_is_not_waited_for() {
    let sides = Sides::new();
    let (tap, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let wire = middle(sides.serve(echo()), move |request, next| {
        let body = if is_hello(&request) { None } else { body.lock().unwrap().take() };
        async move {
            match body {
                Some(body) => Ok(Response::new(body)),
                None => next.oneshot(request).await,
            }
        }
    });
    let error = read(&sides.seal(wire)).await.unwrap_err();
    assert!(matches!(error, Error::Unsealed { status: 200 }), "{error:?}");
    tap.dropped().await;
}

#[tokio::test(start_paused = true)]
async fn a_genuine_response_counts_only_as_a_200_of_its_own_kind() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (wire, attack) = ambush(sides.serve(three_records()));
        let http = sides.seal(wire);
        for status in [201, 202, 206, 301, 400, 404, 500] {
            attack(Box::new(move |response| {
                let (mut parts, body) = response.into_parts();
                parts.status = status.try_into().unwrap();
                Response::from_parts(parts, full(body))
            }));
            let error = read(&http).await.unwrap_err();
            assert!(matches!(error, Error::Unsealed { status: s } if s == status), "{error:?}");
        }
        for kind in ["text/plain", "application/octet-stream", HANDSHAKE, "application/vnd.tower-seal+xml"] {
            attack(Box::new(move |response| {
                let (mut parts, body) = response.into_parts();
                parts.headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
                Response::from_parts(parts, full(body))
            }));
            let error = read(&http).await.unwrap_err();
            assert!(matches!(error, Error::Unsealed { status: 200 }), "{kind} {error:?}");
        }
        attack(Box::new(|response| {
            let (mut parts, body) = response.into_parts();
            parts.headers.insert(header::CONTENT_TYPE, ERROR.parse().unwrap());
            Response::from_parts(parts, full(body))
        }));
        let code = read(&http).await.unwrap_err().code().unwrap();
        assert_eq!(code, Code::Malformed);
        assert_eq!(honest(&http).await, "onetwothree");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_of_the_outer_response_are_not_passed_on() {
    let sides = Sides::new();
    let (wire, attack) = ambush(sides.serve(three_records()));
    attack(Box::new(|response| {
        let (mut parts, body) = response.into_parts();
        parts.headers.insert("mcp-session-id", "forged".parse().unwrap());
        parts.headers.insert("set-cookie", "forged=1".parse().unwrap());
        Response::from_parts(parts, full(body))
    }));
    let response = sides.seal(wire).oneshot(get("http://example.com/")).await.unwrap();
    let names: Vec<_> = response.headers().keys().collect();
    assert_eq!(names, ["content-type"]);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_records_lost_repeated_swapped_or_forged_ends_with_an_error() {
    type Damage = fn(Vec<Bytes>) -> Vec<Bytes>;
    let damages: [(&str, Damage, &str, Code); 15] = [
        ("FINAL cut off", |r| [&r[..2]].concat(), "onetwo", Code::Truncated),
        ("two cut off", |r| [&r[..1]].concat(), "one", Code::Truncated),
        (
            "FINAL cut short",
            |r| [&r[..2], &[r[2].slice(..r[2].len() - 2)]].concat(),
            "onetwo",
            Code::Truncated,
        ),
        ("its length cut short", |r| [&r[..2], &[r[2].slice(..1)]].concat(), "onetwo", Code::Truncated),
        ("one lost", |r| [&r[..1], &r[2..]].concat(), "one", Code::OutOfOrder),
        ("swapped", |r| [&r[..1], &r[2..], &r[1..2]].concat(), "one", Code::OutOfOrder),
        ("repeated", |r| [&r[..2], &r[1..]].concat(), "onetwo", Code::Replayed),
        ("the head repeated", |r| [&r[..1], &r[..]].concat(), "one", Code::Malformed),
        ("FINAL repeated", |r| [&r[..], &r[2..]].concat(), "onetwothree", Code::Malformed),
        ("another after FINAL", |r| [&r[..], &r[1..2]].concat(), "onetwothree", Code::Malformed),
        (
            "something after FINAL",
            |r| [&r[..], &[Bytes::from("\n\n\n\n\n")]].concat(),
            "onetwothree",
            Code::Malformed,
        ),
        ("forged", |r| [&r[..1], &[forged(&r[1])], &r[2..]].concat(), "one", Code::DecryptionFailed),
        ("FINAL forged", |r| [&r[..2], &[forged(&r[2])]].concat(), "onetwo", Code::DecryptionFailed),
        ("the head lost", |r| [&r[1..]].concat(), "", Code::Malformed),
        ("all lost", |_| Vec::new(), "", Code::Truncated),
    ];
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (wire, traffic) = Traffic::through(sides.serve(three_records()));
        let (wire, attack) = ambush(wire);
        let http = sides.seal(wire);
        for (name, damage, passed, code) in damages {
            // In JSON, FINAL without its last two bytes is no object, and a line may end without LF.
            let code = match (name, encoding) {
                ("FINAL cut short" | "its length cut short", Encoding::Json) => Code::Malformed,
                _ => code,
            };
            attack(Box::new(move |response| {
                let (parts, body) = response.into_parts();
                let records = frames(encoding, &body);
                assert_eq!(records.len(), 3);
                Response::from_parts(parts, full(damage(records).concat()))
            }));
            let (got, error) = match read(&http).await {
                Ok((got, error)) => (got, error.unwrap_or_else(|| panic!("{name}: it ended well"))),
                Err(error) => (Bytes::new(), error),
            };
            assert_eq!((&*got, error.code()), (passed.as_bytes(), Some(code)), "{encoding:?} {name}");
            assert_eq!(honest(&http).await, "onetwothree", "{encoding:?} {name}");
        }
        assert_eq!(traffic.hellos.value(), 1, "the session lives on");
    }
}

/// Another ciphertext, of the same form.
fn forged(record: &Bytes) -> Bytes {
    let mut bytes = record.to_vec();
    match serde_json::from_slice::<serde_json::Value>(record) {
        Ok(mut json) => {
            let text = json["ciphertext"].as_str().unwrap();
            let first = if text.starts_with('0') { "1" } else { "0" };
            json["ciphertext"] = format!("{first}{}", &text[1..]).into();
            format!("{json}\n").into()
        }
        Err(_) => {
            *bytes.last_mut().unwrap() ^= 1;
            bytes.into()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_an_error() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (wire, attack) = ambush(sides.serve(three_records()));
        let http = sides.seal(wire);
        for records in [1, 2, 3] {
            attack(Box::new(move |response| {
                let (parts, body) = response.into_parts();
                let (tap, broken) = channel();
                tap.send(frames(encoding, &body)[..records].concat());
                tap.fail();
                Response::from_parts(parts, broken)
            }));
            let (got, error) = read(&http).await.unwrap();
            assert_eq!(got, ["one", "onetwo", "onetwothree"][records - 1]);
            assert!(matches!(error, Some(Error::Transport(_))), "{error:?}");
        }
        assert_eq!(honest(&http).await, "onetwothree");
    }
}

#[tokio::test(start_paused = true)]
async fn no_byte_of_a_response_can_be_changed() {
    for encoding in BOTH {
        let mut sides = Sides::speaking(encoding);
        let limits = tower_seal::config::Limits::default();
        sides.client = sides.client.limits(limits);
        let app = app(|_| async { Response::new(full("secret")) });
        let (wire, attack) = ambush(sides.serve(app));
        let http = sides.seal(wire);
        let length = Arc::new(Mutex::new(1));
        let mut at = 0;
        while at < *length.lock().unwrap() {
            let seen = length.clone();
            attack(Box::new(move |response| {
                let (parts, body) = response.into_parts();
                *seen.lock().unwrap() = body.len();
                let mut bytes = body.to_vec();
                bytes[at] ^= 1;
                Response::from_parts(parts, full(bytes))
            }));
            let error = match read(&http).await {
                Ok((got, error)) => error.unwrap_or_else(|| panic!("{encoding:?} {at}: {got:?}")),
                Err(error) => error,
            };
            assert!(error.code().is_some(), "{encoding:?} {at}: {error:?}");
            at += 1;
        }
        assert!(at > 150);
        assert_eq!(honest(&http).await, "secret");
    }
}

#[tokio::test(start_paused = true)]
async fn the_response_of_another_request_is_refused() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (wire, attack) = ambush(sides.serve(echo()));
        let http = sides.seal(wire);
        let kept = Arc::new(Mutex::new(Bytes::new()));
        let keep = kept.clone();
        attack(Box::new(move |response| {
            let (parts, body) = response.into_parts();
            *keep.lock().unwrap() = body.clone();
            Response::from_parts(parts, full(body))
        }));
        let ask = |content: &'static str| ask(&http, post("http://example.com/", content));
        assert_eq!(ask("one").await.unwrap().1, "one");
        attack(Box::new(move |response| response.map(|_| full(kept.lock().unwrap().clone()))));
        assert_eq!(ask("two").await.unwrap_err().code(), Some(Code::Malformed));
        assert_eq!(ask("three").await.unwrap().1, "three");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_takes_a_response_in_either_encoding() {
    let sides = Sides::speaking(Encoding::Json);
    let (wire, attack) = ambush(sides.serve(three_records()));
    attack(Box::new(|response| {
        let (mut parts, body) = response.into_parts();
        parts.headers.insert(header::CONTENT_TYPE, media_type(Encoding::Binary).parse().unwrap());
        let records = frames(Encoding::Json, &body).iter().map(|line| binary(line)).collect::<Vec<_>>();
        Response::from_parts(parts, full(records.concat()))
    }));
    let http = sides.seal(wire);
    assert_eq!(honest(&http).await, "onetwothree");
}

/// A JSON record in the binary encoding (PROTOCOL sections 4.1 and 4.2).
fn binary(line: &[u8]) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_slice(line).unwrap();
    let hex = |name: &str| const_hex::decode(json[name].as_str().unwrap()).unwrap();
    let opens = json.get("session").is_some();
    let mut record = vec![1, 2 | u8::from(opens)];
    if opens {
        record.extend(hex("session"));
        record.extend(json["stream"].as_u64().unwrap().to_be_bytes());
        record.extend(hex("salt"));
        record.extend([0; 8]);
    }
    record.extend(hex("nonce"));
    record.extend(hex("signature"));
    record.extend([0; 5]);
    record.extend(hex("ciphertext"));
    [&u32::try_from(record.len()).unwrap().to_be_bytes()[..], &record].concat()
}

#[tokio::test]
async fn a_socket_that_is_cut_in_a_response_is_an_error_and_not_an_end() {
    for (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let (wire, attack) = ambush(sides.serve(three_records()));
        let address = listen(wire).await;
        let http = sides.seal(connection(version));
        let request = || get(&format!("http://{address}/"));
        assert_eq!(ask(&http, request()).await.unwrap().1, "onetwothree");
        let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
        attack(Box::new(move |response| {
            let (parts, body) = response.into_parts();
            let (tap, cut) = channel();
            tap.send(frames(encoding, &body)[..2].concat());
            keep.send(tap).unwrap();
            Response::from_parts(parts, cut)
        }));
        let response = http.clone().oneshot(request()).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(piece(&mut body).await.unwrap().unwrap(), "one");
        assert_eq!(piece(&mut body).await.unwrap().unwrap(), "two");
        kept.recv().await.unwrap().fail();
        let error = reason(piece(&mut body).await);
        assert!(matches!(error, Error::Transport(_)), "{version:?} {encoding:?} {error:?}");
        assert_eq!(ask(&http, request()).await.unwrap().1, "onetwothree");
    }
}
