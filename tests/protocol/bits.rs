//! Each bit of a binary record, and what is said to a record in which it is another: section 4.2 as a table.

use tower_seal::{error::Code, protocol::Final};

use crate::support::{Duplex, Pair, code, open, wire};

use Code::{DecryptionFailed, InvalidSignature, Malformed, OutOfOrder, UnknownSession};

/// A field: how many bytes it has, and the codes that a flip of a bit in it may have, by the bit's number from the
/// most significant one on.
type Field = (&'static str, usize, fn(usize) -> &'static [Code]);

/// Above 2^53-1 nothing is a number of the protocol.
fn number(bit: usize) -> &'static [Code] {
    if bit < 11 { &[Malformed] } else { &[DecryptionFailed] }
}

const HEAD: [Field; 2] = [
    ("kind", 1, |_| &[Malformed]),
    // Without its opening or its signature, or with one, everything behind is read as something else.
    ("flags", 1, |bit| if bit < 6 { &[Malformed] } else { &[Malformed, DecryptionFailed] }),
];

const OPENING: [Field; 4] = [
    ("session", 16, |_| &[UnknownSession]),
    // 9, so that no flip makes a 0 of it.
    ("stream", 8, number),
    ("salt", 16, |_| &[DecryptionFailed]),
    ("deadline", 8, number),
];

const NONCE: [Field; 3] = [
    ("flags of the nonce", 1, |bit| if bit < 6 { &[Malformed] } else { &[DecryptionFailed] }),
    ("epoch", 3, |_| &[DecryptionFailed]),
    ("counter", 8, |_| &[OutOfOrder]),
];

const SIGNATURE: [Field; 3] = [
    ("signature", 64, |_| &[InvalidSignature]),
    ("number of siblings", 1, |_| &[Malformed, DecryptionFailed]),
    // With a path, an index within its tree leads to another root.
    ("index", 4, |_| &[Malformed, InvalidSignature]),
];

/// Flips every bit, and compares what is said with the table. `siblings` are behind the index.
#[track_caller]
fn check(frame: &[u8], fields: &[Field], siblings: usize, mut said: impl FnMut(&[u8]) -> Code) {
    let siblings: Field = ("siblings", siblings * 32, |_| &[InvalidSignature]);
    let rest = frame.len() - fields.iter().map(|field| field.1).sum::<usize>() - siblings.1;
    let ciphertext: Field = ("ciphertext", rest, |_| &[DecryptionFailed]);
    let mut at = 0;
    for (name, length, codes) in fields.iter().chain([&siblings, &ciphertext]) {
        for bit in 0..length * 8 {
            let mut flipped = frame.to_vec();
            flipped[at + bit / 8] ^= 0x80 >> (bit % 8);
            let code = said(&flipped);
            assert!(codes(bit).contains(&code), "{name}, bit {bit}: {code}");
        }
        at += length;
    }
    assert_eq!(at, frame.len());
}

#[test]
fn of_a_request() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let frame = peer.request(9, b"transfer").seal().binary();
    let fields = [&HEAD[..], &OPENING, &NONCE, &SIGNATURE].concat();
    check(&frame, &fields, 0, |flipped| code(pair.offer(flipped)));
    pair.serve(&frame).unwrap();
}

#[test]
fn of_a_request_with_a_path() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let drafts: Vec<_> = (7..12).map(|stream| peer.request(stream, b"transfer")).collect();
    let frame = wire::seal_batch(&drafts, &peer.seed).swap_remove(2).binary();
    let fields = [&HEAD[..], &OPENING, &NONCE, &SIGNATURE].concat();
    check(&frame, &fields, 3, |flipped| code(pair.offer(flipped)));
    pair.serve(&frame).unwrap();
}

#[test]
fn of_a_response() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"?", Final::Yes);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let frame = pair.respond(&mut claimed, b"receipt", Final::Yes);
    // Whatever is not the response of this request is malformed; and a response has no deadline.
    let opening: [Field; 4] = [
        ("session", 16, |_| &[Malformed]),
        ("stream", 8, |_| &[Malformed]),
        ("salt", 16, |_| &[DecryptionFailed]),
        ("deadline", 8, |_| &[Malformed]),
    ];
    let fields = [&HEAD[..], &opening, &NONCE, &SIGNATURE].concat();
    check(&frame, &fields, 0, |flipped| code(pair.receive(&request.response, flipped)));
    pair.receive(&request.response, &frame).unwrap();
}

#[test]
fn of_the_records_of_a_connection() {
    let mut pair = Pair::new();
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    // The second counter is 1: with it 0 a record has come before.
    let second: [Field; 3] =
        [NONCE[0], NONCE[1], ("counter", 8, |bit| if bit == 63 { &[Code::Replayed] } else { &[OutOfOrder] })];
    for nonce in [&NONCE, &second] {
        let frame = sealer.seal(&b"message"[..], Final::No, pair.now).unwrap();
        let fields = [&HEAD[..], nonce, &SIGNATURE].concat();
        check(&frame, &fields, 0, |flipped| code(open(&mut opener, flipped, pair.now)));
        open(&mut opener, &frame, pair.now).unwrap();
    }
}
