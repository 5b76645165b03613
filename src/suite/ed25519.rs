//! Ed25519 (RFC 8032), with the one acceptance rule that PROTOCOL section 1 allows.
//!
//! Engines differ in what they check beside the equation, so all of that is checked here, for every backend
//! alike, on the bytes: canonical points have one encoding, so those of small order are a short list.

#[cfg(test)]
mod speccheck;

use super::{Backend, rust_crypto};
use crate::error::{Code, Error, Result};

const INVALID: Error = Error::new(Code::InvalidSignature, "the Ed25519 signature does not verify");

/// A private signing key, wiped on drop.
pub(crate) trait Signer: Send + Sync {
    /// Errors: `busy` where a library gets no memory.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]>;
}

/// The public key that belongs to the private key `seed`.
pub(crate) fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    rust_crypto::public_key(seed)
}

/// A public key, and what an engine decides about it.
pub(super) trait Equation: Send + Sync {
    /// Whether the encoding of `[S]B - [k]A` is that of R, the cofactorless equation.
    fn holds(&self, message: &[u8], signature: &[u8; 64]) -> bool;
}

/// A public key that is canonical and not of small order.
pub(crate) struct Verifier(Box<dyn Equation>);

impl Verifier {
    /// Errors: `invalid_signature`, since no signature can be valid under such a key. A key that is no point at
    /// all may also be found out by [`verify`](Self::verify).
    pub(crate) fn from_bytes(backend: Backend, bytes: &[u8; 32]) -> Result<Self> {
        if !is_canonical(bytes) || is_small(bytes) {
            return Err(INVALID);
        }
        backend.equation(bytes).map(Verifier).ok_or(INVALID)
    }

    /// S < L, R canonical and not of small order, and the cofactorless equation.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<()> {
        let (r, s) = signature.split_first_chunk::<32>().ok_or(INVALID)?;
        let good = is_reduced(s) && is_canonical(r) && !is_small(r) && self.0.holds(message, signature);
        if good { Ok(()) } else { Err(INVALID) }
    }
}

/// The order of the group, 2^252 + 27742317777372353535851937790883648493.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Whether S < L. All bits count, the highest too.
fn is_reduced(s: &[u8]) -> bool {
    s.iter().rev().lt(L.iter().rev())
}

/// Whether the y coordinate is below p = 2^255 - 19 (RFC 8032, section 5.1.3, step 1).
///
/// The other encodings that are not canonical, x = 0 with the sign bit set, are of small order.
fn is_canonical(point: &[u8; 32]) -> bool {
    let all_ones = point[1..31].iter().all(|&byte| byte == 0xff) && point[31] & 0x7f == 0x7f;
    !(all_ones && point[0] >= 0xed)
}

/// The y coordinates of the eight points whose order divides 8: 1 and -1, where x is 0, and three with two x each.
const SMALL: [[u8; 32]; 5] = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether a canonical point is of small order, whatever the sign of its x.
fn is_small(point: &[u8; 32]) -> bool {
    let mut y = *point;
    y[31] &= 0x7f;
    SMALL.contains(&y)
}
