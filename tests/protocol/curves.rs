//! Section 1: the points and signatures that lenient engines take.

use tower_seal::{
    Identity, NodeId,
    config::Hybrid,
    error::Code,
    protocol::{Destination, Final, Initiator, Responder},
    trust::AnyIdentity,
};

use crate::support::{
    BOTH, Pair, code, config,
    crooked::{self, IDENTITY, SMALL, point},
    hand::{self, Hello, Reply},
    wire::{Draft, Signed, Wire, batch},
};

/// u coordinates of small order (RFC 7748, section 6.1, and the high bit that X25519 masks).
const SMALL_X25519: [&str; 12] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// A pair whose sides take anybody.
fn open_pair() -> Pair {
    let mut pair = Pair::new();
    pair.server = Responder::new(config(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off));
    pair.client = config(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off);
    pair
}

/// Signatures by `seed` over `message` that some verifiers take.
fn lenient(seed: &[u8; 32], message: &[u8]) -> Vec<Vec<u8>> {
    let mut signatures: Vec<_> =
        IDENTITY.iter().map(|r| crooked::small_r(seed, &point(r), message)).collect();
    signatures.push(crooked::too_large(&hand::sign(seed, message)));
    signatures.push(crooked::cofactored(seed, message));
    signatures
}

#[test]
fn what_is_crooked_here_really_passes_a_lenient_verifier() {
    use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
    let (seed, message) = ([1; 32], b"message");
    let key = VerifyingKey::from_bytes(&hand::node_id(&seed)).unwrap();
    let lenient = |signature: &[u8]| key.verify(message, &Signature::from_slice(signature).unwrap()).is_ok();
    assert!(lenient(&crooked::small_r(&seed, &point(SMALL[0]), message)));
    assert!(lenient(&hand::sign(&seed, message)));
    let small = VerifyingKey::from_bytes(&point(SMALL[4])).unwrap();
    let (message, signature) =
        crooked::under(None, &point(SMALL[4]), true, |n| (n.to_be_bytes(), n.to_be_bytes().into()));
    assert!(small.verify(&message, &Signature::from_slice(&signature).unwrap()).is_ok());
}

#[test]
fn an_all_zero_x25519_result_is_malformed_on_either_side() {
    for text in SMALL_X25519 {
        let mut pair = Pair::new();
        let mut hello = pair.hello();
        hello.public_key = point(text).to_vec();
        assert_eq!(code(pair.accept(&hello.message())), Code::Malformed, "{text}");
        let (initiator, mut reply) = pair.reply();
        reply.public_key = point(text).to_vec();
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::Malformed, "{text}");
    }
}

#[test]
fn x25519_keys_that_are_not_canonical_but_good_are_taken() {
    // RFC 7748, section 5: the high bit is masked. No known key has u >= p but for those of small order.
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello.public_key[31] |= 0x80;
    let (reply, session) = pair.accept(&hello.message()).unwrap();
    pair.server.admit(session);
    pair.serve(&hello.finish(&reply, &[], &[]).request(1, b"hi").seal().binary()).unwrap();
}

#[test]
fn a_hello_under_a_node_id_of_small_order_is_refused() {
    let mut pair = open_pair();
    for text in SMALL {
        let (hello, signature) = crooked::under(None, &point(text), true, |attempt| {
            let mut hello = Hello { node_id: point(text).to_vec(), ..pair.hello() };
            hello.extensions.insert("attempt".into(), attempt.to_string());
            let bytes = hello.bytes();
            (hello, bytes)
        });
        let hello = Hello { signature: Some(signature), ..hello };
        assert_eq!(code(pair.accept(&hello.message())), Code::InvalidSignature, "{text}");
    }
}

#[test]
fn a_reply_under_a_node_id_of_small_order_is_refused() {
    let mut pair = open_pair();
    for text in SMALL {
        let ((initiator, reply), signature) = crooked::under(None, &point(text), true, |_| {
            let (initiator, mut reply) = pair.reply();
            reply.node_id = point(text).to_vec();
            let bytes = reply.bytes();
            ((initiator, reply), bytes)
        });
        let reply = Reply { signature: Some(signature), ..reply };
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::InvalidSignature, "{text}");
    }
}

