//! Section 5: one signature for several records.

use serde_json::json;
use tower_seal::{
    NodeId,
    config::Encoding,
    error::Code,
    protocol::{Final, Record},
    telemetry::Metric,
};

use crate::support::{
    BOTH, Pair, code, hand, open, parse,
    wire::{Draft, Signed, Wire, seal_batch},
};

fn judge(wire: &Wire, encoding: Encoding) -> Result<Record, Code> {
    parse(&wire.encode(encoding)).map_err(|error| error.code().unwrap())
}

#[test]
fn every_receiver_takes_records_that_were_signed_together() {
    for count in [2, 3, 4, 5, 9] {
        let mut pair = Pair::new();
        let peers = [pair.by_hand(), pair.by_hand()];
        let drafts: Vec<Draft> = (0..count).map(|i| peers[i % 2].request(i as u64 + 1, b"x")).collect();
        let depth = count.next_power_of_two().trailing_zeros() as usize;
        for (wire, encoding) in seal_batch(&drafts, &pair.hand).iter().rev().zip(BOTH.iter().cycle()) {
            assert_eq!(wire.signature.as_ref().unwrap().siblings.len(), depth);
            pair.serve(&wire.encode(*encoding)).unwrap();
        }
    }
}

#[test]
fn the_records_of_one_stream_may_be_signed_together() {
    let mut pair = Pair::new();
    let (peer, _, mut opener) = pair.duplex_by_hand();
    let drafts: Vec<Draft> = (0..6).map(|counter| peer.duplex(counter, b"x")).collect();
    for wire in seal_batch(&drafts, &peer.seed) {
        open(&mut opener, &wire.binary(), pair.now).unwrap();
    }
}

#[test]
fn an_initiator_takes_them_too() {
    let mut pair = Pair::new();
    let (session, peer) = pair.with_hand();
    let requests: Vec<_> = (0..3).map(|_| pair.request(&session, b"?", Final::Yes)).collect();
    let drafts: Vec<Draft> =
        requests.iter().map(|request| peer.response(&Wire::read(&request.bytes), b"!")).collect();
    for (request, wire) in requests.iter().zip(seal_batch(&drafts, &peer.seed)) {
        pair.receive(&request.response, &wire.binary()).unwrap();
    }
}

#[test]
fn a_path_has_up_to_16_siblings_on_either_side() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    for (stream, index) in [0, 1, 0x5555, 0xaaaa, 0x8000, 0xffff].into_iter().enumerate() {
        let siblings: Vec<[u8; 32]> = (0..16).map(|level| [level; 32]).collect();
        let wire = peer.request(stream as u64 + 1, b"x").seal_in_batch(index, &siblings);
        for encoding in BOTH {
            pair.offer(&wire.encode(encoding)).unwrap();
        }
        let longer = [siblings, vec![[16; 32]]].concat();
        let wire = peer.request(9, b"x").seal_in_batch(index, &longer);
        for encoding in BOTH {
            assert_eq!(judge(&wire, encoding).err(), Some(Code::Malformed));
        }
    }
}

#[test]
fn an_index_is_below_2_to_the_number_of_siblings() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    for count in [1, 2, 15, 16] {
        let siblings = vec![[5; 32]; count];
        for index in [1 << count, 1 << 31] {
            let wire = peer.request(1, b"x").seal_in_batch(index, &siblings);
            for encoding in BOTH {
                assert_eq!(judge(&wire, encoding).err(), Some(Code::Malformed), "{index} of {count}");
            }
        }
        pair.offer(&peer.request(1, b"x").seal_in_batch((1 << count) - 1, &siblings).binary()).unwrap();
    }
    let mut lone = peer.request(1, b"x").seal();
    lone.signature.as_mut().unwrap().index = 1;
    assert_eq!(judge(&lone, Encoding::Binary).err(), Some(Code::Malformed));
    let high = peer.request(1, b"x").seal_in_batch(1 << 32, &[[5; 32]]);
    assert_eq!(judge(&high, Encoding::Json).err(), Some(Code::Malformed));
}

#[test]
fn a_path_that_is_not_the_way_to_the_root_is_an_invalid_signature() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let drafts: Vec<Draft> = (1..=5).map(|stream| peer.request(stream, b"x")).collect();
    let wire = seal_batch(&drafts, &peer.seed).swap_remove(2);
    let changes: [fn(&mut Signed); 7] = [
        |signed| signed.index ^= 1,
        |signed| signed.index ^= 2,
        |signed| signed.index ^= 4,
        |signed| signed.siblings.swap(0, 1),
        |signed| signed.siblings[2][31] ^= 1,
        |signed| signed.siblings.truncate(2),
        |signed| signed.siblings.push([0; 32]),
    ];
    for change in changes {
        let mut changed = wire.clone();
        change(changed.signature.as_mut().unwrap());
        for encoding in BOTH {
            assert_eq!(code(pair.offer(&changed.encode(encoding))), Code::InvalidSignature);
        }
    }
    pair.offer(&wire.binary()).unwrap();
}

