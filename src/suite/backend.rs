//! Which library computes what the suites need.

use std::{fmt, sync::Arc};

use rand_core::CryptoRng;

use super::{
    Aead, KEY, SuiteId,
    ed25519::{Equation, Signer},
    key_agreement::Ephemeral,
    rust_crypto::RustCrypto,
};
use crate::error::Result;

/// The library that computes: AEADs, Ed25519 and X25519. Hashes and ML-KEM come from one place always.
///
/// Nothing of it can be seen from outside: the bytes are the same, and so is what is taken and what is refused.
#[derive(Clone, Copy)]
pub struct Backend(&'static dyn Engine);

/// What a library has to compute. It takes randomness from nowhere but `rng`.
pub(super) trait Engine: Sync {
    fn name(&self) -> &'static str;

    fn aead(&self, suite: SuiteId, key: &[u8; KEY]) -> Result<Box<dyn Aead>>;

    /// Runs `run` with a key that is expanded on the stack, and wiped afterwards.
    fn with_aead(
        &self,
        suite: SuiteId,
        key: &[u8; KEY],
        run: &mut dyn FnMut(&dyn Aead) -> Result<()>,
    ) -> Result<()>;

    /// Not in a box: a box that becomes an `Arc` leaves a copy of the key behind.
    fn signer(&self, seed: &[u8; 32]) -> Arc<dyn Signer>;

    /// For a key that is canonical and not of small order; `None` if the library sees that it is no point.
    fn equation(&self, public_key: &[u8; 32]) -> Option<Box<dyn Equation>>;

    /// From 32 bytes of `rng`.
    fn ephemeral(&self, rng: &mut dyn CryptoRng) -> Result<Box<dyn Ephemeral>>;
}

impl Backend {
    /// The default: RustCrypto's and dalek's crates, which need nothing but a Rust compiler.
    pub const RUST_CRYPTO: Backend = Backend::new(&RustCrypto);

    /// Every backend that is built in.
    pub const ALL: &[Backend] = &[
        Backend::RUST_CRYPTO,
        #[cfg(feature = "aws-lc-rs")]
        Backend::AWS_LC_RS,
    ];

    pub(super) const fn new(engine: &'static dyn Engine) -> Self {
        Backend(engine)
    }

    pub(crate) fn aead(self, suite: SuiteId, key: &[u8; KEY]) -> Result<Box<dyn Aead>> {
        self.0.aead(suite, key)
    }

    /// For one use of a key.
    pub(crate) fn with_aead(
        self,
        suite: SuiteId,
        key: &[u8; KEY],
        run: &mut dyn FnMut(&dyn Aead) -> Result<()>,
    ) -> Result<()> {
        self.0.with_aead(suite, key, run)
    }

    pub(crate) fn signer(self, seed: &[u8; 32]) -> Arc<dyn Signer> {
        self.0.signer(seed)
    }

    pub(super) fn equation(self, public_key: &[u8; 32]) -> Option<Box<dyn Equation>> {
        self.0.equation(public_key)
    }

    /// An X25519 key from 32 bytes of `rng`.
    pub(crate) fn ephemeral(self, mut rng: &mut (impl CryptoRng + ?Sized)) -> Result<Box<dyn Ephemeral>> {
        self.0.ephemeral(&mut rng)
    }
}

impl Default for Backend {
    fn default() -> Self {
        Backend::RUST_CRYPTO
    }
}

impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Backend {}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}
