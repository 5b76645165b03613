//! Sections 4.1 and 4.2: both encodings, and where an opening belongs.

use serde_json::{Value, json};
use tower_seal::{
    config::Encoding,
    error::Code,
    protocol::{Final, Record},
};

use crate::support::{
    BOTH, Duplex, Pair, code, hand, open, parse,
    wire::{Draft, Wire},
};

fn judge(frame: impl AsRef<[u8]>) -> Code {
    code(parse(frame.as_ref()))
}

fn as_json(frame: &[u8]) -> Value {
    serde_json::from_slice(frame).unwrap()
}

const OPENING: [&str; 4] = ["session", "stream", "salt", "deadline"];

#[test]
fn only_the_first_record_of_an_exchange_has_an_opening_and_only_a_request_a_deadline() {
    let names = |frame: &[u8]| OPENING.map(|name| as_json(frame).get(name).is_some());
    let mut pair = Pair::encoding(Encoding::Json);
    let session = pair.session();
    let mut request = pair.request(&session, b"a", Final::No);
    let more = request.rest.as_mut().unwrap().seal(&b"b"[..], Final::Yes, pair.now).unwrap();
    let mut claimed = pair.serve(&request.bytes).unwrap();
    assert_eq!(names(&request.bytes), [true; 4]);
    assert_eq!(names(&more), [false; 4]);
    assert_eq!(names(&pair.respond(&mut claimed, b"c", Final::No)), [true, true, true, false]);
    assert_eq!(names(&pair.respond(&mut claimed, b"d", Final::Yes)), [false; 4]);
    let Duplex { client: (mut sealer, _), .. } = pair.duplex();
    assert_eq!(names(&sealer.seal(&b"e"[..], Final::No, pair.now).unwrap()), [false; 4]);
}

#[test]
fn the_binary_encoding_says_the_same_by_its_flag_and_a_deadline_of_0() {
    let mut pair = Pair::new();
    let session = pair.session();
    let mut request = pair.request(&session, b"a", Final::No);
    let more = request.rest.as_mut().unwrap().seal(&b"b"[..], Final::Yes, pair.now).unwrap();
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let opening =
        |frame: &[u8]| (frame[0], frame[1], Wire::read(frame).opening.map(|(_, deadline)| deadline));
    assert_eq!(opening(&request.bytes), (1, 3, Some(60_000)));
    assert_eq!(opening(&more), (1, 2, None));
    assert_eq!(opening(&pair.respond(&mut claimed, b"c", Final::No)), (1, 3, Some(0)));
    assert_eq!(opening(&pair.respond(&mut claimed, b"d", Final::Yes)), (1, 2, None));
    let Duplex { client: (mut sealer, _), .. } = pair.duplex();
    assert_eq!(opening(&sealer.seal(&b"e"[..], Final::No, pair.now).unwrap()), (1, 2, None));
}

#[test]
fn salts_are_fresh() {
    let mut pair = Pair::new();
    let session = pair.session();
    let salts: Vec<_> = (0..2)
        .flat_map(|_| {
            let request = pair.request(&session, b"a", Final::Yes);
            let mut claimed = pair.serve(&request.bytes).unwrap();
            let response = pair.respond(&mut claimed, b"b", Final::Yes);
            [request.bytes, response].map(|frame| Wire::read(&frame).opening.unwrap().0)
        })
        .collect();
    assert!((1..4).all(|i| !salts[..i].contains(&salts[i])));
}

#[test]
fn a_part_of_an_opening_is_malformed() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let json = peer.request(1, b"x").seal().json();
    for present in 1..15_usize {
        let mut part = json.clone();
        for (bit, name) in OPENING.iter().enumerate() {
            if present >> bit & 1 == 0 {
                part.as_object_mut().unwrap().remove(*name).unwrap();
            }
        }
        // Without its deadline alone it is the opening of a response, which no responder takes.
        let result = parse(part.to_string().as_bytes());
        let verdict = if present == 0b0111 {
            pair.offer(part.to_string().as_bytes()).map(drop)
        } else {
            result.map(drop)
        };
        assert_eq!(code(verdict), Code::Malformed, "{present:04b}");
    }
    pair.offer(json.to_string().as_bytes()).unwrap();
}

