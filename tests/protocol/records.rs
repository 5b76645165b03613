//! Section 4: the order of records, FINAL, keys, padding and sizes.

use bytes::BytesMut;
use tower_seal::{
    config::{Encoding, Signatures},
    error::Code,
    protocol::{Final, Opener, Record},
};

use crate::support::{
    BOTH, Duplex, MIB, Pair, assert_misuse, code, open,
    wire::{Draft, FINAL, PADDED, Wire},
};

/// Records of stream 0 by hand, and the server's opener for them.
struct Pipe {
    pair: Pair,
    peer: crate::support::hand::Peer,
    opener: Opener,
}

impl Pipe {
    fn new() -> Self {
        let mut pair = Pair::new();
        let (peer, _, opener) = pair.duplex_by_hand();
        Pipe { pair, peer, opener }
    }

    fn try_wire(&mut self, wire: &Wire) -> Result<Vec<u8>, Code> {
        let opened = open(&mut self.opener, &wire.binary(), self.pair.now);
        opened.map(|opened| opened.plaintext.to_vec()).map_err(|error| error.code().unwrap())
    }

    fn send(&mut self, draft: Draft) -> Result<Vec<u8>, Code> {
        self.try_wire(&draft.seal())
    }
}

#[test]
fn counters_start_at_0_and_rise_by_1() {
    let mut pair = Pair::new();
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    for counter in 0..5 {
        let frame = sealer.seal(&b"x"[..], Final::No, pair.now).unwrap();
        assert_eq!(Wire::read(&frame).counter(), counter);
        open(&mut opener, &frame, pair.now).unwrap();
    }
}

#[test]
fn a_lower_counter_is_replayed_and_a_higher_one_out_of_order() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    assert_eq!(pipe.send(peer.duplex(1, b"b")), Err(Code::OutOfOrder));
    assert_eq!(pipe.send(peer.duplex(0, b"a")), Ok(b"a".to_vec()));
    assert_eq!(pipe.send(peer.duplex(0, b"a")), Err(Code::Replayed));
    assert_eq!(pipe.send(peer.duplex(2, b"c")), Err(Code::OutOfOrder));
    assert_eq!(pipe.send(peer.duplex(u64::MAX, b"z")), Err(Code::OutOfOrder));
    assert_eq!(pipe.send(peer.duplex(1, b"b")), Ok(b"b".to_vec()));
    assert_eq!(pipe.send(peer.duplex(0, b"a")), Err(Code::Replayed));
    assert_eq!(pipe.send(peer.duplex(2, b"c")), Ok(b"c".to_vec()));
}

#[test]
fn the_further_records_of_an_exchange_are_counted_too() {
    let mut pair = Pair::new();
    let session = pair.session();
    let mut request = pair.request(&session, b"0", Final::No);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let mut rest = claimed.rest.take().unwrap();
    let mut seal =
        |text: &'static [u8]| request.rest.as_mut().unwrap().seal(text, Final::No, pair.now).unwrap();
    let (one, two) = (seal(b"1"), seal(b"2"));
    // An opening is extra there, whatever the counter (section 4.2).
    assert_eq!(code(open(&mut rest, &request.bytes, pair.now)), Code::Malformed);
    assert_eq!(code(open(&mut rest, &two, pair.now)), Code::OutOfOrder);
    open(&mut rest, &one, pair.now).unwrap();
    assert_eq!(code(open(&mut rest, &one, pair.now)), Code::Replayed);
    open(&mut rest, &two, pair.now).unwrap();

    let first = pair.respond(&mut claimed, b"0", Final::No);
    let (second, third) =
        (pair.respond(&mut claimed, b"1", Final::No), pair.respond(&mut claimed, b"2", Final::Yes));
    assert_eq!(code(pair.receive(&request.response, &second)), Code::Malformed);
    let (_, mut opener) = pair.receive(&request.response, &first).unwrap();
    assert_eq!(code(open(&mut opener, &first, pair.now)), Code::Malformed);
    assert_eq!(code(open(&mut opener, &third, pair.now)), Code::OutOfOrder);
    open(&mut opener, &second, pair.now).unwrap();
    assert_eq!(open(&mut opener, &third, pair.now).unwrap().last, Final::Yes);
}

