//! A record between its encryption and its signature.

use bytes::Bytes;

use crate::{
    config::{Config, Encoding},
    error::Result,
    identity::{Proof, Signature},
    protocol::{
        batch, binary, json,
        record::{Nonce, Outgoing},
    },
};

/// A record that has been encrypted, and may have to be signed before it can be written.
///
/// Its nonce counts as used, so the stream goes on behind it, whatever becomes of it.
pub(crate) struct Draft {
    pub(super) record: Outgoing,
    /// There if it has to be signed.
    pub(super) leaf: Option<[u8; 32]>,
    pub(super) encoding: Encoding,
    pub(super) framed: bool,
}

impl Draft {
    /// What is to be signed, if anything is.
    pub(crate) fn leaf(&self) -> Option<[u8; 32]> {
        self.leaf
    }

    /// The record as it goes on the wire. `proof` is of its leaf, where it has one.
    pub(crate) fn write(self, proof: Option<&Proof>) -> Bytes {
        match self.encoding {
            Encoding::Binary => binary::write(self.record, proof, self.framed).0,
            Encoding::Json => json::write_record(self.record, proof, self.framed).0,
        }
    }

    /// Returns its ciphertext, too.
    pub(in crate::protocol) fn write_both(self, proof: Option<&Proof>) -> (Bytes, Bytes) {
        match self.encoding {
            Encoding::Binary => {
                let (frame, at) = binary::write(self.record, proof, self.framed);
                let ciphertext = frame.slice(at..);
                (frame, ciphertext)
            }
            Encoding::Json => json::write_record(self.record, proof, self.framed),
        }
    }

    pub(in crate::protocol) fn nonce(&self) -> Nonce {
        self.record.nonce
    }
}

/// Signs a leaf, if there is one, by itself.
pub(in crate::protocol) fn sign_alone(config: &Config, leaf: Option<[u8; 32]>) -> Result<Option<Proof>> {
    leaf.map(|leaf| sign(config, &leaf, 1).map(Proof::alone)).transpose()
}

/// Signs a root with so many leaves below it.
///
/// Errors: `busy` where the backend gets no memory.
pub(crate) fn sign(config: &Config, root: &[u8; 32], leaves: usize) -> Result<Signature> {
    let signature = config.sign(&batch::message(root))?;
    config.telemetry().count_batch(leaves);
    Ok(signature)
}