#[test]
fn a_request_without_an_opening_is_malformed() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    for encoding in BOTH {
        let mut wire = peer.request(1, b"x").seal();
        wire.opening = None;
        assert_eq!(code(pair.offer(&wire.encode(encoding))), Code::Malformed);
    }
}

#[test]
fn an_opening_in_a_later_record_is_malformed_on_either_side() {
    let mut pair = Pair::new();
    let (peer, mut opener) = {
        let peer = pair.by_hand();
        let first = peer.request(1, b"x").flags(0).seal().binary();
        (peer, pair.serve(&first).unwrap().rest.unwrap())
    };
    let mut second = peer.request(1, b"y").counter(1).seal();
    for encoding in BOTH {
        second.opening = Some(([7; 16], 60_000));
        assert_eq!(code(open(&mut opener, &second.encode(encoding), pair.now)), Code::Malformed);
    }
    second.opening = None;
    open(&mut opener, &second.binary(), pair.now).unwrap();

    let (session, peer) = pair.with_hand();
    let request = pair.request(&session, b"?", Final::Yes);
    let response = peer.response(&Wire::read(&request.bytes), b"!").flags(0);
    let (_, mut opener) = pair.receive(&request.response, &response.seal().binary()).unwrap();
    let mut second = response.counter(1).seal();
    second.opening = Some(([9; 16], 0));
    assert_eq!(code(open(&mut opener, &second.binary(), pair.now)), Code::Malformed);
    second.opening = None;
    open(&mut opener, &second.binary(), pair.now).unwrap();
}

#[test]
fn a_request_that_begins_with_a_later_record_is_out_of_order() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let mut wire = peer.request(1, b"x").counter(1).seal();
    wire.opening = Some(([7; 16], 60_000));
    assert_eq!(code(pair.offer(&wire.binary())), Code::OutOfOrder);
}

#[test]
fn stream_0_has_no_opening() {
    let mut pair = Pair::new();
    let (peer, _, mut opener) = pair.duplex_by_hand();
    for stream in [0, 1] {
        let mut wire = peer.duplex(0, b"x").seal();
        (wire.stream, wire.opening) = (stream, Some(([7; 16], 1)));
        for encoding in BOTH {
            assert_eq!(code(open(&mut opener, &wire.encode(encoding), pair.now)), Code::Malformed);
        }
    }
    let peer = pair.by_hand();
    for encoding in BOTH {
        assert_eq!(judge(peer.request(0, b"x").seal().encode(encoding)), Code::Malformed);
    }
}

#[test]
fn numbers_above_2_to_the_53_less_1_are_malformed_in_either_encoding() {
    const MOST: u64 = (1 << 53) - 1;
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    for encoding in BOTH {
        for high in [MOST + 1, u64::MAX] {
            assert_eq!(judge(peer.request(high, b"x").seal().encode(encoding)), Code::Malformed);
            let late = Draft { opening: Some(([7; 16], high)), ..peer.request(1, b"x") };
            assert_eq!(judge(late.seal().encode(encoding)), Code::Malformed);
        }
        let highest = Draft { opening: Some(([7; 16], MOST)), ..peer.request(MOST, b"x") };
        pair.offer(&highest.seal().encode(encoding)).unwrap();
    }
}

#[test]
fn a_deadline_of_0_is_malformed() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let wire = Draft { opening: Some(([7; 16], 0)), ..peer.request(1, b"x") }.seal();
    assert_eq!(code(pair.offer(&wire.binary())), Code::Malformed);
    let mut json = wire.json();
    json["deadline"] = 0.into();
    assert_eq!(code(pair.offer(json.to_string().as_bytes())), Code::Malformed);
}

