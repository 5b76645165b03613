//! Section 5: which records are signed, what a signature covers, and batches.

use tower_seal::{
    config::{Encoding, Signatures},
    error::Code,
    protocol::Final,
};

use crate::support::{
    BOTH, Duplex, Pair, code, hand, open,
    wire::{Draft, Signed, Wire, batch, opening_bytes},
};

fn is_signed(frame: &[u8]) -> bool {
    Wire::read(frame).signature.is_some()
}

/// A pair whose two implementations speak under `policy: handshake`, and a session by hand.
fn lax() -> (Pair, hand::Peer) {
    let mut pair = Pair::signing(Signatures::Handshake);
    let mut hello = pair.hello();
    hello.signatures = "handshake".into();
    let (reply, session) = pair.accept(&hello.message()).unwrap();
    pair.server.admit(session);
    let peer = hello.finish(&reply, &[], &[]);
    (pair, peer)
}

fn with_signature(wire: &Wire, signature: [u8; 64]) -> Wire {
    Wire { signature: Some(Signed { signature, index: 0, siblings: Vec::new() }), ..wire.clone() }
}

#[test]
fn under_policy_every_each_record_is_signed() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let session = pair.session();
        for _ in 0..2 {
            let mut request = pair.request(&session, b"a", Final::No);
            let more = request.rest.as_mut().unwrap().seal(&b"b"[..], Final::Yes, pair.now).unwrap();
            let mut claimed = pair.serve(&request.bytes).unwrap();
            let first = pair.respond(&mut claimed, b"c", Final::No);
            let last = pair.respond(&mut claimed, b"d", Final::Yes);
            assert!([&request.bytes, &more, &first, &last].into_iter().all(|frame| is_signed(frame)));
            pair.receive(&request.response, &first).unwrap();
        }
    }
}

#[test]
fn under_policy_every_no_unsigned_record_is_taken_by_a_responder() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    assert_eq!(code(pair.offer(&peer.request(1, b"a").unsigned().seal().binary())), Code::InvalidSignature);
    let mut claimed = pair.serve(&peer.request(1, b"a").flags(0).seal().binary()).unwrap();
    let mut rest = claimed.rest.take().unwrap();
    let second = peer.request(1, b"b").counter(1);
    for encoding in BOTH {
        let unsigned = second.clone().unsigned().seal().encode(encoding);
        assert_eq!(code(open(&mut rest, &unsigned, pair.now)), Code::InvalidSignature);
    }
    open(&mut rest, &second.seal().binary(), pair.now).unwrap();
    assert_eq!(code(pair.offer(&peer.request(2, b"a").unsigned().seal().binary())), Code::InvalidSignature);
}

#[test]
fn under_policy_every_no_unsigned_record_is_taken_by_an_initiator() {
    let mut pair = Pair::new();
    let (session, peer) = pair.with_hand();
    for _ in 0..2 {
        let request = pair.request(&session, b"?", Final::Yes);
        let response = peer.response(&Wire::read(&request.bytes), b"!").flags(0);
        let unsigned = response.clone().unsigned().seal().binary();
        assert_eq!(code(pair.receive(&request.response, &unsigned)), Code::InvalidSignature);
        let (_, mut opener) = pair.receive(&request.response, &response.seal().binary()).unwrap();
        let second = response.counter(1);
        let unsigned = second.clone().unsigned().seal().binary();
        assert_eq!(code(open(&mut opener, &unsigned, pair.now)), Code::InvalidSignature);
        open(&mut opener, &second.seal().binary(), pair.now).unwrap();
    }
}

#[test]
fn under_policy_handshake_the_initiator_signs_until_it_has_opened_a_record() {
    let mut pair = Pair::signing(Signatures::Handshake);
    let session = pair.session();
    let mut first = pair.request(&session, b"1", Final::No);
    let second = pair.request(&session, b"2", Final::Yes);
    let upload = first.rest.as_mut().unwrap();
    assert!(is_signed(&first.bytes) && is_signed(&second.bytes));
    assert!(is_signed(&upload.seal(&b"a"[..], Final::No, pair.now).unwrap()));

    let mut claimed = pair.serve(&second.bytes).unwrap();
    let response = pair.respond(&mut claimed, b"!", Final::No);
    assert!(!is_signed(&response) && !is_signed(&pair.respond(&mut claimed, b"!", Final::Yes)));
    let mut forged = response.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(code(pair.receive(&second.response, &forged)), Code::DecryptionFailed);
    assert!(is_signed(&upload.seal(&b"b"[..], Final::No, pair.now).unwrap()), "no record has been opened");

    pair.receive(&second.response, &response).unwrap();
    assert!(!is_signed(&upload.seal(&b"c"[..], Final::Yes, pair.now).unwrap()));
    let third = pair.request(&session, b"3", Final::Yes);
    assert!(!is_signed(&third.bytes));
    pair.serve(&third.bytes).unwrap();
}

