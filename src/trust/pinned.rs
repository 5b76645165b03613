//! Trust in a set of node ids.

use std::{
    collections::HashSet,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Candidate, Trust, Verdict};
use crate::identity::NodeId;

/// Accepts exactly these node ids. Ids can be added and removed while sessions live.
///
/// An initiator that pins one id sends it as the hello's `audience`.
#[derive(Debug, Default)]
pub struct Pinned {
    nodes: RwLock<HashSet<NodeId>>,
    revision: AtomicU64,
}

impl Pinned {
    /// Trust in `nodes`; an empty set trusts nobody.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Pinned { nodes: RwLock::new(nodes.into_iter().collect()), revision: AtomicU64::new(0) }
    }

    /// Accepts `node` from now on.
    pub fn insert(&self, node: NodeId) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    /// Withdraws trust in `node`: no record of its sessions is taken or sent any more.
    pub fn remove(&self, node: NodeId) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
        self.revision.fetch_add(1, Ordering::Release);
    }
}

impl FromIterator<NodeId> for Pinned {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        Pinned::new(nodes)
    }
}

impl Trust for Pinned {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        if self.nodes.read().unwrap_or_else(PoisonError::into_inner).contains(&candidate.node_id) {
            Verdict::Accept
        } else {
            Verdict::Refuse("this node id is not among the pinned ones")
        }
    }

    fn expects(&self, _: Option<&str>) -> Option<NodeId> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let mut nodes = nodes.iter();
        nodes.next().copied().filter(|_| nodes.next().is_none())
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }
}