#[test]
fn a_stream_is_finished_by_final_and_by_nothing_else() {
    let mut pair = Pair::new();
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    for _ in 0..3 {
        let opened =
            open(&mut opener, &sealer.seal(&b""[..], Final::No, pair.now).unwrap(), pair.now).unwrap();
        assert_eq!((opened.last, opener.is_finished()), (Final::No, false));
    }
    let last = sealer.seal(&b"bye"[..], Final::Yes, pair.now).unwrap();
    assert_eq!(Wire::read(&last).flags(), FINAL);
    assert_eq!(open(&mut opener, &last, pair.now).unwrap().last, Final::Yes);
    assert!(opener.is_finished());
    assert_misuse(sealer.seal(&b"more"[..], Final::No, pair.now));
}

#[test]
fn an_initiator_sees_when_a_response_is_truncated() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"?", Final::Yes);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    assert!(claimed.rest.is_none());
    let first = pair.respond(&mut claimed, b"half", Final::No);
    let (opened, opener) = pair.receive(&request.response, &first).unwrap();
    assert_eq!((opened.last, opener.is_finished()), (Final::No, false));
}

#[test]
fn anything_after_final_is_malformed_before_any_look_at_its_counter() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    pipe.send(peer.duplex(0, b"bye").flags(FINAL)).unwrap();
    for counter in [0, 1, 2] {
        assert_eq!(pipe.send(peer.duplex(counter, b"more")), Err(Code::Malformed));
    }
    let mut garbage = peer.duplex(1, b"more").seal();
    garbage.ciphertext.fill(0);
    assert_eq!(pipe.try_wire(&garbage), Err(Code::Malformed));
}

#[test]
fn unknown_flags_are_malformed() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    for bit in 2..8 {
        for known in [0, FINAL, PADDED, FINAL | PADDED] {
            let draft = peer.duplex(0, b"x\x01").flags(1 << bit | known);
            assert_eq!(pipe.send(draft.clone()), Err(Code::Malformed));
            let json = draft.seal().encode(Encoding::Json);
            assert_eq!(code(open(&mut pipe.opener, &json, pipe.pair.now)), Code::Malformed);
        }
    }
    pipe.send(peer.duplex(0, b"x")).unwrap();
}

#[test]
fn a_sender_takes_the_next_key_when_an_epoch_has_had_its_records() {
    let mut pair = Pair::client_limits(|limits| limits.rekey_records = 2);
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    for expected in [0, 0, 1, 1, 2, 2, 3] {
        let frame = sealer.seal(&b"x"[..], Final::No, pair.now).unwrap();
        assert_eq!(Wire::read(&frame).epoch(), expected);
        open(&mut opener, &frame, pair.now).unwrap();
    }
}

#[test]
fn a_sender_takes_the_next_key_before_an_epoch_has_more_than_its_bytes() {
    let mut pair = Pair::client_limits(|limits| limits.rekey_bytes = 10);
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    for (length, expected) in [(4, 0), (6, 0), (0, 0), (1, 1), (10, 2), (11, 3), (1, 4), (9, 4), (1, 5)] {
        let frame = sealer.seal(&vec![0; length][..], Final::No, pair.now).unwrap();
        assert_eq!(Wire::read(&frame).epoch(), expected, "{length}");
        open(&mut opener, &frame, pair.now).unwrap();
    }
}

#[test]
fn limits_beyond_those_of_the_protocol_count_for_those_of_the_protocol() {
    let mut pair = Pair::client_limits(|limits| (limits.rekey_records, limits.rekey_bytes) = (0, 0));
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    for epoch in 0..3 {
        let frame = sealer.seal(&b"x"[..], Final::No, pair.now).unwrap();
        assert_eq!(Wire::read(&frame).epoch(), epoch);
        open(&mut opener, &frame, pair.now).unwrap();
    }
}

#[test]
fn a_sender_may_raise_the_epoch_at_any_record_the_first_included() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
        for epoch in 1..4 {
            sealer.rekey().unwrap();
            let frame = sealer.seal(&b"x"[..], Final::No, pair.now).unwrap();
            assert_eq!(
                (Wire::read(&frame).epoch(), Wire::read(&frame).counter()),
                (epoch, u64::from(epoch) - 1)
            );
            open(&mut opener, &frame, pair.now).unwrap();
        }
    }
}

/// "A sender may raise it by 1 at any record": by 2 the receiver could not follow.
#[test]
fn asking_twice_for_the_next_key_raises_the_epoch_by_no_more_than_1() {
    let mut pair = Pair::new();
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    let _ = sealer.rekey();
    let _ = sealer.rekey();
    let frame = sealer.seal(&b"x"[..], Final::No, pair.now).unwrap();
    assert_eq!(Wire::read(&frame).epoch(), 1);
    open(&mut opener, &frame, pair.now).unwrap();
}