#[test]
fn a_response_has_the_opening_of_its_request_and_no_deadline() {
    let mut pair = Pair::new();
    let (session, peer) = pair.with_hand();
    let request = pair.request(&session, b"?", Final::Yes);
    let response = peer.response(&Wire::read(&request.bytes), b"!");
    let wrong = [
        Draft { session: [0; 16], ..response.clone() },
        Draft { stream: 2, ..response.clone() },
        Draft { opening: Some(([9; 16], 1)), ..response.clone() },
    ];
    for (draft, encoding) in wrong.iter().flat_map(|draft| BOTH.map(|encoding| (draft, encoding))) {
        let frame = draft.seal().encode(encoding);
        assert_eq!(code(pair.receive(&request.response, &frame)), Code::Malformed);
    }
    let mut wire = response.seal();
    wire.opening = None;
    assert_eq!(code(pair.receive(&request.response, &wire.binary())), Code::Malformed);
    // Its own request, reflected.
    assert_eq!(code(pair.receive(&request.response, &request.bytes)), Code::Malformed);
    pair.receive(&request.response, &response.seal().binary()).unwrap();
}

#[test]
fn a_response_to_another_request_is_malformed() {
    let mut pair = Pair::new();
    let session = pair.session();
    let (one, two) = (pair.request(&session, b"1", Final::Yes), pair.request(&session, b"2", Final::Yes));
    let mut claimed = pair.serve(&two.bytes).unwrap();
    let response = pair.respond(&mut claimed, b"!", Final::Yes);
    assert_eq!(code(pair.receive(&one.response, &response)), Code::Malformed);
    pair.receive(&two.response, &response).unwrap();
}

#[test]
fn a_response_is_in_the_encoding_of_its_request_and_an_initiator_takes_either() {
    for (sent, configured) in [(Encoding::Json, Encoding::Binary), (Encoding::Binary, Encoding::Json)] {
        let mut pair = Pair::with(|client| client.encoding(sent), |server| server.encoding(configured));
        let session = pair.session();
        let request = pair.request(&session, b"?", Final::Yes);
        let mut claimed = pair.serve(&request.bytes).unwrap();
        for last in [Final::No, Final::Yes] {
            let frame = pair.respond(&mut claimed, b"!", last);
            assert_eq!(parse(&frame).unwrap().encoding(), sent);
        }
        let (session, peer) = pair.with_hand();
        let request = pair.request(&session, b"?", Final::Yes);
        let response = peer.response(&Wire::read(&request.bytes), b"!").seal();
        for encoding in BOTH {
            pair.receive(&request.response, &response.encode(encoding)).unwrap();
        }
    }
}

#[test]
fn context_that_is_only_in_the_key_shows_when_it_is_wrong() {
    let mut pair = Pair::new();
    let (peer, other) = (pair.by_hand(), pair.by_hand());
    let right = peer.request(1, b"x");
    let claims: [fn(&mut Wire); 4] = [
        |wire| wire.stream = 2,
        |wire| wire.opening = Some(([8; 16], 60_000)),
        |wire| wire.opening = Some(([7; 16], 60_001)),
        |wire| wire.nonce[0] ^= 1,
    ];
    for claim in claims {
        let mut wire = right.seal();
        claim(&mut wire);
        assert_eq!(code(pair.offer(&wire.binary())), Code::DecryptionFailed);
    }
    let moved = Wire { session: other.session, ..right.seal() };
    assert_eq!(code(pair.offer(&moved.binary())), Code::DecryptionFailed);
    let backwards = Draft { direction: 1, ..right.clone() };
    assert_eq!(code(pair.offer(&backwards.seal().binary())), Code::DecryptionFailed);
    pair.offer(&right.seal().binary()).unwrap();
}

#[test]
fn a_record_of_another_stream_or_direction_does_not_open() {
    let mut pair = Pair::new();
    let session = pair.session();
    let (mut one, mut two) =
        (pair.request(&session, b"1", Final::No), pair.request(&session, b"2", Final::No));
    let mut rest = pair.serve(&one.bytes).unwrap().rest.unwrap();
    let foreign = two.rest.as_mut().unwrap().seal(&b"x"[..], Final::Yes, pair.now).unwrap();
    assert_eq!(code(open(&mut rest, &foreign, pair.now)), Code::DecryptionFailed);
    let own = one.rest.as_mut().unwrap().seal(&b"x"[..], Final::Yes, pair.now).unwrap();
    open(&mut rest, &own, pair.now).unwrap();

    let Duplex { client: (mut sealer, mut opener), .. } = pair.duplex();
    let reflected = sealer.seal(&b"x"[..], Final::No, pair.now).unwrap();
    assert_eq!(code(open(&mut opener, &reflected, pair.now)), Code::DecryptionFailed);
}

