//! A backend that gets no memory any more, for tests of what its user then sees.

use std::{cell::Cell, sync::Arc};

use rand_core::CryptoRng;

use super::{
    Aead, Backend, Engine, KEY, SuiteId,
    ed25519::{Equation, Signer},
    key_agreement::Ephemeral,
    rust_crypto::RustCrypto,
};
use crate::error::{Code, Error, Result};

pub(crate) const EXHAUSTED: Backend = Backend::new(&Exhausted);

thread_local! {
    static SIGNATURES: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// So many signatures can still be made on this thread.
pub(crate) fn leave(signatures: usize) {
    SIGNATURES.set(signatures);
}

struct Exhausted;

struct ExhaustedSigner(Arc<dyn Signer>);

impl Engine for Exhausted {
    fn name(&self) -> &'static str {
        "exhausted"
    }

    fn aead(&self, suite: SuiteId, key: &[u8; KEY]) -> Result<Box<dyn Aead>> {
        RustCrypto.aead(suite, key)
    }

    fn with_aead(
        &self,
        suite: SuiteId,
        key: &[u8; KEY],
        run: &mut dyn FnMut(&dyn Aead) -> Result<()>,
    ) -> Result<()> {
        RustCrypto.with_aead(suite, key, run)
    }

    fn signer(&self, seed: &[u8; 32]) -> Arc<dyn Signer> {
        Arc::new(ExhaustedSigner(RustCrypto.signer(seed)))
    }

    fn equation(&self, public_key: &[u8; 32]) -> Option<Box<dyn Equation>> {
        RustCrypto.equation(public_key)
    }

    fn ephemeral(&self, rng: &mut dyn CryptoRng) -> Result<Box<dyn Ephemeral>> {
        RustCrypto.ephemeral(rng)
    }
}

impl Signer for ExhaustedSigner {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let left = SIGNATURES.get().checked_sub(1).ok_or(Error::new(Code::Busy, "no memory"))?;
        SIGNATURES.set(left);
        self.0.sign(message)
    }
}
