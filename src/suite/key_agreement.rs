//! Key agreement: X25519 (RFC 7748), and ML-KEM-768 (FIPS 203) beside it.

use ml_kem::{
    Decapsulate as _, Encapsulate as _, KeyExport as _,
    ml_kem_768::{Ciphertext, DecapsulationKey, EncapsulationKey},
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::hash::Secret;
use crate::error::{Error, Result};

/// An ephemeral X25519 key: made for one hello or one reply, used once, wiped on drop.
pub(crate) trait Ephemeral: Send + Sync {
    fn public_key(&self) -> [u8; 32];

    /// Errors: `malformed` when the peer's key is of small order, so that the result is all zero (RFC
    /// 7748, section 6.1).
    fn agree(self: Box<Self>, peer: [u8; 32]) -> Result<Secret>;
}

pub(super) const SMALL_ORDER: Error = Error::malformed("the X25519 key is of small order");

/// Bytes of an ML-KEM-768 encapsulation key.
pub(crate) const KEM_KEY: usize = 1184;
/// Bytes of an ML-KEM-768 ciphertext.
pub(crate) const KEM_CIPHERTEXT: usize = 1088;

/// An ML-KEM-768 decapsulation key: made for one hello, wiped on drop. In a box, so that it is never moved, which would
/// leave a copy behind.
pub(crate) struct KemSecret(Box<DecapsulationKey>);

impl KemSecret {
    pub(crate) fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut seed = Zeroizing::new([0; 64]);
        rng.fill_bytes(&mut *seed);
        KemSecret(Box::new(DecapsulationKey::from_seed((*seed).into())))
    }

    pub(crate) fn public_key(&self) -> [u8; KEM_KEY] {
        self.0.encapsulation_key().to_bytes().into()
    }

    pub(crate) fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT]) -> Secret {
        Zeroizing::new(self.0.decapsulate(&Ciphertext::from(*ciphertext)).into())
    }
}

/// A fresh secret for the holder of `key`, and its ciphertext.
///
/// Errors: `malformed` when the key fails the modulus check of FIPS 203, section 7.2.
pub(crate) fn encapsulate(
    key: &[u8; KEM_KEY],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<([u8; KEM_CIPHERTEXT], Secret)> {
    let key = EncapsulationKey::new(&(*key).into())
        .map_err(|_| Error::malformed("the ML-KEM key fails the check of FIPS 203"))?;
    let (ciphertext, secret) = key.encapsulate_with_rng(rng);
    Ok((ciphertext.into(), Zeroizing::new(secret.into())))
}
