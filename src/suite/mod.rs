//! WITH WHAT: the one place where algorithms are named.
//!
//! Everything above speaks of a [`SuiteId`], a [`Backend`], an [`Aead`], a signer or a key agreement; only the
//! files in this folder know which crate computes it. A backend is an [`Engine`]: one implementation each.

mod aes_gcm;
#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
mod backend;
mod chacha20_poly1305;
pub(crate) mod ed25519;
#[cfg(test)]
pub(crate) mod exhausted;
pub(crate) mod hash;
pub(crate) mod key_agreement;
mod rust_crypto;
pub(crate) mod tree;
#[cfg(test)]
mod wycheproof;

use crate::error::Result;

pub use backend::Backend;
use backend::Engine;

/// Bytes of an AEAD key, of a nonce and of a tag: the same in every suite.
pub(crate) const KEY: usize = 32;
pub(crate) const NONCE: usize = 12;
pub(crate) const TAG: usize = 16;

/// A cipher suite: X25519 and SHA-256 with one AEAD (PROTOCOL section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SuiteId {
    /// `x25519-aes256gcm-sha256`, mandatory: AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm,
    /// `x25519-chacha20poly1305-sha256`, optional: ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

/// One key of a suite's AEAD, expanded and ready. Wiped on drop.
pub(crate) trait Aead: Send + Sync {
    /// Encrypts `text` in place and returns the tag.
    fn seal(&self, nonce: &[u8; NONCE], text: &mut [u8]) -> Result<[u8; TAG]>;

    /// Checks the tag, in constant time, and decrypts `text` in place.
    ///
    /// With a wrong tag no plaintext stays behind, and perhaps not the ciphertext either.
    fn open(&self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()>;

    /// The same, and with a wrong tag `text` is as it was.
    fn open_or_leave(&self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()>;
}

impl SuiteId {
    const ALL: [SuiteId; 2] = [SuiteId::Aes256Gcm, SuiteId::ChaCha20Poly1305];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SuiteId::Aes256Gcm => "x25519-aes256gcm-sha256",
            SuiteId::ChaCha20Poly1305 => "x25519-chacha20poly1305-sha256",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        SuiteId::ALL.into_iter().find(|suite| suite.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCES: [u8; NONCE] = [3; NONCE];

    /// Lengths around the block sizes, and one above what assembly does at once.
    const LENGTHS: [usize; 12] = [0, 1, 15, 16, 17, 63, 64, 65, 192, 513, 4096, 70_001];

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn names_there_and_back() {
        for id in SuiteId::ALL {
            assert_eq!(SuiteId::from_name(id.as_str()), Some(id));
        }
        assert_eq!(SuiteId::from_name("x25519-rot13-sha256"), None);
    }

    #[test]
    fn every_backend_seals_to_the_same_bytes_and_opens_them() {
        for suite in SuiteId::ALL {
            for length in LENGTHS {
                let sealed = Backend::ALL.iter().map(|backend| {
                    let mut sealed = text(length);
                    let aead = backend.aead(suite, &[7; KEY]).unwrap();
                    let tag = aead.seal(&NONCES, &mut sealed).unwrap();
                    (sealed, tag)
                });
                let sealed: Vec<_> = sealed.collect();
                for (backend, (mut opened, tag)) in Backend::ALL.iter().zip(sealed.clone()) {
                    assert!(
                        (&opened, &tag) == (&sealed[0].0, &sealed[0].1),
                        "{backend:?} {suite:?} {length}"
                    );
                    let aead = backend.aead(suite, &[7; KEY]).unwrap();
                    aead.open(&NONCES, &mut opened, &tag).unwrap();
                    assert!(opened == text(length), "{backend:?} {suite:?} {length}");
                    aead.seal(&NONCES, &mut opened).unwrap();
                    aead.open_or_leave(&NONCES, &mut opened, &tag).unwrap();
                    assert!(opened == text(length), "{backend:?} {suite:?} {length}");
                }
            }
        }
    }

    #[test]
    fn what_fails_leaves_no_plaintext_and_where_asked_the_ciphertext() {
        for backend in Backend::ALL {
            for suite in SuiteId::ALL {
                for length in LENGTHS {
                    let aead = backend.aead(suite, &[7; KEY]).unwrap();
                    let mut sealed = text(length);
                    let mut tag = aead.seal(&NONCES, &mut sealed).unwrap();
                    for byte in 0..TAG {
                        tag[byte] ^= 0x80;
                        let mut left = sealed.clone();
                        assert!(aead.open_or_leave(&NONCES, &mut left, &tag).is_err());
                        assert!(left == sealed, "{backend:?} {suite:?} {length}");
                        assert!(aead.open(&NONCES, &mut left, &tag).is_err());
                        let wiped = left.iter().all(|&byte| byte == 0);
                        assert!(left == sealed || wiped, "{backend:?} {suite:?} {length}");
                        tag[byte] ^= 0x80;
                    }
                    let mut left = sealed.clone();
                    assert!(aead.open_or_leave(&[4; NONCE], &mut left, &tag).is_err());
                    assert!(left == sealed, "{backend:?} {suite:?} {length}");
                }
            }
        }
    }
}
