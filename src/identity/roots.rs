//! Signatures that have been verified of late.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::{NodeId, Signature};
use crate::error::Result;

/// How many are remembered, of all senders together.
const ROOTS: usize = 128;

/// The roots of batches that have been verified of late, each with its sender and its signature, so that the
/// other records of a batch cost hashes alone.
///
/// There is one place for each value of some bits of the root, where the last one stays. So a sender may push
/// out roots of others, which then are verified again; each costs it a signature that holds.
#[derive(Default)]
pub(crate) struct Roots(OnceLock<Box<[Mutex<Option<Root>>; ROOTS]>>);

/// All of it is public, so it is compared as it comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) sender: NodeId,
    pub(crate) root: [u8; 32],
    pub(crate) signature: Signature,
}

impl Roots {
    /// Whether `seen` has been verified; if that is not known, `verify` finds out, outside of the lock.
    pub(crate) fn verify(&self, seen: Root, verify: impl FnOnce() -> Result<()>) -> Result<()> {
        let places = self.0.get_or_init(|| Box::new(std::array::from_fn(|_| Mutex::default())));
        let Some(place) = places.get(usize::from(seen.root[0]) % ROOTS) else { return verify() };
        let place = || place.lock().unwrap_or_else(PoisonError::into_inner);
        if *place() == Some(seen) {
            return Ok(());
        }
        verify()?;
        *place() = Some(seen);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn root(first: u8, rest: u8) -> Root {
        let mut root = [rest; 32];
        root[0] = first;
        Root { sender: NodeId::from_bytes([1; 32]), root, signature: Signature([2; 64]) }
    }

    /// Whether it had to be verified.
    fn is_asked(roots: &Roots, seen: Root) -> bool {
        let mut asked = false;
        let verify = || {
            asked = true;
            Ok(())
        };
        roots.verify(seen, verify).unwrap();
        asked
    }

    #[test]
    fn what_held_once_holds_again_and_nothing_else_does() {
        let roots = Roots::default();
        assert!(is_asked(&roots, root(7, 0)));
        assert!(!is_asked(&roots, root(7, 0)));
        assert!(is_asked(&roots, Root { sender: NodeId::from_bytes([9; 32]), ..root(7, 0) }));
        assert!(is_asked(&roots, Root { signature: Signature([9; 64]), ..root(7, 0) }));
        assert!(is_asked(&roots, root(7, 9)));
    }

    #[test]
    fn what_does_not_hold_is_not_remembered() {
        let roots = Roots::default();
        assert!(roots.verify(root(7, 0), || Err(Error::Decryption)).is_err());
        assert!(is_asked(&roots, root(7, 0)));
        assert!(roots.verify(root(7, 1), || Err(Error::Decryption)).is_err());
        assert!(!is_asked(&roots, root(7, 0)), "a forgery pushes nothing out");
    }

    #[test]
    fn many_are_remembered_but_not_all() {
        let roots = Roots::default();
        for first in 0..=255 {
            assert!(is_asked(&roots, root(first, 0)));
        }
        let asked = (0..=255).filter(|first| is_asked(&roots, root(*first, 0))).count();
        assert_eq!(asked, 256, "each pushed out the one that was half way round");
        assert!((128..=255).all(|first| !is_asked(&roots, root(first, 0))));
    }
}