#[test]
fn a_node_id_that_is_no_point_is_refused() {
    let mut pair = open_pair();
    let no_point = (2..).map(|y| [&[y][..], &[0; 31]].concat()).find(|bytes| {
        let bytes: [u8; 32] = bytes[..].try_into().unwrap();
        ed25519_dalek::VerifyingKey::from_bytes(&bytes).is_err()
    });
    let hello = Hello { node_id: no_point.unwrap(), ..pair.hello() };
    assert_eq!(code(pair.accept(&hello.message())), Code::InvalidSignature);
}

#[test]
fn a_hello_with_a_lenient_signature_is_refused_and_the_strict_one_then_taken() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    for signature in lenient(&hello.seed, &hello.bytes()) {
        let hello = Hello { signature: Some(signature), ..hello.clone() };
        assert_eq!(code(pair.accept(&hello.message())), Code::InvalidSignature);
    }
    pair.accept(&hello.message()).unwrap();
}

#[test]
fn a_reply_with_a_lenient_signature_is_refused() {
    for which in 0..IDENTITY.len() + 2 {
        let mut pair = Pair::new();
        let (initiator, mut reply) = pair.reply();
        reply.signature = Some(lenient(&reply.seed, &reply.bytes()).swap_remove(which));
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::InvalidSignature);
    }
}

fn signed(wire: &Wire, signature: &[u8]) -> Wire {
    let signature = signature.try_into().unwrap();
    Wire { signature: Some(Signed { signature, index: 0, siblings: Vec::new() }), ..wire.clone() }
}

/// The record with each lenient signature.
fn crooked_records(draft: &Draft, seed: &[u8; 32]) -> Vec<Wire> {
    let wire = draft.seal();
    lenient(seed, &batch(&draft.leaf(&wire))).iter().map(|signature| signed(&wire, signature)).collect()
}

#[test]
fn a_record_with_a_lenient_signature_is_refused_on_either_side() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let draft = peer.request(1, b"hi");
    for (wire, encoding) in crooked_records(&draft, &peer.seed).iter().zip(BOTH.iter().cycle()) {
        assert_eq!(code(pair.offer(&wire.encode(*encoding))), Code::InvalidSignature);
    }
    pair.serve(&draft.seal().binary()).unwrap();

    let (session, peer) = pair.with_hand();
    let request = pair.request(&session, b"hi", Final::Yes);
    let draft = peer.response(&Wire::read(&request.bytes), b"ho");
    for wire in crooked_records(&draft, &peer.seed) {
        assert_eq!(code(pair.receive(&request.response, &wire.binary())), Code::InvalidSignature);
    }
    pair.receive(&request.response, &draft.seal().binary()).unwrap();
}

/// A point of order 8 added to an honest key makes one that is canonical and not of small order: the equation
/// alone decides, and every strict engine has to decide alike.
#[test]
fn a_key_of_mixed_order_signs_only_where_the_cofactorless_equation_holds() {
    let mut pair = open_pair();
    let key = crooked::mixed(&hand::node_id(&pair.hand));
    let seed = pair.hand;
    let mut hello = |holds| {
        let (hello, signature) = crooked::under(Some(&seed), &key, holds, |attempt| {
            let mut hello = Hello { node_id: key.to_vec(), ..pair.hello() };
            hello.extensions.insert("attempt".into(), attempt.to_string());
            let bytes = hello.bytes();
            (hello, bytes)
        });
        Hello { signature: Some(signature), ..hello }.message()
    };
    let (unlucky, lucky) = (hello(false), hello(true));
    assert_eq!(code(pair.accept(&unlucky)), Code::InvalidSignature);
    let (_, session) = pair.accept(&lucky).unwrap();
    assert_eq!(session.peer(), NodeId::from_bytes(key));
}

#[test]
fn an_initiator_without_a_pinned_node_still_checks_the_key_that_answers() {
    let mut pair = open_pair();
    let (hello, initiator) = Initiator::start(&pair.client, Destination::default(), &mut pair.rng).unwrap();
    let mut reply = Reply::new(&hello, [1; 32], [2; 32], [3; 16]);
    reply.node_id = hand::node_id(&[9; 32]).to_vec();
    assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::InvalidSignature);
}