#[test]
fn a_receiver_takes_the_current_epoch_or_the_next_and_never_an_older_one() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    assert_eq!(pipe.send(peer.duplex(0, b"a").epoch(2)), Err(Code::DecryptionFailed));
    let mut far = peer.duplex(0, b"a").seal();
    far.nonce[1..4].fill(0xff);
    assert_eq!(pipe.try_wire(&far), Err(Code::DecryptionFailed));
    pipe.send(peer.duplex(0, b"a").epoch(1)).unwrap();
    assert_eq!(pipe.send(peer.duplex(1, b"b").epoch(0)), Err(Code::DecryptionFailed));
    assert_eq!(pipe.send(peer.duplex(1, b"b").epoch(3)), Err(Code::DecryptionFailed));
    pipe.send(peer.duplex(1, b"b").epoch(1)).unwrap();
    pipe.send(peer.duplex(2, b"c").epoch(2)).unwrap();
}

#[test]
fn counters_go_on_across_epochs() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    pipe.send(peer.duplex(0, b"a")).unwrap();
    assert_eq!(pipe.send(peer.duplex(0, b"b").epoch(1)), Err(Code::Replayed));
    pipe.send(peer.duplex(1, b"b").epoch(1)).unwrap();
}

#[test]
fn a_receiver_moves_to_the_next_key_only_with_a_good_record_of_it() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    let mut forged = peer.duplex(0, b"a").epoch(1).seal();
    forged.ciphertext[0] ^= 1;
    assert_eq!(pipe.try_wire(&forged), Err(Code::DecryptionFailed));
    assert_eq!(pipe.send(peer.duplex(0, b"a").epoch(1).unsigned()), Err(Code::InvalidSignature));
    assert_eq!(pipe.send(peer.duplex(0, b"a").epoch(1).flags(PADDED)), Err(Code::Malformed));
    pipe.send(peer.duplex(0, b"a").epoch(0)).unwrap();
}

#[test]
fn padding_is_removed_up_to_and_with_its_mark() {
    for (text, inside) in [
        (&b"abc\x01"[..], &b"abc"[..]),
        (b"abc\x01\0\0\0\0", b"abc"),
        (b"\x01", b""),
        (b"\x01\0", b""),
        (b"a\x01\x01", b"a\x01"),
        (b"a\0\x01\0", b"a\0"),
    ] {
        let mut pipe = Pipe::new();
        let draft = pipe.peer.duplex(0, text).flags(PADDED);
        assert_eq!(pipe.send(draft), Ok(inside.to_vec()));
    }
}

#[test]
fn padding_without_its_mark_is_malformed_and_changes_nothing() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    for text in [&b""[..], b"\0", b"\0\0\0", b"abc", b"\x01\x02", b"abc\x02\0\0", b"\x81"] {
        for flags in [PADDED, PADDED | FINAL] {
            assert_eq!(pipe.send(peer.duplex(0, text).flags(flags)), Err(Code::Malformed), "{text:?}");
        }
    }
    assert!(!pipe.opener.is_finished());
    assert!(pipe.pair.server_trust.confirmations().is_empty());
    assert_eq!(pipe.send(peer.duplex(0, b"a")), Ok(b"a".to_vec()));
}

#[test]
fn a_text_that_looks_padded_stays_as_it_is_without_the_flag() {
    let mut pipe = Pipe::new();
    let draft = pipe.peer.duplex(0, b"abc\x01\0\0");
    assert_eq!(pipe.send(draft), Ok(b"abc\x01\0\0".to_vec()));
}

#[test]
fn a_padding_policy_hides_lengths_and_loses_nothing() {
    let mut pair = Pair::padding(16);
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    for length in (0..40).chain([MIB - 17, MIB - 16, MIB - 15, MIB - 1, MIB]) {
        let text = vec![1; length];
        let frame = sealer.seal(&text[..], Final::No, pair.now).unwrap();
        let wire = Wire::read(&frame);
        let sealed = wire.ciphertext.len() - 16;
        assert!(sealed.is_multiple_of(16) && sealed <= MIB && sealed - length <= 16);
        assert_eq!(wire.flags(), if length == MIB { 0 } else { PADDED });
        assert_eq!(&open(&mut opener, &frame, pair.now).unwrap().plaintext[..], text);
    }
}