#[test]
fn a_signature_for_one_record_is_none_for_another_of_the_batch() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let drafts = [peer.request(1, b"x"), peer.request(2, b"x")];
    let [mut first, mut second] = <[Wire; 2]>::try_from(seal_batch(&drafts, &peer.seed)).unwrap();
    std::mem::swap(&mut first.signature, &mut second.signature);
    assert_eq!(code(pair.offer(&first.binary())), Code::InvalidSignature);
    assert_eq!(code(pair.offer(&second.binary())), Code::InvalidSignature);
}

#[test]
fn a_batch_of_another_signer_is_invalid() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let drafts = [peer.request(1, b"x"), peer.request(2, b"x")];
    for wire in seal_batch(&drafts, &[3; 32]) {
        assert_eq!(code(pair.offer(&wire.binary())), Code::InvalidSignature);
    }
}

#[test]
fn a_root_that_was_verified_vouches_for_its_very_signature_only() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let drafts = [peer.request(1, b"x"), peer.request(2, b"x")];
    let [first, mut second] = <[Wire; 2]>::try_from(seal_batch(&drafts, &peer.seed)).unwrap();
    pair.serve(&first.binary()).unwrap();
    second.signature.as_mut().unwrap().signature = hand::sign(&peer.seed, b"something else");
    assert_eq!(code(pair.offer(&second.binary())), Code::InvalidSignature);
}

#[test]
fn a_root_that_was_verified_for_one_sender_proves_nothing_for_another() {
    let mut pair = Pair::new();
    let one = pair.by_hand();
    pair.hand = [2; 32];
    pair.server_trust.add(NodeId::from_bytes(hand::node_id(&pair.hand)));
    let other = pair.by_hand();
    // All of it holds, path and signature, but for who signed: that is not the peer of the second one's session.
    let drafts = [one.request(1, b"x"), other.request(1, b"x"), one.request(2, b"x")];
    let [first, foreign, last] = <[Wire; 3]>::try_from(seal_batch(&drafts, &one.seed)).unwrap();
    pair.serve(&first.binary()).unwrap();
    let verified = pair.server_metric(Metric::SignaturesVerified);
    pair.serve(&last.binary()).unwrap();
    assert_eq!(pair.server_metric(Metric::SignaturesVerified), verified, "the root is remembered");
    for encoding in BOTH {
        assert_eq!(code(pair.offer(&foreign.encode(encoding))), Code::InvalidSignature);
    }
    let mut honest = foreign.json();
    honest["sender"] = const_hex::encode(first.sender).into();
    assert_eq!(code(pair.offer(honest.to_string().as_bytes())), Code::InvalidSignature);
    // The same record, signed by its own sender.
    pair.serve(&drafts[1].seal().binary()).unwrap();
}

#[test]
fn a_path_is_never_without_siblings_index_or_signature() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let drafts = [peer.request(1, b"x"), peer.request(2, b"x")];
    let wire = seal_batch(&drafts, &peer.seed).swap_remove(0);
    let sibling = const_hex::encode(wire.signature.as_ref().unwrap().siblings[0]);
    for path in [
        json!({"index": 0, "siblings": []}),
        json!({"index": 0}),
        json!({"siblings": [sibling]}),
        json!({"index": "0", "siblings": [sibling]}),
        json!({"index": 0, "siblings": [sibling[2..]]}),
        json!({"index": 0, "siblings": [format!("{sibling}00")]}),
        json!({"index": 0, "siblings": [0]}),
        json!({"index": 0, "siblings": sibling}),
        json!([]),
        json!(""),
    ] {
        let mut json = wire.json();
        json["path"] = path;
        assert_eq!(code(parse(json.to_string().as_bytes())), Code::Malformed, "{}", json["path"]);
    }
    let mut json = wire.json();
    json.as_object_mut().unwrap().remove("signature").unwrap();
    assert_eq!(code(parse(json.to_string().as_bytes())), Code::Malformed);
    let mut json = wire.json();
    json["path"]["note"] = "unknown".into();
    pair.offer(json.to_string().as_bytes()).unwrap();
}
