//! What a policy of trust on first use knows, without a look at the file.

use std::collections::HashMap;

use crate::{identity::NodeId, trust::KnownPeer};

/// Who is where. Its origins are normal ones.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What is in the file.
    pub(super) known: HashMap<String, NodeId>,
    /// What should be, but could not be written.
    pub(super) unsaved: HashMap<String, NodeId>,
    /// Was in the file until lately: sessions with it end, and handshakes that begin later may find it again.
    pub(super) forgotten: HashMap<String, NodeId>,
    /// Who answered instead of the node that is known.
    pub(super) found: HashMap<String, NodeId>,
    pub(super) unreadable: bool,
}

impl Memory {
    pub(super) fn node(&self, origin: &str) -> Option<NodeId> {
        self.known.get(origin).or_else(|| self.unsaved.get(origin)).copied()
    }

    /// Takes over what has been written, as the file had it then: `learned`, or who was there before, in `there`.
    /// Returns whether that was another one anywhere.
    pub(super) fn written(&mut self, learned: &[(String, NodeId)], there: Vec<NodeId>) -> bool {
        let mut is_other = false;
        for ((origin, node), there) in learned.iter().zip(there) {
            self.unsaved.remove(origin);
            self.known.insert(origin.clone(), there);
            is_other |= *node != there;
        }
        is_other
    }

    /// Takes over what is in the file. Returns whether somebody is not known any more.
    pub(super) fn replace(&mut self, list: Vec<KnownPeer>) -> bool {
        self.unreadable = false;
        let old = std::mem::take(&mut self.known);
        self.known = list.into_iter().map(|peer| (peer.origin, peer.node_id)).collect();
        let known = &self.known;
        let mut withdrawn = false;
        self.unsaved.retain(|origin, node| {
            withdrawn |= known.get(origin).is_some_and(|other| other != node);
            !known.contains_key(origin)
        });
        for (origin, node) in old {
            withdrawn |= known.get(&origin) != Some(&node);
            if !known.contains_key(&origin) {
                self.found.remove(&origin);
                self.forgotten.insert(origin, node);
            }
        }
        withdrawn
    }
}