#[test]
fn without_a_policy_nothing_is_padded() {
    let mut pair = Pair::new();
    let Duplex { client: (mut sealer, _), .. } = pair.duplex();
    let wire = Wire::read(&sealer.seal(&b"abc"[..], Final::No, pair.now).unwrap());
    assert_eq!((wire.flags(), wire.ciphertext.len()), (0, 3 + 16));
}

#[test]
fn any_record_may_be_empty() {
    for signatures in [Signatures::Every, Signatures::Handshake] {
        let mut pair = Pair::signing(signatures);
        let session = pair.session();
        let mut request = pair.request(&session, b"", Final::No);
        let mut claimed = pair.serve(&request.bytes).unwrap();
        let last = request.rest.as_mut().unwrap().seal(&b""[..], Final::Yes, pair.now).unwrap();
        assert!(open(claimed.rest.as_mut().unwrap(), &last, pair.now).unwrap().plaintext.is_empty());
        let first = pair.respond(&mut claimed, b"", Final::No);
        let last = pair.respond(&mut claimed, b"", Final::Yes);
        let (opened, mut opener) = pair.receive(&request.response, &first).unwrap();
        assert!(opened.plaintext.is_empty());
        assert!(open(&mut opener, &last, pair.now).unwrap().plaintext.is_empty());
    }
}

#[test]
fn a_record_of_1_mib_is_sent_and_taken_and_no_longer_one_is_sent() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
        assert_misuse(sealer.seal(&vec![0; MIB + 1][..], Final::No, pair.now));
        let frame = sealer.seal(&vec![7; MIB][..], Final::No, pair.now).unwrap();
        assert_eq!(open(&mut opener, &frame, pair.now).unwrap().plaintext, vec![7; MIB]);
    }
}

#[test]
fn a_record_above_the_limit_is_too_large_before_anything_else_is_known_of_it() {
    let pipe = Pipe::new();
    for encoding in BOTH {
        let parse = |length, limit| {
            let wire = pipe.peer.duplex(0, &vec![0; length]).seal();
            Record::parse(BytesMut::from(&wire.encode(encoding)[..]), encoding, limit)
        };
        parse(1000, 1000).unwrap();
        assert_eq!(code(parse(1001, 1000)), Code::TooLarge);
        assert_eq!(code(parse(1, 0)), Code::TooLarge);
        parse(0, 0).unwrap();
    }
}

#[test]
fn what_a_receiver_has_to_let_in_is_enough_for_any_record() {
    let pipe = Pipe::new();
    for length in [0, 1, 1000] {
        let draft =
            Draft { opening: Some(([7; 16], u64::MAX >> 11)), ..pipe.peer.request(1, &vec![0; length]) };
        let wire = draft.seal_in_batch(0xffff, &[[0xff; 32]; 16]);
        for encoding in BOTH {
            assert!(wire.encode(encoding).len() <= Record::longest(encoding, length));
        }
        assert_eq!(wire.binary().len(), Record::longest(Encoding::Binary, length));
    }
}

#[test]
fn a_ciphertext_without_room_for_its_tag_is_malformed() {
    let mut pipe = Pipe::new();
    for length in 0..16 {
        let mut wire = pipe.peer.duplex(0, b"").seal();
        wire.ciphertext.truncate(length);
        assert_eq!(pipe.try_wire(&wire), Err(Code::Malformed));
        let json = wire.encode(Encoding::Json);
        assert_eq!(code(open(&mut pipe.opener, &json, pipe.pair.now)), Code::Malformed);
    }
}

#[test]
fn counter_then_aead_then_signature_then_padding() {
    let mut pipe = Pipe::new();
    let peer = pipe.peer.clone();
    let mut wire = peer.duplex(1, b"abc").flags(PADDED).unsigned().seal();
    wire.ciphertext[0] ^= 1;
    assert_eq!(pipe.try_wire(&wire), Err(Code::OutOfOrder));
    let mut wire = peer.duplex(0, b"abc").flags(PADDED).unsigned().seal();
    wire.ciphertext[0] ^= 1;
    assert_eq!(pipe.try_wire(&wire), Err(Code::DecryptionFailed));
    assert_eq!(pipe.send(peer.duplex(0, b"abc").flags(PADDED).unsigned()), Err(Code::InvalidSignature));
    assert_eq!(pipe.send(peer.duplex(0, b"abc").flags(PADDED)), Err(Code::Malformed));
    pipe.send(peer.duplex(0, b"abc")).unwrap();
}
