//! Attacks on requests. Each is refused with its code, changes nothing, and disturbs nobody (see `siege`).

use bytes::Bytes;
use tower_seal::{config::Encoding, error::Code, protocol::Final};

use crate::{hand::message, siege::Siege, support::*};

// ---- the first record ----

/// Changes a byte of the record, given where it stands in the binary encoding, or as the first hex
/// digit of a field in JSON.
fn flip(encoding: Encoding, record: &[u8], at: usize, field: &str) -> Bytes {
    let mut bytes = record.to_vec();
    let at = match encoding {
        Encoding::Binary => 4 + at,
        Encoding::Json => {
            let name = format!("\"{field}\":");
            let start = record.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + name.len();
            start + usize::from(record[start] == b'"')
        }
    };
    bytes[at] = match (encoding, bytes[at]) {
        (Encoding::Binary, byte) => byte ^ 1,
        // Another digit, and no zero in front.
        (Encoding::Json, b'9') => b'8',
        (Encoding::Json, b'f') => b'e',
        (Encoding::Json, digit) => digit + 1,
    };
    bytes.into()
}

#[tokio::test(start_paused = true)]
async fn each_part_of_a_first_record_that_is_changed_has_its_code_and_claims_nothing() {
    const PARTS: [(&str, usize, Code); 7] = [
        ("session", 2, Code::UnknownSession),
        ("stream", 2 + 16 + 7, Code::DecryptionFailed),
        ("salt", 2 + 24, Code::DecryptionFailed),
        ("deadline", 2 + 40 + 7, Code::DecryptionFailed),
        ("nonce", 2 + 48 + 11, Code::OutOfOrder),
        ("signature", 2 + 60, Code::InvalidSignature),
        ("ciphertext", 2 + 60 + 69, Code::DecryptionFailed),
    ];
    for encoding in BOTH {
        let mut siege = Siege::new(encoding).await;
        siege
            .during(async |siege| {
                for (part, at, code) in PARTS {
                    let request = siege.unary(part);
                    let forged = flip(encoding, &request.bytes, at, part);
                    let answer = siege.post(forged).await;
                    // In JSON the first digit of the nonce is that of its flags.
                    let code =
                        if (encoding, part) == (Encoding::Json, "nonce") { Code::Malformed } else { code };
                    assert_eq!(answer.rejection, Some(code), "{encoding:?} {part}");
                    // It may be signed, but for what the forgery said, not for the honest request.
                    let honest = ["signature", "salt", "deadline"].contains(&part);
                    let signed = answer.refusal(&request.response).2;
                    assert_eq!(signed, honest, "{encoding:?} {part}");
                    assert_eq!(siege.asked(), [], "{encoding:?} {part}");
                    // The honest one is still served, for the forgery claimed nothing.
                    let answer = siege.post(request.bytes.clone()).await;
                    assert_eq!(siege.hand.open(&answer, &request.response).1, part.as_bytes());
                    siege.seen.lock().unwrap().clear();
                }
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_byte_of_a_request_can_be_changed() {
    for encoding in BOTH {
        let mut siege = Siege::new(encoding).await;
        siege
            .during(async |siege| {
                let request = siege.unary("secret");
                for at in 0..request.bytes.len() {
                    let mut bytes = request.bytes.to_vec();
                    bytes[at] ^= 1;
                    let answer = siege.post(bytes).await;
                    assert_eq!(answer.content_type(), ERROR, "{encoding:?} {at}");
                    assert_eq!(siege.asked(), [], "{encoding:?} {at}");
                }
                let answer = siege.post(request.bytes.clone()).await;
                assert_eq!(siege.hand.open(&answer, &request.response).1, b"secret");
            })
            .await;
    }
}

// ---- replays ----

#[tokio::test(start_paused = true)]
async fn the_same_bytes_are_served_once() {
    for encoding in BOTH {
        let mut siege = Siege::new(encoding).await;
        siege
            .during(async |siege| {
                let request = siege.unary("once");
                let answer = siege.post(request.bytes.clone()).await;
                assert_eq!(siege.hand.open(&answer, &request.response).1, b"once");
                for _ in 0..3 {
                    let code = Code::Replayed;
                    siege.refused(request.bytes.clone(), &request.response, code, "again").await;
                }
                // Also when more has come in between, and when it is streamed.
                siege.hand.ask("/", "between").await;
                siege.refused(request.bytes.clone(), &request.response, Code::Replayed, "later").await;
                let (records, awaiting) = siege.streamed(&["a", "b"]);
                let answer = siege.post(records.concat()).await;
                assert_eq!(siege.hand.open(&answer, &awaiting).1, b"ab");
                siege.refused(records.concat(), &awaiting, Code::Replayed, "streamed").await;
                siege.refused(records[0].clone(), &awaiting, Code::Replayed, "its head").await;
                let got: Vec<_> = siege.asked().into_iter().map(|(_, content)| content).collect();
                assert_eq!(got, ["once", "between", "ab"]);
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_copies_in_flight_exactly_one_is_served() {
    for encoding in BOTH {
        let mut siege = Siege::new(encoding).await;
        siege
            .during(async |siege| {
                let request = siege.unary("once");
                let copies: Vec<_> = (0..5)
                    .map(|_| {
                        let (tap, body) = channel();
                        let hand = siege.hand.clone();
                        (tap, tokio::spawn(async move { hand.post("/", body).await }))
                    })
                    .collect();
                // All of them have come but for the last byte, and then that too.
                let most = request.bytes.len() - 1;
                for part in [request.bytes.slice(..most), request.bytes.slice(most..)] {
                    for (tap, _) in &copies {
                        tap.send(part.clone());
                    }
                    tokio::task::yield_now().await;
                }
                let mut served = 0;
                for (tap, copy) in copies {
                    drop(tap);
                    let answer = copy.await.unwrap();
                    if answer.content_type() == ERROR {
                        assert_eq!(answer.refusal(&request.response), (409, Code::Replayed, true));
                    } else {
                        assert_eq!(siege.hand.open(&answer, &request.response).1, b"once");
                        served += 1;
                    }
                }
                assert_eq!(served, 1);
                assert_eq!(siege.asked().len(), 1);
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_request_that_is_being_served_is_refused_at_once() {
    let mut siege = Siege::new(Encoding::Binary).await;
    siege
        .during(async |siege| {
            let request = siege.hand.begin(&message("POST", "/slow", "first"), Final::Yes);
            let (hand, bytes) = (siege.hand.clone(), request.bytes.clone());
            let first = tokio::spawn(async move { hand.post("/slow", full(bytes)).await });
            siege.enter().await;
            let answer = siege.hand.post("/slow", full(request.bytes.clone())).await;
            assert_eq!(answer.refusal(&request.response), (409, Code::Replayed, true));
            siege.let_go();
            assert_eq!(siege.hand.open(&first.await.unwrap(), &request.response).1, b"first");
            assert_eq!(siege.asked().len(), 1);
        })
        .await;
}

// ---- the records behind it ----

#[tokio::test(start_paused = true)]
async fn a_stream_with_records_lost_repeated_swapped_or_forged_is_refused_though_the_application_answered() {
    type Damage = fn(&[Bytes], &[Bytes]) -> Vec<u8>;
    // The records of the stream, and those of another one.
    let damages: [(&str, Damage, &str, Code); 13] = [
        ("FINAL cut off", |r, _| r[..2].concat(), "onetwo", Code::Truncated),
        ("all but the head cut off", |r, _| r[..1].concat(), "one", Code::Truncated),
        ("FINAL cut short", |r, _| [&r[..2].concat()[..], &r[2][..30]].concat(), "onetwo", Code::Truncated),
        ("one lost", |r, _| [&r[0][..], &r[2]].concat(), "one", Code::OutOfOrder),
        ("swapped", |r, _| [&r[0][..], &r[2], &r[1]].concat(), "one", Code::OutOfOrder),
        ("repeated", |r, _| [&r[0][..], &r[1], &r[1], &r[2]].concat(), "onetwo", Code::Replayed),
        ("the head repeated", |r, _| [&r[0][..], &r[0], &r[1], &r[2]].concat(), "one", Code::Malformed),
        ("after FINAL", |r, _| [&r.concat()[..], &r[1]].concat(), "onetwothree", Code::Malformed),
        ("FINAL again", |r, _| [&r.concat()[..], &r[2]].concat(), "onetwothree", Code::Malformed),
        ("garbage after FINAL", |r, _| [&r.concat()[..], b"\n"].concat(), "onetwothree", Code::Malformed),
        ("of another", |r, o| [&r[0][..], &o[1], &r[2]].concat(), "one", Code::DecryptionFailed),
        ("of another, FINAL", |r, o| [&r[0][..], &r[1], &o[2]].concat(), "onetwo", Code::DecryptionFailed),
        ("the head of another", |r, o| [&r[0][..], &o[0]].concat(), "one", Code::Malformed),
    ];
    for encoding in BOTH {
        let mut siege = Siege::new(encoding).await;
        siege
            .during(async |siege| {
                for (name, damage, seen, code) in damages {
                    let (records, awaiting) = siege.streamed(&["one", "two", "three"]);
                    let (others, _) = siege.streamed(&["evil", "evil", "evil"]);
                    // In JSON, half a line is no object.
                    let code = match (name, encoding) {
                        ("FINAL cut short", Encoding::Json) => Code::Malformed,
                        _ => code,
                    };
                    siege.refused(damage(&records, &others), &awaiting, code, name).await;
                    let asked = std::mem::take(&mut *siege.seen.lock().unwrap());
                    assert_eq!(asked, [("/".to_owned(), seen.to_owned())], "{encoding:?} {name}");
                }
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_byte_of_a_second_record_can_be_changed() {
    for encoding in BOTH {
        let mut siege = Siege::new(encoding).await;
        siege
            .during(async |siege| {
                let (template, _) = siege.streamed(&["one", "secret"]);
                for at in 0..template[1].len() {
                    let (records, awaiting) = siege.streamed(&["one", "secret"]);
                    let mut second = records[1].to_vec();
                    second[at] ^= 1;
                    let answer = siege.post([&records[0][..], &second].concat()).await;
                    let (_, code, signed) = answer.refusal(&awaiting);
                    assert!(signed, "{encoding:?} {at} {code}");
                }
                assert!(siege.asked().iter().all(|(_, content)| content == "one"));
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_response_has_begun_ends_it_without_final() {
    use http::{Request, Response};

    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        // It answers at once, and whatever becomes of the request, its own answer ends well.
        let app = app(|request: Request<Body>| async move {
            let (tap, body) = channel();
            tap.send("begun ");
            tokio::spawn(async move {
                let _ = content(request.into_body()).await;
                tap.send("and done");
            });
            Response::new(body)
        });
        let hand = crate::hand::Hand::new(&sides.client, encoding, &sides.serve(app)).await;
        for forged in [false, true] {
            let mut request = hand.begin(&message("POST", "/", "one"), Final::No);
            let second =
                request.rest.as_mut().unwrap().seal(&b"two"[..], Final::Yes, crate::hand::now()).unwrap();
            let mut second = second.to_vec();
            let at = second.len() - if encoding == Encoding::Json { 200 } else { 1 };
            second[at] ^= u8::from(forged);
            let (tap, body) = channel();
            tap.send(request.bytes.clone());
            tap.send(second);
            drop(tap);
            let answer = hand.post("/", body).await;
            if forged {
                assert!(!answer.whole, "{encoding:?}: the request was forged, and its answer ends well");
            } else {
                assert_eq!(hand.open(&answer, &request.response).1, b"begun and done");
            }
        }
    }
}
