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
    let [changed_path, path] = [&changed, &genuine].map(|wire| wire.signature.clone().unwrap());
    // In binary their number is a byte.
    if changed_path.siblings.len().max(path.siblings.len()) > 255 {
        return;
    }
    let is_sound = |path: &wire::Signed| {
        let siblings = path.siblings.len();
        siblings <= 16 && path.index >> siblings == 0
    };
    // What an index says beyond its tree has no part in the root.
    let is_beyond = |bits: u64| path.siblings.len() < 64 && bits & ((1 << path.siblings.len()) - 1) == 0;
    let is_same = changed_path.siblings == path.siblings && is_beyond(changed_path.index ^ path.index);
    let encoding = if input.json { Encoding::Json } else { Encoding::Binary };
    for (wire, is_good) in [(&changed, is_sound(&changed_path) && is_same), (&genuine, is_sound(&path))] {
        let opened = parse(&wire.encode(encoding))
            .and_then(|record| responder.open(record, now).map_err(|(error, _)| error));
        assert_eq!(opened.is_ok(), is_good);
    }
});
