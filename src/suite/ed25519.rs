//! Ed25519 (RFC 8032), with the one acceptance rule that PROTOCOL section 1 allows.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};

const INVALID: Error = Error::new(Code::InvalidSignature, "the Ed25519 signature does not verify");

/// A private signing key; wiped on drop by `ed25519-dalek`.
pub(crate) struct Signer(SigningKey);

impl Signer {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Signer(SigningKey::from_bytes(seed))
    }

    pub(crate) fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// A public key that has been decompressed and found canonical and not of small order.
#[derive(Clone)]
pub(crate) struct Verifier(VerifyingKey);

impl Verifier {
    /// Errors: `invalid_signature`, since no signature can be valid under such a key.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        if !is_canonical(bytes) {
            return Err(INVALID);
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| INVALID)?;
        if key.is_weak() {
            return Err(INVALID);
        }
        Ok(Verifier(key))
    }

    /// S < L, R canonical and not of small order, and the cofactorless equation.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<()> {
        let (r, _) = signature.split_first_chunk::<32>().ok_or(INVALID)?;
        if !is_canonical(r) {
            return Err(INVALID);
        }
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).map_err(|_| INVALID)
    }
}

/// Whether the y coordinate is below p = 2^255 - 19 (RFC 8032, section 5.1.3, step 1).
///
/// `verify_strict` does not ask this of the public key. The other encodings that are not canonical,
/// x = 0 with the sign bit set, are of small order, which is checked anyway.
fn is_canonical(point: &[u8; 32]) -> bool {
    let all_ones = point[1..31].iter().all(|&byte| byte == 0xff) && point[31] & 0x7f == 0x7f;
    !(all_ones && point[0] >= 0xed)
}
