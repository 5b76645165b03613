//! The way from a record to the root that was signed is checked without a single allocation, however long it is.

use std::time::Instant;

use tower_seal::protocol::{Record, Responder};

use crate::{
    alone, cost, hand,
    readers::{config, rng},
};

#[test]
fn a_path_costs_no_block_of_memory() {
    let _alone = alone();
    let (responder, now) = (Responder::new(config()), Instant::now());
    let hello = hand::Hello::new([5; 32], [6; 32]);
    let (reply, session) = responder.accept(&hello.message(), |_| true, || true, &mut rng(), now).unwrap();
    responder.admit(session);
    let peer = hello.finish(&reply, &[], &[]);
    let once = |stream, siblings: usize, forged: bool| {
        let mut wire = match siblings {
            0 => peer.request(stream, b"x").seal(),
            _ => peer.request(stream, b"x").seal_in_batch(0, &[[7; 32]; 16][..siblings]),
        };
        wire.signature.as_mut().unwrap().signature[0] ^= u8::from(forged);
        let frame = bytes::BytesMut::from(&wire.binary()[..]);
        let record = Record::parse(frame, tower_seal::config::Encoding::Binary, 1 << 20).unwrap();
        cost(|| assert_eq!(responder.open(record, now).is_err(), forged)).blocks
    };
    // What runs the tests may allocate at any time, but not every time.
    let open = |stream, siblings, forged| (0..10).map(|_| once(stream, siblings, forged)).min();
    // The first path makes room for the roots that are known, once.
    open(1, 16, false);
    for forged in [false, true] {
        let lone = open(2, 0, forged);
        for siblings in 1..=16 {
            assert_eq!(open(3, siblings, forged), lone, "{siblings} siblings, forged: {forged}");
        }
    }
}
