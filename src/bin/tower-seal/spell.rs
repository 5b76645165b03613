//! What happens over and over, and is logged once.

use std::time::{Duration, Instant};

/// What follows with less than this between is one spell.
const SPELL: Duration = Duration::from_secs(60);

/// Errors that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Spell {
    last: Option<Instant>,
}

impl Spell {
    /// Whether an error at `now` is the first.
    pub(crate) fn begins(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) > SPELL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spell_of_errors_is_told_once() {
        let (mut spell, began) = (Spell::default(), Instant::now());
        assert!(spell.begins(began));
        for number in 1..50 {
            assert!(!spell.begins(began + SPELL / 2 * number));
        }
        assert!(spell.begins(began + SPELL * 100));
    }
}
