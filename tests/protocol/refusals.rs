//! Section 9: errors, and what a signature on one is worth.

use std::{collections::BTreeSet, str::FromStr as _};

use serde_json::{Value, json};
use tower_seal::{
    Error,
    error::Code,
    protocol::{Final, Request},
};

use crate::support::{
    BOTH, Pair, code,
    crooked::{self, IDENTITY, point},
    hand::{self, lp, sha256},
    wire::Wire,
};

/// The table of section 9.
const CODES: &[(&str, u16)] = &[
    ("malformed", 400),
    ("unsupported_version", 400),
    ("unsupported_suite", 400),
    ("path_mismatch", 400),
    ("timeout", 400),
    ("invalid_signature", 403),
    ("decryption_failed", 403),
    ("encryption_required", 403),
    ("untrusted_peer", 403),
    ("wrong_audience", 403),
    ("unknown_session", 409),
    ("expired", 409),
    ("replayed", 409),
    ("out_of_order", 409),
    ("truncated", 409),
    ("too_large", 413),
    ("busy", 503),
];

/// What a signed error says.
#[derive(Clone)]
struct Refusal {
    code: String,
    session: Vec<u8>,
    stream: u64,
    hash: Vec<u8>,
    node_id: Vec<u8>,
    seed: [u8; 32],
}

impl Refusal {
    fn bytes(&self) -> Vec<u8> {
        [
            lp(b"tower-seal/1 reject"),
            lp(self.code.as_bytes()),
            lp(&self.session),
            self.stream.to_be_bytes().to_vec(),
            lp(&self.hash),
            lp(&self.node_id),
        ]
        .concat()
    }

    fn with_signature(&self, signature: &[u8]) -> Value {
        json!({
            "type": "error",
            "code": self.code,
            "message": "no",
            "session": const_hex::encode(&self.session),
            "stream": self.stream,
            "node_id": const_hex::encode(&self.node_id),
            "signature": const_hex::encode(signature),
        })
    }

    fn json(&self) -> Value {
        self.with_signature(&hand::sign(&self.seed, &self.bytes()))
    }
}

/// A request to the implementation by hand, and a refusal of it.
fn refused() -> (Request, Refusal) {
    let mut pair = Pair::new();
    let (session, peer) = pair.with_hand();
    let _first = pair.request(&session, b"another", Final::Yes);
    let request = pair.request(&session, b"x", Final::Yes);
    let wire = Wire::read(&request.bytes);
    let refusal = Refusal {
        code: "unknown_session".to_owned(),
        session: wire.session.to_vec(),
        stream: wire.stream,
        hash: sha256(&[&wire.nonce, &wire.ciphertext]).to_vec(),
        node_id: hand::node_id(&peer.seed).to_vec(),
        seed: peer.seed,
    };
    (request, refusal)
}

#[track_caller]
fn judge(request: &Request, message: &Value) -> (Code, bool) {
    match request.response.refused(message.to_string().as_bytes()) {
        Error::Refused { code, signed } => (code, signed),
        error => panic!("not read as a refusal: {error:?}"),
    }
}

#[track_caller]
fn is_malformed(request: &Request, message: &str) {
    let error = request.response.refused(message.as_bytes());
    assert!(!matches!(error, Error::Refused { .. }), "{message}");
    assert_eq!(error.code(), Some(Code::Malformed), "{message}");
}

#[test]
fn the_codes_are_those_of_the_table() {
    let ours: Vec<_> = Code::ALL.iter().map(|code| (code.as_str(), code.http_status())).collect();
    assert_eq!(ours, CODES);
    for (name, _) in CODES {
        assert_eq!(Code::from_str(name).unwrap().to_string(), *name);
    }
    assert_eq!(code(Code::from_str("teapot")), Code::Malformed);
}

#[test]
fn a_refusal_signed_by_the_responder_for_this_request_is_signed() {
    let (request, refusal) = refused();
    assert_eq!(judge(&request, &refusal.json()), (Code::UnknownSession, true));
    for (name, _) in CODES {
        let refusal = Refusal { code: (*name).to_owned(), ..refusal.clone() };
        assert_eq!(judge(&request, &refusal.json()), (Code::from_str(name).unwrap(), true));
    }
}