#[test]
fn under_policy_handshake_a_duplex_initiator_signs_until_it_has_opened_a_record() {
    let mut pair = Pair::signing(Signatures::Handshake);
    let Duplex { client: (mut up, mut down), server: (mut sealer, mut opener) } = pair.duplex();
    for _ in 0..2 {
        let frame = up.seal(&b""[..], Final::No, pair.now).unwrap();
        assert!(is_signed(&frame));
        open(&mut opener, &frame, pair.now).unwrap();
    }
    let frame = sealer.seal(&b""[..], Final::No, pair.now).unwrap();
    assert!(!is_signed(&frame));
    open(&mut down, &frame, pair.now).unwrap();
    let frame = up.seal(&b""[..], Final::No, pair.now).unwrap();
    assert!(!is_signed(&frame));
    open(&mut opener, &frame, pair.now).unwrap();
}

#[test]
fn under_policy_handshake_the_responder_takes_no_unsigned_record_before_a_signed_one() {
    let (mut pair, peer) = lax();
    let unsigned = peer.request(1, b"a").unsigned().seal();
    assert_eq!(code(pair.offer(&unsigned.binary())), Code::InvalidSignature);
    let forged = with_signature(&unsigned, hand::sign(&[1; 32], b"nonsense"));
    assert_eq!(code(pair.offer(&forged.binary())), Code::InvalidSignature);
    assert_eq!(code(pair.offer(&unsigned.binary())), Code::InvalidSignature);
    pair.offer(&peer.request(2, b"b").seal().binary()).unwrap();
    pair.serve(&unsigned.binary()).unwrap();
}

#[test]
fn under_policy_handshake_an_initiator_takes_unsigned_records() {
    let mut pair = Pair::signing(Signatures::Handshake);
    let (initiator, mut reply) = pair.reply();
    reply.signatures = "handshake".into();
    let session = initiator.finish(&reply.message(), pair.now).unwrap().into();
    let peer = reply.finish(&[], &[]);
    let request = pair.request(&session, b"?", Final::Yes);
    let response = peer.response(&Wire::read(&request.bytes), b"!");
    for draft in [response.clone().unsigned(), response] {
        pair.receive(&request.response, &draft.seal().binary()).unwrap();
    }
}

#[test]
fn a_signature_that_is_present_is_always_verified() {
    let (mut pair, peer) = lax();
    pair.serve(&peer.request(1, b"a").seal().binary()).unwrap();
    let draft = peer.request(2, b"b");
    let wire = draft.seal();
    for signature in [[0; 64], hand::sign(&peer.seed, b"x"), hand::sign(&[1; 32], &batch(&draft.leaf(&wire)))]
    {
        let wire = with_signature(&wire, signature);
        assert_eq!(code(pair.offer(&wire.binary())), Code::InvalidSignature);
    }
    let mut claimed = pair.serve(&draft.clone().flags(0).seal().binary()).unwrap();
    let wrong = with_signature(&draft.clone().counter(1).seal(), [0; 64]).binary();
    assert_eq!(code(open(claimed.rest.as_mut().unwrap(), &wrong, pair.now)), Code::InvalidSignature);
    open(claimed.rest.as_mut().unwrap(), &draft.counter(1).unsigned().seal().binary(), pair.now).unwrap();
}

#[test]
fn a_present_signature_of_a_responder_is_verified_with_the_leaf_of_the_request() {
    let mut pair = Pair::signing(Signatures::Handshake);
    let (initiator, mut reply) = pair.reply();
    reply.signatures = "handshake".into();
    let session = initiator.finish(&reply.message(), pair.now).unwrap().into();
    let peer = reply.finish(&[], &[]);
    let request = pair.request(&session, b"?", Final::Yes);
    let response = peer.response(&Wire::read(&request.bytes), b"!");
    for request_leaf in [Vec::new(), vec![0; 32]] {
        let wrong = Draft { request_leaf, ..response.clone() };
        assert_eq!(code(pair.receive(&request.response, &wrong.seal().binary())), Code::InvalidSignature);
    }
    pair.receive(&request.response, &response.seal().binary()).unwrap();
}

