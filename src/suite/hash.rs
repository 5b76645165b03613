//! SHA-256, HMAC and HKDF (RFC 5869). Every output that the protocol takes here is at most 32 bytes,
//! but for exported keys.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// 32 secret bytes, wiped on drop.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// SHA-256 over the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// HKDF-Extract: HMAC-SHA256 keyed with `salt` over `ikm`. The expander is keyed with what comes out.
pub(crate) fn extract(salt: &[u8], ikm: &[u8]) -> (Secret, Expander) {
    let (secret, hkdf) = Hkdf::<Sha256>::extract(Some(salt), ikm);
    (Zeroizing::new(secret.into()), Expander(Some(hkdf)))
}

/// HKDF-Expand, keyed once for several outputs. Wiped on drop.
pub(crate) struct Expander(Option<Hkdf<Sha256>>);

impl Expander {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        // Only a secret shorter than a hash would not do.
        Expander(Hkdf::from_prk(secret).ok())
    }

    /// Fills `out` from the concatenation of `info`.
    ///
    /// Errors: `Misuse` above 255 * 32 = 8160 bytes, where HKDF ends.
    pub(crate) fn expand(&self, info: &[&[u8]], out: &mut [u8]) -> Result<()> {
        let hkdf = self.0.as_ref();
        hkdf.and_then(|hkdf| hkdf.expand_multi_info(info, out).ok())
            .ok_or(Error::Misuse { reason: "HKDF gives at most 8160 bytes" })
    }
}