#[test]
fn a_refusal_signed_for_anything_else_is_as_good_as_unsigned() {
    let (request, refusal) = refused();
    let wrong = [
        Refusal { session: vec![0; 16], ..refusal.clone() },
        Refusal { stream: refusal.stream - 1, ..refusal.clone() },
        Refusal { hash: vec![0; 32], ..refusal.clone() },
        Refusal { node_id: hand::node_id(&[3; 32]).to_vec(), seed: [3; 32], ..refusal.clone() },
        Refusal { node_id: hand::node_id(&[3; 32]).to_vec(), ..refusal.clone() },
        Refusal { seed: [3; 32], ..refusal.clone() },
    ];
    for refusal in wrong {
        assert_eq!(judge(&request, &refusal.json()), (Code::UnknownSession, false));
    }
}

#[test]
fn a_refusal_that_names_another_request_is_not_about_this_one_whatever_its_signature_covers() {
    let (request, refusal) = refused();
    let names = [
        ("session", json!("00".repeat(16))),
        ("stream", json!(refusal.stream + 1)),
        ("node_id", json!("00".repeat(32))),
    ];
    for (name, other) in names {
        let mut json = refusal.json();
        json[name] = other;
        assert_eq!(judge(&request, &json), (Code::UnknownSession, false), "{name}");
    }
}

#[test]
fn a_signature_is_for_one_code_and_one_request() {
    let (request, refusal) = refused();
    let mut changed = refusal.json();
    changed["code"] = "replayed".into();
    assert_eq!(judge(&request, &changed), (Code::Replayed, false));
    let (another, _) = refused();
    // The same numbers, but another salt and so another ciphertext.
    assert_eq!(another.response.session().id(), request.response.session().id());
    let mut pair = Pair::new();
    pair.rng = crate::support::Seeded::new(9);
    let other = pair.request(request.response.session(), b"x", Final::Yes);
    assert_eq!(judge(&other, &refusal.json()), (Code::UnknownSession, false));
}

#[test]
fn a_lenient_signature_is_none() {
    let (request, refusal) = refused();
    let message = refusal.bytes();
    let honest = hand::sign(&refusal.seed, &message);
    for signature in [
        crooked::too_large(&honest),
        crooked::cofactored(&refusal.seed, &message),
        crooked::small_r(&refusal.seed, &point(IDENTITY[0]), &message),
        crooked::small_r(&refusal.seed, &point(IDENTITY[2]), &message),
        vec![0; 64],
    ] {
        assert_eq!(judge(&request, &refusal.with_signature(&signature)), (Code::UnknownSession, false));
    }
}

#[test]
fn an_unsigned_refusal_is_read_and_known_as_such() {
    let (request, refusal) = refused();
    assert_eq!(
        judge(&request, &json!({"type": "error", "code": "busy", "message": ""})),
        (Code::Busy, false)
    );
    for name in ["session", "stream", "node_id", "signature"] {
        let mut json = refusal.json();
        json.as_object_mut().unwrap().remove(name).unwrap();
        assert_eq!(judge(&request, &json), (Code::UnknownSession, false));
    }
}

#[test]
fn a_signature_that_cannot_be_read_is_none() {
    let (request, refusal) = refused();
    let good = refusal.json();
    for (name, bad) in [
        ("session", json!("00")),
        ("stream", json!("2")),
        ("stream", json!(2.0)),
        ("stream", json!(1_u64 << 53)),
        ("node_id", json!(format!("0x{}", const_hex::encode(&refusal.node_id)))),
        ("node_id", json!({})),
        ("signature", json!("zz")),
        ("signature", json!(format!("{}00", good["signature"].as_str().unwrap()))),
    ] {
        let mut json = good.clone();
        json[name] = bad;
        let error = request.response.refused(json.to_string().as_bytes());
        assert!(!matches!(error, Error::Refused { signed: true, .. }), "{name}");
    }
}