#[test]
fn a_binary_record_has_its_kind_and_known_flags_and_all_of_its_header() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let frame = peer.request(1, b"").seal().binary();
    for (at, bad) in [(0, 0), (0, 2), (0, 0x7b), (1, 7), (1, 0x83), (1, 0x80)] {
        let mut frame = frame.clone();
        frame[at] = bad;
        assert_eq!(
            code(Record::parse(frame[..].into(), Encoding::Binary, 0)),
            Code::Malformed,
            "{at}: {bad}"
        );
    }
    for length in 0..frame.len() {
        assert_eq!(code(Record::parse(frame[..length].into(), Encoding::Binary, 0)), Code::Malformed);
    }
    parse(&frame).unwrap();
}

#[test]
fn every_field_of_a_json_record_is_needed_and_has_one_type() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let json = peer.request(1, b"x").seal().json();
    for name in ["type", "nonce", "ciphertext", "sender"] {
        let mut without = json.clone();
        without.as_object_mut().unwrap().remove(name).unwrap();
        assert_eq!(judge(without.to_string()), Code::Malformed, "{name}");
    }
    for name in json.as_object().unwrap().keys() {
        for bad in [json!(true), json!({}), json!([]), json!("x"), json!(-1), json!(1.5), json!("0x00")] {
            let mut changed = json.clone();
            changed[name] = bad;
            assert_eq!(judge(changed.to_string()), Code::Malformed, "{name}");
        }
    }
    let changes: [fn(&str) -> String; 6] = [
        |hex| hex[1..].to_owned(),
        |hex| hex[2..].to_owned(),
        |hex| format!("{hex}00"),
        |hex| format!("0x{}", &hex[2..]),
        |hex| format!("0x{hex}"),
        |hex| format!("é{}", &hex[2..]),
    ];
    for name in ["session", "salt", "nonce", "signature", "sender"] {
        for change in changes {
            let mut changed = json.clone();
            changed[name] = change(json[name].as_str().unwrap()).into();
            assert_eq!(judge(changed.to_string()), Code::Malformed, "{name}");
        }
    }
    for change in [changes[0], changes[3], changes[4], changes[5]] {
        let mut changed = json.clone();
        changed["ciphertext"] = change(json["ciphertext"].as_str().unwrap()).into();
        assert_eq!(judge(changed.to_string()), Code::Malformed);
    }
}

#[test]
fn a_json_record_is_as_strict_and_as_lenient_as_all_json_here() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let text = peer.request(1, b"x").seal().json().to_string();
    for begin in [
        r#"{"x":null,"#,
        r#"{"x":[{"y":null}],"#,
        r#"{"stream":1,"#,
        r#"{"s\u0065nder":"","#,
        r#"{"x":{"y":1,"y":1},"#,
        r#"{"x":"\udc00","#,
        r#"{"path":null,"#,
    ] {
        assert_eq!(judge(text.replacen('{', begin, 1)), Code::Malformed, "{begin}");
    }
    assert_eq!(judge(text.replace("\"stream\":1", "\"stream\":1.0")), Code::Malformed);
    assert_eq!(judge(text.replace("\"stream\":1", "\"stream\":1e0")), Code::Malformed);
    pair.offer(text.replacen('{', r#"{ "hop": [1, 2.5, {}], "x": "\ud83d\ude00","#, 1).as_bytes()).unwrap();
    let mut shouted: Value = serde_json::from_str(&text).unwrap();
    for name in ["session", "salt", "nonce", "ciphertext", "signature", "sender"] {
        shouted[name] = shouted[name].as_str().unwrap().to_uppercase().into();
    }
    pair.offer(shouted.to_string().as_bytes()).unwrap();
    let sender = const_hex::encode(hand::node_id(&peer.seed));
    assert_eq!(as_json(text.as_bytes())["sender"], sender);
}

#[test]
fn a_record_of_another_type_is_malformed() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let mut json = peer.request(1, b"x").seal().json();
    for name in ["key_exchange", "error", "Encrypted"] {
        json["type"] = name.into();
        assert_eq!(judge(json.to_string()), Code::Malformed);
    }
}
