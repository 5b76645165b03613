//! WHO: a node is its Ed25519 key.
//!
//! An [`Identity`] is the secret key, a [`NodeId`] the public key: 32 bytes, 64 hex digits as text. A
//! node id certifies itself, nothing has to be looked up to verify a signature (PROTOCOL section 1).
//!
//! ```
//! use tower_seal::{Identity, NodeId};
//!
//! let identity = Identity::generate();
//! let text = identity.node_id().to_string();
//! assert_eq!(text.len(), 64);
//! assert_eq!(text.parse::<NodeId>()?, identity.node_id());
//! # Ok::<(), tower_seal::Error>(())
//! ```

mod file;
mod node_id;
mod pem;
pub(crate) mod queue;
mod roots;

use std::fmt;

use rand_core::{CryptoRng, UnwrapErr};
use zeroize::Zeroizing;

use crate::suite::ed25519;

pub use node_id::NodeId;
pub(crate) use queue::{Proof, Queue};
pub(crate) use roots::{Root, Roots};

/// A secret signing key and so a node. Not `Clone`; wiped on drop; `Debug` shows the node id only.
pub struct Identity {
    /// In a box, so that it is never moved, which would leave a copy behind.
    seed: Box<Zeroizing<[u8; 32]>>,
    node_id: NodeId,
    queue: Queue,
}

impl Identity {
    /// A new identity, from the operating system's randomness.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, without which nothing is safe.
    #[must_use]
    pub fn generate() -> Self {
        Self::generate_from(&mut UnwrapErr(getrandom::SysRng))
    }

    /// A new identity from 32 bytes of `rng`.
    #[must_use]
    pub fn generate_from(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self::from_seed(&seed)
    }

    /// The identity with this secret: the 32-byte private key of RFC 8032, section 5.1.5.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let node_id = NodeId::from_bytes(ed25519::public_key(seed));
        Identity { seed: Box::new(Zeroizing::new(*seed)), node_id, queue: Queue::default() }
    }

    /// The public half.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// What [`from_seed`](Self::from_seed) takes.
    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// What waits to be signed by this identity, of all sessions and tasks.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// An Ed25519 signature: 64 bytes, not yet checked against anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature(pub(crate) [u8; 64]);
