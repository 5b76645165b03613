//! The default backend: what RustCrypto's and dalek's crates compute. They wipe their keys on drop.

use std::sync::Arc;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use x25519_dalek::{PublicKey, ReusableSecret};
use zeroize::Zeroizing;

use super::{
    Aead, Engine, KEY, SuiteId, aes_gcm, chacha20_poly1305,
    ed25519::{Equation, Signer},
    hash::Secret,
    key_agreement::{Ephemeral, SMALL_ORDER},
};
use crate::error::Result;

pub(super) struct RustCrypto;

impl Engine for RustCrypto {
    fn name(&self) -> &'static str {
        "rust-crypto"
    }

    fn aead(&self, suite: SuiteId, key: &[u8; KEY]) -> Result<Box<dyn Aead>> {
        Ok(match suite {
            SuiteId::Aes256Gcm => Box::new(aes_gcm::expand(key)),
            SuiteId::ChaCha20Poly1305 => Box::new(chacha20_poly1305::expand(key)),
        })
    }

    fn with_aead(
        &self,
        suite: SuiteId,
        key: &[u8; KEY],
        run: &mut dyn FnMut(&dyn Aead) -> Result<()>,
    ) -> Result<()> {
        match suite {
            SuiteId::Aes256Gcm => run(&aes_gcm::expand(key)),
            SuiteId::ChaCha20Poly1305 => run(&chacha20_poly1305::expand(key)),
        }
    }

    fn signer(&self, seed: &[u8; 32]) -> Arc<dyn Signer> {
        Arc::new(SigningKey::from_bytes(seed))
    }

    fn equation(&self, public_key: &[u8; 32]) -> Option<Box<dyn Equation>> {
        Some(Box::new(VerifyingKey::from_bytes(public_key).ok()?))
    }

    fn ephemeral(&self, mut rng: &mut dyn CryptoRng) -> Result<Box<dyn Ephemeral>> {
        Ok(Box::new(ReusableSecret::random_from_rng(&mut rng)))
    }
}

/// The public key of RFC 8032, section 5.1.5.
pub(super) fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

impl Signer for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        Ok(ed25519_dalek::Signer::sign(self, message).to_bytes())
    }
}

impl Equation for VerifyingKey {
    fn holds(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        ed25519_dalek::Verifier::verify(self, message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// Not the crate's `EphemeralSecret`, which agrees by value: it would have to be moved out of its box, and what was
/// moved is still there when the box is freed.
impl Ephemeral for ReusableSecret {
    fn public_key(&self) -> [u8; 32] {
        PublicKey::from(self).to_bytes()
    }

    fn agree(self: Box<Self>, peer: [u8; 32]) -> Result<Secret> {
        let shared = self.diffie_hellman(&PublicKey::from(peer));
        if !shared.was_contributory() {
            return Err(SMALL_ORDER);
        }
        Ok(Zeroizing::new(shared.to_bytes()))
    }
}
