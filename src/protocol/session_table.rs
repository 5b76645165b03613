//! The sessions of a responder, bounded in number, in all and for each peer.
//!
//! Two tables: a session is provisional until its first record, and a flood of hellos, which anybody can
//! replay, can evict no confirmed one.

use std::{collections::HashMap, sync::Arc};

use lru::LruCache;

use super::session::Session;
use crate::{config::Limits, identity::NodeId, trust::SessionId};

/// Provisional sessions of one node id (PROTOCOL section 2.3).
const PROVISIONAL_PER_PEER: usize = 8;

pub(super) struct SessionTable {
    /// The order is that of their making.
    provisional: LruCache<SessionId, Arc<Session>>,
    /// The order is that of their use.
    confirmed: LruCache<SessionId, Arc<Session>>,
    peers: HashMap<NodeId, OfPeer>,
    most_provisional: usize,
    most: usize,
    most_per_peer: usize,
}

/// The sessions of one peer, oldest first.
#[derive(Default)]
struct OfPeer {
    provisional: Vec<SessionId>,
    confirmed: Vec<SessionId>,
}

impl SessionTable {
    pub(super) fn new(limits: &Limits) -> Self {
        SessionTable {
            provisional: LruCache::unbounded(),
            confirmed: LruCache::unbounded(),
            peers: HashMap::new(),
            most_provisional: limits.provisional.max(1),
            most: limits.sessions.max(1),
            most_per_peer: limits.sessions_per_peer.max(1),
        }
    }

    /// Keeps a provisional session. The oldest goes first.
    pub(super) fn admit(&mut self, session: Arc<Session>) {
        let of_peer = self.peers.get(&session.peer());
        let oldest = of_peer
            .filter(|of_peer| of_peer.provisional.len() >= PROVISIONAL_PER_PEER)
            .and_then(|of_peer| of_peer.provisional.first().copied());
        if let Some(oldest) = oldest {
            self.remove(&oldest);
        } else if self.provisional.len() >= self.most_provisional
            && let Some(oldest) = self.provisional.peek_lru().map(|(id, _)| *id)
        {
            self.remove(&oldest);
        }
        self.peers.entry(session.peer()).or_default().provisional.push(session.id());
        self.provisional.push(session.id(), session);
    }

    /// The session with this id.
    pub(super) fn find(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.confirmed.peek(id).or_else(|| self.provisional.peek(id)).cloned()
    }

    /// A request has been opened in it. If it was provisional, it is confirmed now. The least recently used of the same peer goes, where that
    /// has too many, else that of all.
    pub(super) fn used(&mut self, session: &Arc<Session>) {
        let id = session.id();
        if self.provisional.pop(&id).is_none() {
            self.confirmed.promote(&id);
            return;
        }
        let of_peer = self.peers.entry(session.peer()).or_default();
        of_peer.provisional.retain(|other| *other != id);
        let victim = if of_peer.confirmed.len() >= self.most_per_peer {
            of_peer
                .confirmed
                .iter()
                .filter_map(|id| self.confirmed.peek(id))
                .min_by_key(|session| session.began() + session.last_used())
                .map(|session| session.id())
        } else if self.confirmed.len() >= self.most {
            self.confirmed.peek_lru().map(|(id, _)| *id)
        } else {
            None
        };
        of_peer.confirmed.push(id);
        self.confirmed.push(id, session.clone());
        if let Some(victim) = victim {
            self.remove(&victim);
        }
    }

    pub(super) fn remove(&mut self, id: &SessionId) {
        let Some(session) = self.confirmed.pop(id).or_else(|| self.provisional.pop(id)) else {
            return;
        };
        if let Some(of_peer) = self.peers.get_mut(&session.peer()) {
            of_peer.provisional.retain(|other| other != id);
            of_peer.confirmed.retain(|other| other != id);
            if of_peer.provisional.is_empty() && of_peer.confirmed.is_empty() {
                self.peers.remove(&session.peer());
            }
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Arc<Session>) -> bool) {
        let gone: Vec<SessionId> = self
            .provisional
            .iter()
            .chain(self.confirmed.iter())
            .filter(|(_, session)| !keep(session))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.remove(&id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.provisional.is_empty() && self.confirmed.is_empty()
    }
}
