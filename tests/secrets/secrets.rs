//! Secrets are wiped: none is left in memory that has been given back, whoever gave it back and in whatever order. And
//! none is logged.
//!
//! Each test lets the crate live through conversations whose secrets follow from randomness that the test handed
//! out, ends them all, and looks for these secrets in every block of the heap that was freed meanwhile. What is
//! a secret, `hand` computes a second time, from the protocol's page alone.
//!
//! What can't be seen here: the stack, where values are moved and dependencies compute, and what AWS-LC allocates, which
//! does not come from Rust's allocator and is cleansed by `OPENSSL_free`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod duplex;
mod files;
mod freed;
#[path = "../protocol/support/hand.rs"]
#[allow(dead_code)]
mod hand;
mod known;
#[path = "../support/recorder.rs"]
mod recorder;
mod sessions;
mod shells;

use std::collections::BTreeSet;

use freed::during;
use zeroize::Zeroizing;

const NOTHING: BTreeSet<String> = BTreeSet::new();

#[test]
fn what_is_left_behind_is_found() {
    let secret: Vec<u8> = (0..32).collect();
    let secrets = [("secret".to_owned(), secret.clone())];
    let copy = secret.clone();
    let (_, freed) = during(|| drop(copy));
    assert_eq!(freed.shows(&secrets).len(), 2, "both halves");
    // A buffer that has grown has moved.
    let mut grown = secret.clone();
    let (_, freed) = during(|| grown.reserve(10_000));
    assert_eq!(freed.shows(&secrets).len(), 2);
    // What was moved out of a box is still in it.
    let boxed: Box<Zeroizing<[u8; 32]>> = Box::new(Zeroizing::new(secret[..].try_into().unwrap()));
    let (_, freed) = during(|| drop::<Zeroizing<_>>(*boxed));
    assert_eq!(freed.shows(&secrets).len(), 2);
    let mut wiped = secret.clone();
    let (_, freed) = during(|| {
        wiped.fill(0);
        drop(std::hint::black_box(wiped));
    });
    assert_eq!(freed.shows(&secrets), NOTHING);
    assert!(freed.bytes() >= 32);
}
