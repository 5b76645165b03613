//! A trust policy with every knob, which keeps a diary.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tower_seal::{
    NodeId,
    trust::{Candidate, PreShared, Trust, Verdict},
};

/// A candidate that was confirmed: id, origin, id of the pre-shared secret.
pub(crate) type Confirmed = (NodeId, Option<String>, Option<Vec<u8>>);

#[derive(Default)]
pub(crate) struct Policy {
    pub(crate) nodes: Mutex<HashSet<NodeId>>,
    /// Strangers are refused like listed ids with a bad signature.
    pub(crate) conceals: AtomicBool,
    pub(crate) revision: AtomicU64,
    /// As responder, the secret that it knows; as initiator, the one that it offers.
    pub(crate) secret: Mutex<Option<PreShared>>,
    /// Trust rests on the secret alone, not on the list.
    pub(crate) by_secret: AtomicBool,
    /// Withdraws its trust the moment after it has judged, as another thread might.
    pub(crate) fickle: AtomicBool,
    pub(crate) confirmed: Mutex<Vec<Confirmed>>,
}

impl Policy {
    pub(crate) fn listing(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Policy { nodes: Mutex::new(nodes.into_iter().collect()), ..Policy::default() }
    }

    pub(crate) fn add(&self, node: NodeId) {
        self.nodes.lock().unwrap().insert(node);
    }

    pub(crate) fn remove(&self, node: NodeId) {
        self.nodes.lock().unwrap().remove(&node);
        self.revision.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn share(&self, id: &[u8], secret: &[u8]) {
        *self.secret.lock().unwrap() = Some(PreShared::new(id, secret).unwrap());
    }

    pub(crate) fn confirmations(&self) -> Vec<Confirmed> {
        self.confirmed.lock().unwrap().clone()
    }
}

impl Trust for Policy {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        let trusted = if self.by_secret.load(Ordering::SeqCst) {
            candidate.pre_shared.is_some_and(|id| Trust::pre_shared(self, id).is_some())
        } else {
            self.nodes.lock().unwrap().contains(&candidate.node_id)
        };
        if self.fickle.swap(false, Ordering::SeqCst) {
            self.remove(candidate.node_id);
        }
        if trusted { Verdict::Accept } else { Verdict::Refuse("not on the list") }
    }

    fn confirmed(&self, candidate: &Candidate<'_>) {
        let origin = candidate.origin.map(str::to_owned);
        let entry = (candidate.node_id, origin, candidate.pre_shared.map(<[u8]>::to_vec));
        self.confirmed.lock().unwrap().push(entry);
    }

    fn conceals(&self) -> bool {
        self.conceals.load(Ordering::SeqCst)
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    fn pre_shared(&self, id: &[u8]) -> Option<PreShared> {
        self.secret.lock().unwrap().clone().filter(|secret| secret.id() == id)
    }

    fn offers(&self, _: Option<&str>) -> Option<PreShared> {
        self.secret.lock().unwrap().clone()
    }
}
