//! No message that was changed on its way is taken for the genuine one, and none does any harm.

use std::cell::RefCell;

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Map, Value};
use tower_seal::{
    Error,
    config::{Encoding, Hybrid},
    error::Code,
    protocol::{Destination, Final, Initiator, Responder, Session},
    telemetry::Metric,
};

use crate::support::{BOTH, Duplex, Pair, SECOND, Seeded, code, exported, open};

/// What a changed handshake message may be answered with.
const OF_HANDSHAKE: &[Code] = &[
    Code::Malformed,
    Code::UnsupportedVersion,
    Code::UnsupportedSuite,
    Code::WrongAudience,
    Code::UntrustedPeer,
    Code::InvalidSignature,
];

/// What a changed record may be answered with.
const OF_RECORD: &[Code] = &[
    Code::Malformed,
    Code::UnknownSession,
    Code::Expired,
    Code::Replayed,
    Code::OutOfOrder,
    Code::DecryptionFailed,
    Code::InvalidSignature,
];

/// The message with each bit flipped.
fn flips(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..message.len() * 8).map(|bit| {
        let mut flipped = message.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

/// The message cut short at each byte, and with something behind it.
fn cuts_and_extensions(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rng = Seeded::new(3);
    let longer = (1..40).map(move |length| {
        let tail: [u8; 40] = rng.bytes();
        // JSON may have white space behind it.
        [message, &tail.map(|byte| if byte.is_ascii_whitespace() { b'x' } else { byte })[..length]].concat()
    });
    (0..message.len()).map(|length| message[..length].to_vec()).chain(longer)
}

/// Every change of one of these kinds.
fn changes(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    flips(message).chain(cuts_and_extensions(message))
}

/// What a JSON message says: its known fields, hex in one case, and no extensions where there are none.
fn meaning(message: &[u8]) -> Option<Value> {
    let mut json: Value = serde_json::from_slice(message).ok()?;
    let fields = json.as_object_mut()?;
    fields.retain(|name, value| KNOWN.contains(&name.as_str()) && *value != Value::Object(Map::new()));
    lower(&mut json);
    Some(json)
}

fn lower(value: &mut Value) {
    match value {
        Value::String(text) => text.make_ascii_lowercase(),
        Value::Array(values) => values.iter_mut().for_each(lower),
        Value::Object(fields) => fields.values_mut().for_each(lower),
        _ => {}
    }
}

const KNOWN: &[&str] = &[
    "type",
    "version",
    "public_key",
    "node_id",
    "audience",
    "suites",
    "suite",
    "signatures",
    "session",
    "expires_in",
    "extensions",
    "signature",
    "stream",
    "salt",
    "deadline",
    "nonce",
    "ciphertext",
    "path",
    "sender",
];

/// Nothing but another way to write the same message.
fn means_the_same(changed: &[u8], message: &[u8]) -> bool {
    message[0] == b'{' && meaning(changed).is_some_and(|said| Some(said) == meaning(message))
}

/// Judges each change. One that is taken means the same in JSON; how many there were.
#[track_caller]
fn judge_all<T>(
    changes: impl Iterator<Item = Vec<u8>>,
    message: &[u8],
    allowed: &[Code],
    mut judge: impl FnMut(&[u8]) -> Result<T, Error>,
) -> usize {
    let mut taken = 0;
    for changed in changes {
        match judge(&changed) {
            Ok(_) => {
                assert!(means_the_same(&changed, message), "taken: {}", changed.escape_ascii());
                taken += 1;
            }
            Err(error) => {
                let code = error.code().unwrap();
                assert!(allowed.contains(&code), "{code}: {}", changed.escape_ascii());
            }
        }
    }
    taken
}

fn start(pair: &mut Pair, seed: u64) -> (bytes::Bytes, Initiator) {
    let to = Destination { audience: Some(pair.server_id()), target: Some("/mcp"), ..Destination::default() };
    Initiator::start(&pair.client, to, &mut Seeded::new(seed)).unwrap()
}

#[test]
fn any_changed_hello_is_refused_and_the_genuine_one_then_taken() {
    let mut pair = Pair::new();
    let (hello, _) = start(&mut pair, 5);
    let taken = judge_all(changes(&hello), &hello, OF_HANDSHAKE, |changed| {
        let result = pair.accept(changed);
        if result.is_ok() {
            assert_eq!(code(pair.accept(&hello)), Code::Replayed, "it was the same hello");
            pair.server = Responder::new(pair.server.config().clone());
        }
        result
    });
    assert!(taken > 0);
    pair.accept(&hello).unwrap();
    assert_eq!(pair.server_metric(Metric::SessionsLive), 0);
    assert!(pair.server_trust.confirmations().is_empty());
}

#[test]
fn any_changed_byte_of_a_hybrid_hello_is_refused_and_the_genuine_one_then_taken() {
    let mut pair = Pair::with(|config| config.hybrid(Hybrid::Offer), |config| config.hybrid(Hybrid::Offer));
    let (hello, _) = start(&mut pair, 5);
    let low_bits = flips(&hello).step_by(8);
    let taken = judge_all(low_bits, &hello, OF_HANDSHAKE, |changed| pair.accept(changed));
    assert_eq!(taken, 0);
    pair.accept(&hello).unwrap();
}

#[test]
fn any_changed_reply_is_refused() {
    let mut pair = Pair::new();
    let (hello, initiator) = start(&mut pair, 5);
    let (reply, session) = pair.accept(&hello).unwrap();
    let same = |made: &Session| (made.id(), exported(made)) == (session.id(), exported(&session));
    let taken = judge_all(changes(&reply), &reply, OF_HANDSHAKE, |changed| {
        let (again, initiator) = start(&mut pair, 5);
        assert_eq!(again, hello);
        initiator.finish(changed, pair.now).inspect(|made| assert!(same(made)))
    });
    assert!(taken > 0);
    assert_eq!(pair.client_metric(Metric::SessionsLive), 0);
    assert!(same(&initiator.finish(&reply, pair.now).unwrap()));
}

#[test]
fn any_changed_request_is_refused_and_the_genuine_one_then_served() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let session = pair.session();
        let request = pair.request(&session, b"transfer", Final::Yes);
        pair.turn(SECOND);
        let taken = judge_all(changes(&request.bytes), &request.bytes, OF_RECORD, |changed| {
            let offered = pair.offer(changed);
            if let Ok(offered) = &offered {
                assert_eq!(&offered.plaintext()[..], b"transfer");
            }
            offered
        });
        assert_eq!(taken > 0, encoding == Encoding::Json);
        assert_eq!(pair.server_trust.confirmations().is_empty(), encoding == Encoding::Binary);
        pair.serve(&request.bytes).unwrap();
    }
}

