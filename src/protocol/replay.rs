//! The replay window: which ids of exchanges have been served (PROTOCOL section 7).
//!
//! ```text
//!   too old: replayed |<------------- 4096 ids, one bit each ------------->| new: the window moves up
//!   ------------------+----------------------------------------------------+-------------------------->
//!                     highest - 4095                                 highest                        id
//! ```

use crate::error::{Code, Error, Result};

/// Ids that the window spans: the least that the protocol allows, 512 bytes a session.
pub(super) const WINDOW: u64 = 4096;
const WORDS: usize = (WINDOW / 64) as usize;

/// A ring of bits: the bit of an id is at `id % WINDOW`.
pub(super) struct ReplayWindow {
    highest: u64,
    seen: [u64; WORDS],
}

impl ReplayWindow {
    pub(super) const fn new() -> Self {
        ReplayWindow { highest: 0, seen: [0; WORDS] }
    }

    /// Takes `id`, which must not be 0, once.
    ///
    /// Errors: `replayed` when it has been taken, or is older than the window, so that nobody can tell.
    pub(super) fn claim(&mut self, id: u64) -> Result<()> {
        const REPLAYED: Error =
            Error::new(Code::Replayed, "this request has been taken before, or is too old");
        if id > self.highest {
            self.advance(id);
        } else if self.highest - id >= WINDOW {
            return Err(REPLAYED);
        }
        let word = &mut self.seen[(id % WINDOW / 64) as usize];
        let bit = 1 << (id % 64);
        if *word & bit != 0 {
            return Err(REPLAYED);
        }
        *word |= bit;
        Ok(())
    }

    /// Forgets the ids that fall out when `id` becomes the highest: at most all of them.
    fn advance(&mut self, id: u64) {
        if id - self.highest >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for passed in self.highest + 1..=id {
                self.seen[(passed % WINDOW / 64) as usize] &= !(1 << (passed % 64));
            }
        }
        self.highest = id;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_taken_once_and_old_ones_never() {
        let mut window = ReplayWindow::new();
        window.claim(1).unwrap();
        assert_eq!(window.claim(1).unwrap_err().code(), Some(Code::Replayed));
        window.claim(WINDOW).unwrap();
        assert_eq!(window.claim(1).unwrap_err().code(), Some(Code::Replayed));
        window.claim(2).unwrap();
        window.claim(WINDOW + 1).unwrap();
        assert!(window.claim(1).is_err(), "just fallen out");
        window.claim((1 << 53) - 1).unwrap();
        window.claim((1 << 53) - WINDOW).unwrap();
        assert!(window.claim((1 << 53) - WINDOW - 1).is_err());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec(1u64..9000, 1..400)) {
            let (mut window, mut seen, mut highest) = (ReplayWindow::new(), HashSet::new(), 0);
            for id in steps {
                highest = highest.max(id);
                let fresh = highest - id < WINDOW && seen.insert(id);
                prop_assert_eq!(window.claim(id).is_ok(), fresh);
            }
        }
    }
}
