//! Secrets that two nodes share before they meet (PROTOCOL section 8, `psk`).

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// A secret that both nodes know, and the random id that names it on the wire.
///
/// The secret must hold at least 16 bytes of entropy, such as an invitation token: a short PIN can be
/// guessed offline. Wiped on drop; `Debug` shows neither half.
#[derive(Clone)]
pub struct PreShared {
    id: Vec<u8>,
    secret: Zeroizing<Vec<u8>>,
}

impl PreShared {
    /// A secret of 16 bytes or more with an id of 16 to 64 bytes.
    ///
    /// Errors: `Misuse` where either has another length.
    pub fn new(id: &[u8], secret: &[u8]) -> Result<Self> {
        if !(16..=64).contains(&id.len()) {
            return Err(Error::Misuse { reason: "the id of a pre-shared secret has 16 to 64 bytes" });
        }
        if secret.len() < 16 {
            return Err(Error::Misuse { reason: "a pre-shared secret has at least 16 bytes" });
        }
        Ok(PreShared { id: id.to_vec(), secret: Zeroizing::new(secret.to_vec()) })
    }

    /// The id, which the wire shows.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for PreShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreShared").finish_non_exhaustive()
    }
}