#[test]
fn a_response_says_by_its_signature_which_request_it_answers() {
    let mut pair = Pair::new();
    let (session, peer) = pair.with_hand();
    let request = pair.request(&session, b"?", Final::Yes);
    let other = pair.request(&session, b"another", Final::Yes);
    let response = peer.response(&Wire::read(&request.bytes), b"!");
    let of_other = peer.response(&Wire::read(&other.bytes), b"!").request_leaf;
    for request_leaf in [Vec::new(), of_other, vec![0; 32]] {
        let wrong = Draft { request_leaf, ..response.clone() };
        assert_eq!(code(pair.receive(&request.response, &wrong.seal().binary())), Code::InvalidSignature);
    }
    let (_, mut opener) =
        pair.receive(&request.response, &response.clone().flags(0).seal().binary()).unwrap();
    let second = Draft { request_leaf: Vec::new(), ..response.clone() }.counter(1);
    assert_eq!(code(open(&mut opener, &second.seal().binary(), pair.now)), Code::InvalidSignature);
    open(&mut opener, &response.counter(1).seal().binary(), pair.now).unwrap();
}

#[test]
fn the_crates_own_signatures_cover_what_the_page_says() {
    use ed25519_dalek::{Signature, VerifyingKey};
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let request = peer.request(1, b"?").seal();
    let mut claimed = pair.serve(&request.binary()).unwrap();
    let key = VerifyingKey::from_bytes(pair.server_id().as_bytes()).unwrap();
    let mut opening = None;
    for (counter, last) in [(0, Final::No), (1, Final::Yes)] {
        let response = Wire::read(&pair.respond(&mut claimed, b"!", last));
        opening = opening.or(response.opening);
        let draft = Draft { opening, direction: 1, ..peer.response(&request, b"") }.counter(counter);
        let signature = Signature::from_bytes(&response.signature.as_ref().unwrap().signature);
        key.verify_strict(&batch(&draft.leaf(&response)), &signature).unwrap();
        assert_eq!(response.open(&peer.keys, 1, 1, &opening_bytes(opening.unwrap())).unwrap(), b"!");
    }
}

#[test]
fn a_signature_covers_session_direction_stream_opening_and_label() {
    let mut pair = Pair::new();
    let (peer, other) = (pair.by_hand(), pair.by_hand());
    let draft = peer.request(1, b"a");
    let wire = draft.seal();
    let wrong = [
        Draft { keys: other.keys.clone(), ..draft.clone() },
        Draft { direction: 1, ..draft.clone() },
        Draft { stream: 2, ..draft.clone() },
        Draft { opening: Some(([8; 16], 60_000)), ..draft.clone() },
        Draft { opening: Some(([7; 16], 60_001)), ..draft.clone() },
        Draft { opening: None, ..draft.clone() },
        Draft { request_leaf: vec![0; 32], ..draft.clone() },
    ];
    let mut messages: Vec<_> = wrong.iter().map(|draft| batch(&draft.leaf(&wire))).collect();
    messages.push(draft.leaf(&wire).to_vec());
    messages.push([&hand::lp(b"tower-seal/1 record")[..], &draft.leaf(&wire)].concat());
    messages.push(wire.ciphertext.clone());
    for message in messages {
        let wire = with_signature(&wire, hand::sign(&peer.seed, &message));
        assert_eq!(code(pair.offer(&wire.binary())), Code::InvalidSignature);
    }
    pair.offer(&with_signature(&wire, hand::sign(&peer.seed, &batch(&draft.leaf(&wire)))).binary()).unwrap();
}

#[test]
fn a_signature_of_another_node_is_invalid_whoever_it_says_to_be() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let seed = [3; 32];
    for sender in [hand::node_id(&seed), hand::node_id(&peer.seed)] {
        let draft = Draft { signer: Some(seed), sender, ..peer.request(1, b"a") };
        for encoding in BOTH {
            assert_eq!(code(pair.offer(&draft.seal().encode(encoding))), Code::InvalidSignature);
        }
    }
}

#[test]
fn a_sender_that_is_not_the_peer_is_invalid_whatever_the_signature() {
    let (mut pair, peer) = lax();
    let draft = Draft { sender: hand::node_id(&[3; 32]), ..peer.request(1, b"a") };
    assert_eq!(code(pair.offer(&draft.seal().encode(Encoding::Json))), Code::InvalidSignature);
    pair.serve(&peer.request(2, b"a").seal().binary()).unwrap();
    let unsigned = draft.unsigned().seal().encode(Encoding::Json);
    assert_eq!(code(pair.offer(&unsigned)), Code::InvalidSignature);
    let own = Draft { sender: *pair.server_id().as_bytes(), ..peer.request(1, b"a") };
    assert_eq!(code(pair.offer(&own.seal().encode(Encoding::Json))), Code::InvalidSignature);
}