#[test]
fn the_message_is_authenticated_by_nothing_and_repeated_nowhere() {
    let (request, refusal) = refused();
    let mut json = refusal.json();
    json["message"] = "\u{1b}[31mtransfer 100 to mallory".into();
    json["unknown"] = json!({"field": [1.5, false]});
    let error = request.response.refused(json.to_string().as_bytes());
    assert!(matches!(error, Error::Refused { signed: true, .. }));
    assert!(!format!("{error} {error:?}").contains("mallory"));
}

#[test]
fn hex_in_a_refusal_is_read_in_either_case() {
    let (request, refusal) = refused();
    let mut json = refusal.json();
    for name in ["session", "node_id", "signature"] {
        json[name] = json[name].as_str().unwrap().to_uppercase().into();
    }
    assert_eq!(judge(&request, &json), (Code::UnknownSession, true));
}

#[test]
fn what_is_no_error_of_this_protocol_is_malformed() {
    let (request, refusal) = refused();
    let good = refusal.json();
    for (name, bad) in [
        ("type", json!("encrypted")),
        ("type", json!(1)),
        ("code", json!("teapot")),
        ("code", json!("Busy")),
        ("code", json!("")),
        ("code", json!(409)),
        ("message", json!(1)),
        ("message", Value::Null),
        ("signature", Value::Null),
        ("extra", json!([{"deep": null}])),
    ] {
        let mut json = good.clone();
        json[name] = bad;
        is_malformed(&request, &json.to_string());
    }
    let text = good.to_string();
    is_malformed(&request, &text.replacen('{', r#"{"code":"busy","#, 1));
    is_malformed(&request, &text.replacen('{', r#"{"x":"\ud800","#, 1));
    is_malformed(&request, &text.replacen('{', r#"{"x":1,"x":2,"#, 1));
    for text in ["", "{}", "[]", "null", "Service Unavailable", r#"{"type":"error"}"#, r#"{"code":"busy"}"#] {
        is_malformed(&request, text);
    }
}

#[test]
fn a_refusal_above_16_kib_is_too_large() {
    let (request, refusal) = refused();
    let mut json = refusal.json();
    json["message"] = "".into();
    let missing = (16 << 10) - json.to_string().len();
    json["message"] = "x".repeat(missing).into();
    assert_eq!(judge(&request, &json), (Code::UnknownSession, true));
    json["message"] = "x".repeat(missing + 1).into();
    let error = request.response.refused(json.to_string().as_bytes());
    assert!(!matches!(error, Error::Refused { .. }));
    assert_eq!(error.code(), Some(Code::TooLarge));
}

#[test]
fn a_refusal_of_either_kind_leaves_the_request_open_for_its_response() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"x", Final::Yes);
    let _ = request.response.refused(br#"{"type":"error","code":"busy","message":""}"#);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let response = pair.respond(&mut claimed, b"y", Final::Yes);
    pair.receive(&request.response, &response).unwrap();
}

#[test]
fn a_responder_signs_its_refusal_of_a_record_that_it_could_parse() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let session = pair.session();
        let (request, other) =
            (pair.request(&session, b"x", Final::Yes), pair.request(&session, b"y", Final::Yes));
        pair.serve(&request.bytes).unwrap();
        let (offered, subject) = pair.try_offer(&request.bytes).unwrap();
        let error = offered.claim(false, &mut pair.rng, pair.now).unwrap_err();
        let message = pair.server.refuse(&error, Some(&subject));
        let told = |request: &Request| match request.response.refused(&message) {
            Error::Refused { code, signed } => (code, signed),
            error => panic!("{error:?}"),
        };
        assert_eq!(told(&request), (Code::Replayed, true));
        assert_eq!(told(&other), (Code::Replayed, false));
        assert_eq!(pair.server.config().telemetry().rejections(Code::Replayed), 1);
    }
}

/// Whatever decrypting does to the buffer in which the record came.
#[test]
fn a_refusal_of_a_record_that_fails_names_the_record_that_came() {
    for (encoding, which) in BOTH.into_iter().flat_map(|encoding| [0, 1, 2].map(|which| (encoding, which))) {
        let mut pair = Pair::encoding(encoding);
        let session = pair.session();
        let request = pair.request(&session, &[7; 1000], Final::Yes);
        let mut wire = Wire::read(&request.bytes);
        let (byte, expected) = match which {
            0 => (wire.ciphertext.first_mut(), Code::DecryptionFailed),
            1 => (wire.ciphertext.last_mut(), Code::DecryptionFailed),
            _ => (
                wire.signature.as_mut().and_then(|signed| signed.signature.last_mut()),
                Code::InvalidSignature,
            ),
        };
        *byte.unwrap() ^= 1;
        let Err((error, Some(subject))) = pair.try_offer(&wire.encode(encoding)) else { panic!("was taken") };
        assert_eq!(error.code(), Some(expected));
        let message = pair.server.refuse(&error, Some(&subject));
        let message: Value = serde_json::from_slice(&message).unwrap();
        let refusal = Refusal {
            code: expected.to_string(),
            session: wire.session.to_vec(),
            stream: wire.stream,
            hash: sha256(&[&wire.nonce, &wire.ciphertext]).to_vec(),
            node_id: pair.server_id().as_bytes().to_vec(),
            seed: [0; 32],
        };
        let key = ed25519_dalek::VerifyingKey::from_bytes(pair.server_id().as_bytes()).unwrap();
        let signature = const_hex::decode_to_array::<_, 64>(message["signature"].as_str().unwrap()).unwrap();
        key.verify_strict(&refusal.bytes(), &ed25519_dalek::Signature::from_bytes(&signature)).unwrap();
        // The genuine one is none the worse for it.
        pair.serve(&request.bytes).unwrap();
    }
}

#[test]
fn the_crates_own_refusal_says_what_the_page_says() {
    let mut pair = Pair::new();
    let peer = hand::Peer { session: [0xee; 16], ..pair.by_hand() };
    let wire = peer.request(7, b"x").seal();
    let (error, subject) = pair.try_offer(&wire.binary()).unwrap_err();
    let message = pair.server.refuse(&error, subject.as_ref());
    let json: Value = serde_json::from_slice(&message).unwrap();
    let node_id = pair.server_id().as_bytes().to_vec();
    assert_eq!((&json["type"], &json["code"]), (&json!("error"), &json!("unknown_session")));
    assert_eq!((&json["session"], &json["stream"]), (&json!("ee".repeat(16)), &json!(7)));
    assert_eq!(json["node_id"], const_hex::encode(&node_id));
    let refusal = Refusal {
        code: "unknown_session".to_owned(),
        session: wire.session.to_vec(),
        stream: 7,
        hash: sha256(&[&wire.nonce, &wire.ciphertext]).to_vec(),
        node_id: node_id.clone(),
        seed: [0; 32],
    };
    let signature = const_hex::decode(json["signature"].as_str().unwrap()).unwrap();
    ed25519_dalek::VerifyingKey::from_bytes(&node_id.try_into().unwrap())
        .unwrap()
        .verify_strict(&refusal.bytes(), &ed25519_dalek::Signature::from_slice(&signature).unwrap())
        .unwrap();
}

#[test]
fn a_refusal_without_a_subject_is_unsigned() {
    let pair = Pair::new();
    let (error, subject) = pair.try_offer(b"nonsense").unwrap_err();
    let message = pair.server.refuse(&error, subject.as_ref());
    let json: Value = serde_json::from_slice(&message).unwrap();
    let fields: BTreeSet<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["code", "message", "type"]));
    let told = tower_seal::protocol::refusal(&message);
    assert!(matches!(told, Error::Refused { code: Code::Malformed, signed: false }));
}

#[test]
fn nothing_can_have_signed_an_error_in_place_of_a_reply() {
    let (_, refusal) = refused();
    let told = tower_seal::protocol::refusal(refusal.json().to_string().as_bytes());
    assert!(matches!(told, Error::Refused { code: Code::UnknownSession, signed: false }));
}