#[test]
fn any_changed_response_is_refused_and_the_genuine_one_then_taken() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let session = pair.session();
        let request = pair.request(&session, b"?", Final::Yes);
        let mut claimed = pair.serve(&request.bytes).unwrap();
        let response = pair.respond(&mut claimed, b"receipt", Final::Yes);
        let taken = judge_all(changes(&response), &response, OF_RECORD, |changed| {
            let opened = pair.receive(&request.response, changed);
            if let Ok((opened, _)) = &opened {
                assert_eq!(&opened.plaintext[..], b"receipt");
            }
            opened
        });
        assert_eq!(taken > 0, encoding == Encoding::Json);
        assert_eq!(session.is_confirmed(), encoding == Encoding::Json);
        pair.receive(&request.response, &response).unwrap();
    }
}

#[test]
fn any_changed_record_of_a_running_stream_is_refused_and_the_genuine_one_then_taken() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
        let first = sealer.seal(&b""[..], Final::No, pair.now).unwrap();
        let second = sealer.seal(&b"message"[..], Final::Yes, pair.now).unwrap();
        let third = [&first, &second].map(|frame| {
            let changes = changes(frame).filter(|changed| !means_the_same(changed, frame));
            let taken = judge_all(changes, frame, OF_RECORD, |changed| open(&mut opener, changed, pair.now));
            assert_eq!(taken, 0);
            open(&mut opener, frame, pair.now).unwrap()
        });
        assert_eq!(&third[1].plaintext[..], b"message");
        assert!(opener.is_finished());
    }
}

#[test]
fn any_changed_first_record_of_a_hand_made_batch_is_refused() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let drafts = [peer.request(1, b"a"), peer.request(2, b"b"), peer.request(3, b"c")];
    let wires = crate::support::wire::seal_batch(&drafts, &peer.seed);
    for encoding in BOTH {
        let frame = wires[1].encode(encoding);
        judge_all(changes(&frame), &frame, OF_RECORD, |changed| pair.offer(changed));
    }
    pair.serve(&wires[1].binary()).unwrap();
}

#[test]
fn noise_is_refused_by_everything_that_reads() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"x", Final::Yes);
    let pair = RefCell::new(pair);
    let noise = (any::<Vec<u8>>(), "\\{[ -~]{0,60}\\}", any::<bool>());
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, cases: 1000, ..Default::default() });
    runner
        .run(&noise, |(noise, json, which)| {
            let bytes = if which { &noise[..] } else { json.as_bytes() };
            let mut pair = pair.borrow_mut();
            prop_assert!(pair.accept(bytes).is_err());
            prop_assert!(pair.reply().0.finish(bytes, pair.now).is_err());
            let refused = matches!(request.response.refused(bytes), Error::Refused { .. });
            prop_assert!(!refused);
            prop_assert!(pair.offer(bytes).is_err());
            Ok(())
        })
        .unwrap();
    pair.into_inner().serve(&request.bytes).unwrap();
}

#[test]
fn several_changes_at_once_are_refused_too() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let session = pair.session();
        let request = pair.request(&session, b"x", Final::Yes);
        let frame = &request.bytes[..];
        let changes = proptest::collection::vec((0..frame.len(), 1..=255_u8), 1..6);
        let mut runner =
            TestRunner::new(ProptestConfig { failure_persistence: None, cases: 5000, ..Default::default() });
        runner
            .run(&changes, |changes| {
                let mut changed = frame.to_vec();
                changes.into_iter().for_each(|(at, mask)| changed[at] ^= mask);
                let same = changed == frame || means_the_same(&changed, frame);
                prop_assert!(same || pair.offer(&changed).is_err());
                Ok(())
            })
            .unwrap();
        pair.serve(frame).unwrap();
    }
}
