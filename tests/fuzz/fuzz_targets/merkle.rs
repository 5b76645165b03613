//! Records that carry a path of any shape: taken exactly where it leads to the root that was signed.

#![no_main]

use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tower_seal::config::Encoding;
use tower_seal_fuzz::{handshake, parse, responder};

#[allow(dead_code)]
#[path = "../../protocol/support/hand.rs"]
mod hand;
#[allow(dead_code)]
#[path = "../../protocol/support/wire.rs"]
mod wire;

#[derive(Arbitrary, Debug)]
struct Input {
    json: bool,
    index: u32,
    siblings: Vec<[u8; 32]>,
    /// What is made of the path after it was signed.
    index_changed: u32,
    siblings_changed: Vec<(u8, u8, u8)>,
    cut: u8,
    more: Vec<[u8; 32]>,
}

fuzz_target!(|input: Input| {
    let now = Instant::now();
    let (responder, mut script) = responder(handshake("exchange-every"));
    let hello = hand::Hello::new([5; 32], [6; 32]);
    let (reply, session) = responder.accept(&hello.message(), |_| true, || true, &mut script, now).unwrap();
    responder.admit(session);
    let peer = hello.finish(&reply, &[], &[]);
    // In JSON a record without siblings has no index.
    let is_lone = |siblings: &[_]| input.json && siblings.is_empty();
    let index = if is_lone(&input.siblings) { 0 } else { input.index };
    let genuine = peer.request(1, b"x").seal_in_batch(index.into(), &input.siblings);
    let mut changed = genuine.clone();
    let signed = changed.signature.as_mut().unwrap();
    signed.index ^= u64::from(input.index_changed);
    for (sibling, byte, mask) in input.siblings_changed {
        let sibling = signed.siblings.get_mut(usize::from(sibling));
        sibling.into_iter().for_each(|sibling| sibling[usize::from(byte % 32)] ^= mask);
    }
    signed.siblings.truncate(signed.siblings.len().saturating_sub(input.cut.into()));
    signed.siblings.extend(input.more);
    if is_lone(&signed.siblings) {
        signed.index = 0;
    }
    // In binary their number is a byte.
    if signed.siblings.len() > 255 || genuine.signature.as_ref().unwrap().siblings.len() > 255 {
        return;
    }
    let is_sound = input.siblings.len() <= 16 && u64::from(index) >> input.siblings.len() == 0;
    let encoding = if input.json { Encoding::Json } else { Encoding::Binary };
    for (wire, is_good) in [(&changed, is_sound && changed == genuine), (&genuine, is_sound)] {
        let opened = parse(&wire.encode(encoding))
            .and_then(|record| responder.open(record, now).map_err(|(error, _)| error));
        assert_eq!(opened.is_ok(), is_good);
    }
});
