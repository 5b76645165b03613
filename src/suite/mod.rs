//! WITH WHAT: the one place where algorithms are named.
//!
//! Everything above speaks of a [`SuiteId`], an [`Aead`], a signer or a key agreement; only the files in
//! this folder know which crate computes it. A second backend plugs in here and nowhere else.

mod aes_gcm;
mod chacha20_poly1305;
pub(crate) mod ed25519;
pub(crate) mod hash;
pub(crate) mod key_agreement;
pub(crate) mod tree;

use crate::error::Result;

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

    /// Checks the tag, in constant time, and only then decrypts `text` in place.
    fn open(&self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()>;
}

struct Suite {
    id: SuiteId,
    name: &'static str,
    expand: fn(&[u8; KEY]) -> Box<dyn Aead>,
}

static SUITES: [Suite; 2] = [
    Suite { id: SuiteId::Aes256Gcm, name: "x25519-aes256gcm-sha256", expand: aes_gcm::expand },
    Suite {
        id: SuiteId::ChaCha20Poly1305,
        name: "x25519-chacha20poly1305-sha256",
        expand: chacha20_poly1305::expand,
    },
];

impl SuiteId {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        SUITES.iter().find(|suite| suite.name == name).map(|suite| suite.id)
    }

    pub(crate) fn expand(self, key: &[u8; KEY]) -> Box<dyn Aead> {
        (self.entry().expand)(key)
    }

    fn entry(self) -> &'static Suite {
        match self {
            SuiteId::Aes256Gcm => &SUITES[0],
            SuiteId::ChaCha20Poly1305 => &SUITES[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for id in [SuiteId::Aes256Gcm, SuiteId::ChaCha20Poly1305] {
            assert_eq!(id.entry().id, id);
            assert_eq!(SuiteId::from_name(id.as_str()), Some(id));
        }
        assert_eq!(SuiteId::from_name("x25519-rot13-sha256"), None);
    }
}
