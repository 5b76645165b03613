//! AWS-LC, by the crate aws-lc-rs: C and assembly, several times as fast.
//!
//! Its C code wipes whatever it frees (`OPENSSL_free`), and so every key here. It fails where it gets no
//! memory; Rust's own allocations end the process there, and these are an error.

use std::sync::Arc;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, PrivateKey, UnparsedPublicKey, X25519},
    signature::{ED25519, Ed25519KeyPair, VerificationAlgorithm as _},
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    Aead, Backend, Engine, KEY, NONCE, SuiteId, TAG,
    ed25519::{Equation, Signer},
    hash::Secret,
    key_agreement::{Ephemeral, SMALL_ORDER},
};
use crate::error::{Code, Error, Result};

const OUT_OF_MEMORY: Error = Error::new(Code::Busy, "AWS-LC got no memory");

impl Backend {
    /// AWS-LC, by the crate aws-lc-rs, which takes a C compiler to build. Feature `aws-lc-rs`.
    pub const AWS_LC_RS: Backend = Backend::new(&AwsLcRs);
}

struct AwsLcRs;

impl Engine for AwsLcRs {
    fn name(&self) -> &'static str {
        "aws-lc-rs"
    }

    fn aead(&self, suite: SuiteId, key: &[u8; KEY]) -> Result<Box<dyn Aead>> {
        Ok(Box::new(expand(suite, key)?))
    }

    fn with_aead(
        &self,
        suite: SuiteId,
        key: &[u8; KEY],
        run: &mut dyn FnMut(&dyn Aead) -> Result<()>,
    ) -> Result<()> {
        run(&expand(suite, key)?)
    }

    fn signer(&self, seed: &[u8; 32]) -> Arc<dyn Signer> {
        Arc::new(KeyPair(Ed25519KeyPair::from_seed_unchecked(seed).ok()))
    }

    fn equation(&self, public_key: &[u8; 32]) -> Option<Box<dyn Equation>> {
        Some(Box::new(PublicKey(*public_key)))
    }

    fn ephemeral(&self, rng: &mut dyn CryptoRng) -> Result<Box<dyn Ephemeral>> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *secret);
        let private = PrivateKey::from_private_key(&X25519, &*secret).map_err(|_| OUT_OF_MEMORY)?;
        let public = private.compute_public_key().map_err(|_| OUT_OF_MEMORY)?;
        let public = public.as_ref().try_into().map_err(|_| OUT_OF_MEMORY)?;
        Ok(Box::new(EphemeralKey { private, public }))
    }
}

fn expand(suite: SuiteId, key: &[u8; KEY]) -> Result<LessSafeKey> {
    let algorithm = match suite {
        SuiteId::Aes256Gcm => &AES_256_GCM,
        SuiteId::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    };
    Ok(LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| OUT_OF_MEMORY)?))
}

/// "Less safe" as the nonce is the caller's: here a counter in a key of one stream (PROTOCOL section 4).
impl Aead for LessSafeKey {
    fn seal(&self, nonce: &[u8; NONCE], text: &mut [u8]) -> Result<[u8; TAG]> {
        const TOO_LONG: Error = Error::Misuse { reason: "a record this long cannot be encrypted" };
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.seal_in_place_separate_tag(nonce, Aad::empty(), text).map_err(|_| TOO_LONG)?;
        tag.as_ref().try_into().map_err(|_| TOO_LONG)
    }

    /// AWS-LC decrypts while it computes the tag, and wipes everything if it is wrong. Since the crate does
    /// not promise that, it is done here once more.
    fn open(&self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        match self.open_in_place_separate_tag(nonce, Aad::empty(), tag, text) {
            Ok(_) => Ok(()),
            Err(_) => {
                text.fill(0);
                Err(Error::Decryption)
            }
        }
    }

    fn open_or_leave(&self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()> {
        let ciphertext = text.to_vec();
        self.open(nonce, text, tag).inspect_err(|_| text.copy_from_slice(&ciphertext))
    }
}

/// Not there when AWS-LC got no memory for it.
struct KeyPair(Option<Ed25519KeyPair>);

impl Signer for KeyPair {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let signature = self.0.as_ref().and_then(|key| key.try_sign(message).ok()).ok_or(OUT_OF_MEMORY)?;
        signature.as_ref().try_into().map_err(|_| OUT_OF_MEMORY)
    }
}

/// Decompressed anew for each signature: AWS-LC has no other form of it.
struct PublicKey([u8; 32]);

impl Equation for PublicKey {
    fn holds(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        ED25519.verify_sig(&self.0, message, signature).is_ok()
    }
}

struct EphemeralKey {
    private: PrivateKey,
    public: [u8; 32],
}

impl Ephemeral for EphemeralKey {
    fn public_key(&self) -> [u8; 32] {
        self.public
    }

    /// AWS-LC refuses an all-zero result by itself.
    fn agree(self: Box<Self>, peer: [u8; 32]) -> Result<Secret> {
        let peer = UnparsedPublicKey::new(&X25519, peer);
        agreement::agree(&self.private, peer, SMALL_ORDER, |shared| {
            Ok(Zeroizing::new(shared.try_into().map_err(|_| SMALL_ORDER)?))
        })
    }
}
