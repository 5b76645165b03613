//! AES-256-GCM (NIST SP 800-38D). The crate finds AES-NI and CLMUL at run time.

use aes_gcm::{AeadInOut, AesGcm, KeyInit, aead::consts::U12, aes::Aes256Enc};

use super::{Aead, KEY, NONCE, TAG};
use crate::error::{Error, Result};

/// GCM only ever encrypts blocks, so the round keys of decryption are not made.
type Aes256Gcm = AesGcm<Aes256Enc, U12>;

pub(super) fn expand(key: &[u8; KEY]) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

impl Aead for Aes256Gcm {
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
