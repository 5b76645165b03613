//! Signatures over records, alone or in a batch (PROTOCOL section 5).
//!
//! A sender with several records ready signs the root of a tree over their leaves. Each record then
//! carries the way from its leaf up to that root: its index, and the siblings it meets.
//!
//! ```text
//!                    root  <- signed                 record 2 of 3 carries: index 2 = 0b10
//!                 /        \                                   siblings: leaf 2 (the padding), node 0
//!            node 0         node 1                   bit 0 of the index is 0: the sibling is on the right
//!           /     \        /      \                  bit 1 of the index is 1: the sibling is on the left
//!      leaf 0   leaf 1  leaf 2   leaf 2 (repeated up to a power of two)
//! ```

use super::{keys, transcript::length};
use crate::{
    error::Result,
    identity::Signature,
    suite::{ed25519::Verifier, hash::sha256},
};

/// The most siblings on a path: a batch has at most 2^16 records.
pub(super) const MOST_SIBLINGS: usize = 16;

/// What a leaf binds a record to, beside its nonce and ciphertext.
pub(super) struct LeafContext<'a> {
    pub(super) th: &'a [u8; 32],
    pub(super) direction: keys::Direction,
    pub(super) stream: u64,
    pub(super) opening: &'a [u8],
    pub(super) request_leaf: &'a [u8],
}

impl LeafContext<'_> {
    pub(super) fn leaf(&self, nonce: &[u8], ciphertext: &[u8]) -> [u8; 32] {
        sha256(&[
            &[0x00],
            &length(keys::RECORD),
            keys::RECORD,
            self.th,
            &[self.direction as u8],
            &self.stream.to_be_bytes(),
            &length(self.opening),
            self.opening,
            &length(self.request_leaf),
            self.request_leaf,
            nonce,
            ciphertext,
        ])
    }
}

/// The root above `leaf`. `siblings` are whole, 32 bytes each, from the leaf up.
pub(super) fn root(leaf: [u8; 32], index: u32, siblings: &[u8]) -> [u8; 32] {
    siblings.chunks_exact(32).enumerate().fold(leaf, |below, (level, sibling)| {
        if index >> level & 1 == 1 {
            sha256(&[&[0x01], sibling, &below])
        } else {
            sha256(&[&[0x01], &below, sibling])
        }
    })
}

/// What is signed for `root`.
pub(super) fn message(root: &[u8; 32]) -> Vec<u8> {
    [&length(keys::BATCH), keys::BATCH, root].concat()
}

/// Checks `signature` over the root above `leaf`.
pub(super) fn verify(
    sender: &Verifier,
    signature: &Signature,
    leaf: [u8; 32],
    index: u32,
    siblings: &[u8],
) -> Result<()> {
    sender.verify(&message(&root(leaf, index, siblings)), &signature.0)
}
