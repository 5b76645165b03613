//! ChaCha20-Poly1305 (RFC 8439), for machines without AES instructions.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};

use super::{Aead, KEY, NONCE, TAG};
use crate::error::{Error, Result};

pub(super) fn expand(key: &[u8; KEY]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

impl Aead for ChaCha20Poly1305 {
    fn seal(&self, nonce: &[u8; NONCE], text: &mut [u8]) -> Result<[u8; TAG]> {
        self.encrypt_inout_detached(nonce.into(), &[], text.into())
            .map(Into::into)
            .map_err(|_| Error::Misuse { reason: "a record this long cannot be encrypted" })
    }

    fn open(&self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()> {
        self.decrypt_inout_detached(nonce.into(), &[], text.into(), tag.into()).map_err(|_| Error::Decryption)
    }

    /// The crate checks before it decrypts.
    fn open_or_leave(&self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()> {
        self.open(nonce, text, tag)
    }
}
