//! The requests of the host that have no answer yet.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::message::{Id, Line};

/// Requests under way at once; further ones are refused, as a host that answers requests of the far side has to
/// be read on.
const MOST: usize = 1024;

/// Requests without an answer, and what is known of each.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    asked: HashMap<Id, T>,
}

impl<T: Clone> Waiting<T> {
    pub(super) fn new() -> Self {
        Waiting { asked: HashMap::new() }
    }

    /// Takes the requests of a line. False where there is no room for them.
    pub(super) fn ask(&mut self, line: &Line, state: &T) -> bool {
        if self.asked.len() + line.asks().len() > MOST {
            return false;
        }
        self.asked.extend(line.asks().iter().map(|id| (id.clone(), state.clone())));
        true
    }

    /// What was known of a request that has been answered, or is waited for no more.
    pub(super) fn answered(&mut self, id: &Id) -> Option<T> {
        self.asked.remove(id)
    }

    pub(super) fn mark(&mut self, line: &Line, state: &T) {
        for id in line.asks() {
            if let Some(known) = self.asked.get_mut(id) {
                *known = state.clone();
            }
        }
    }

    pub(super) fn get(&self, id: &Id) -> Option<&T> {
        self.asked.get(id)
    }

    /// Whether nobody waits any more for what a line asks, of which `id` is one.
    pub(super) fn is_left_by(&self, line: &Line, id: &Id) -> bool {
        line.asks().contains(id) && !line.asks().iter().any(|id| self.asked.contains_key(id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// All of them, which are waited for no more.
    pub(super) fn drain(&mut self) -> Vec<(Id, T)> {
        self.asked.drain().collect()
    }
}

/// The requests of the far side that the host has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Asked {
    ids: HashSet<Id>,
}

impl Asked {
    /// Takes the requests of a line. False where there is no room for them.
    pub(super) fn ask(&mut self, line: &Line) -> bool {
        if self.ids.len() + line.asks().len() > MOST {
            return false;
        }
        self.ids.extend(line.asks().iter().cloned());
        true
    }

    /// The far side waits for this one no more.
    pub(super) fn forget(&mut self, id: &Id) {
        self.ids.remove(id);
    }

    /// Whether this answers any of them: a far side that has begun anew numbers its requests anew, and is not to
    /// get an answer to another one.
    pub(super) fn answer(&mut self, line: &Line) -> bool {
        line.answers().iter().filter(|id| self.ids.remove(id)).count() > 0
    }

    /// Notifications that nobody waits for their answers any more.
    pub(super) fn cancel(&mut self) -> Vec<Bytes> {
        let cancelled = |id: Id| {
            let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#;
            format!("{text}{},\"reason\":\"the far side was lost\"}}}}", id.text()).into()
        };
        self.ids.drain().map(cancelled).collect()
    }
}
