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
    config::Config,
    error::Result,
    identity::{NodeId, Root, Signature},
    suite::{ed25519::Verifier, hash::sha256, tree},
    telemetry::Metric,
};

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

/// What is signed for `root`: `lp("tower-seal/1 batch") || root`.
pub(crate) fn message(root: &[u8; 32]) -> [u8; 4 + keys::BATCH.len() + 32] {
    let mut message = [0; _];
    let (label, end) = message.split_at_mut(4 + keys::BATCH.len());
    label[..4].copy_from_slice(&length(keys::BATCH));
    label[4..].copy_from_slice(keys::BATCH);
    end.copy_from_slice(root);
    message
}

/// Checks `signature`, of the node `sender`, over the root above `leaf`; `siblings` are whole, 32 bytes each, from
/// the leaf up. Nothing is allocated, and of records that were signed together the first one costs the most.
pub(super) fn verify(
    config: &Config,
    (sender, verifier): (NodeId, &Verifier),
    signature: Signature,
    leaf: [u8; 32],
    index: u32,
    siblings: &[u8],
) -> Result<()> {
    let root = tree::root(leaf, index, siblings);
    let verify = || {
        config.telemetry().count(Metric::SignaturesVerified);
        verifier.verify(&message(&root), &signature.0)
    };
    if siblings.is_empty() {
        // No other record has this root.
        return verify();
    }
    config.roots().verify(Root { sender, root, signature }, verify)
}
