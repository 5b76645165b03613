//! Trust on first use: whoever answered first at an origin is the one who is expected there.

mod changed;
mod memory;

use std::{
    error::Error as _,
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    Candidate, KnownPeers, PreShared, Trust, Verdict,
    known_peers::{MOST_PEERS, Version, normal},
};
use crate::{
    error::{Code, Error, Result},
    identity::NodeId,
    telemetry::TARGET,
};

use memory::Memory;

pub use changed::PeerChanged;

const NO_ORIGIN: &str = "trust on first use is for initiators, which know the origin that they go to";
const CHANGED: &str = "another node answered than the one known at this origin: its key was renewed, or somebody \
                       is in between; `tower-seal peers list` shows who is known";
const FORGOTTEN: &str = "this node was forgotten a moment ago, so its sessions end";
const UNREADABLE: &str = "the file of known peers cannot be used, so nobody new is trusted: `tower-seal peers list` \
                          says what is wrong with it";
const FULL: &str = "10,000 peers are known: forget some, with `tower-seal peers forget ORIGIN`";

/// For initiators: accepts whoever answers first at an origin, and from then on nobody else there.
///
/// Somebody who sits in between **at that first time** can answer in the server's place, and is then the one
/// who is known: whoever can get the node id in another way should use [`Pinned`](super::Pinned), or write it
/// down beforehand ([`KnownPeers::trust`]).
///
/// A node is learned once it has proved by a first record that it is there, and for that origin only. If
/// another one has been learned meanwhile, here or by another process, that one stays, and the session ends.
/// A known node is sent as the hello's `audience`, so that an honest server with another key refuses by
/// itself; [`explain`](FirstUse::explain) makes sentences for people of that and of the opposite.
///
/// Questions are answered from memory. Whether the file has changed is looked up (one call of the operating
/// system) when a handshake begins and whenever the HTTP layer takes a request: no restart is needed after
/// `tower-seal peers forget` or `trust`. Removed or replaced nodes lose their sessions. If the file gets
/// damaged, the nodes that were known stay so, and nobody new is trusted. What cannot be written is logged,
/// once, and remembered as long as this value lives. The writing itself, once for each new origin, blocks.
///
/// ```
/// use std::sync::Arc;
/// use tower_seal::{Config, Identity, trust::{FirstUse, KnownPeers}};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("known-peers");
/// let trust = Arc::new(FirstUse::new(KnownPeers::open(path)?)?);
/// let config = Config::new(Identity::generate(), trust.clone());
/// # Ok::<(), tower_seal::Error>(())
/// ```
#[derive(Debug)]
pub struct FirstUse {
    peers: KnownPeers,
    /// What was read last. Locked by the one thread that is at the file, and before `memory`.
    read: Mutex<Version>,
    memory: Mutex<Memory>,
    revision: AtomicU64,
    warned: AtomicBool,
}

impl FirstUse {
    /// Learns into `peers`.
    ///
    /// Errors: `PeersFile` when it cannot be read.
    pub fn new(peers: KnownPeers) -> Result<Self> {
        let (list, version) = peers.read()?;
        let mut memory = Memory::default();
        memory.replace(list);
        Ok(FirstUse {
            peers,
            read: Mutex::new(version),
            memory: Mutex::new(memory),
            revision: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        })
    }

    /// The file.
    #[must_use]
    pub fn peers(&self) -> &KnownPeers {
        &self.peers
    }

    /// What `error`, which an attempt to reach `origin` ended with, says about the node that is known there.
    /// `None` if it has nothing to do with that node's key.
    #[must_use]
    pub fn explain(&self, origin: &str, error: &Error) -> Option<PeerChanged> {
        let answered = match error {
            Error::Untrusted { code: Code::UntrustedPeer, .. } => true,
            Error::Refused { code: Code::WrongAudience, .. } => false,
            _ => return None,
        };
        let origin = normal(origin).ok()?;
        let memory = self.memory();
        let expected = memory.node(&origin)?;
        let found = memory.found.get(&origin).copied().filter(|_| answered);
        Some(PeerChanged { origin, expected, answered, found })
    }

    /// Looks whether the file has changed, as every handshake does. For programs whose connections are so
    /// long that they should not wait for the next handshake until a node that was forgotten loses its own.
    pub fn refresh(&self) {
        // Somebody else who is at it does the same; waiting for that one could take as long as its writing.
        let mut read = match self.read.try_lock() {
            Ok(read) => read,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if !read.is_current(self.peers.path()) {
            self.read_anew(&mut read);
        }
    }

    fn read_anew(&self, read: &mut Version) {
        match self.peers.read() {
            Ok((list, version)) => {
                *read = version;
                if self.memory().replace(list) {
                    self.withdraw();
                }
            }
            // `read` stays as it was, so the next look is followed by another try.
            Err(error) => {
                if !std::mem::replace(&mut self.memory().unreadable, true) {
                    warn(&error, "known peers: no new node is trusted");
                }
            }
        }
    }

    /// Has every session judge its peer again.
    fn withdraw(&self) {
        self.revision.fetch_add(1, Ordering::Release);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trust for FirstUse {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        let origin = match candidate.origin.map(normal) {
            Some(Ok(origin)) => origin,
            Some(Err(reason)) => return Verdict::Refuse(reason),
            None => return Verdict::Refuse(NO_ORIGIN),
        };
        let mut memory = self.memory();
        match memory.node(&origin) {
            Some(known) if known == candidate.node_id => Verdict::Accept,
            Some(_) => {
                memory.found.insert(origin, candidate.node_id);
                Verdict::Refuse(CHANGED)
            }
            None if memory.unreadable => Verdict::Refuse(UNREADABLE),
            None if memory.forgotten.get(&origin) == Some(&candidate.node_id) => Verdict::Refuse(FORGOTTEN),
            None if memory.known.len() + memory.unsaved.len() >= MOST_PEERS => Verdict::Refuse(FULL),
            None => Verdict::Accept,
        }
    }

    fn expects(&self, origin: Option<&str>) -> Option<NodeId> {
        let origin = normal(origin?).ok()?;
        self.refresh();
        self.memory().node(&origin)
    }

    fn confirmed(&self, candidate: &Candidate<'_>) {
        let Some(Ok(origin)) = candidate.origin.map(normal) else { return };
        let node = candidate.node_id;
        if self.memory().known.get(&origin) == Some(&node) {
            return;
        }
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = self.memory();
        let other = memory.node(&origin).is_some_and(|known| known != node);
        let forgotten = memory.forgotten.get(&origin) == Some(&node);
        drop(memory);
        if !other && !forgotten {
            if let Err(error) = self.peers.learn(&origin, node) {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    warn(
                        &error,
                        "known peers: what is learned cannot be written down and goes with this process",
                    );
                }
                self.memory().unsaved.insert(origin, node);
            }
            self.read_anew(&mut read);
        }
        // Whoever else answered at this origin is not to be trusted any more; that may be this one.
        self.withdraw();
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// None. But this is asked just when a handshake begins, and whoever was forgotten before may be met, and
    /// learned, again from then on.
    fn offers(&self, origin: Option<&str>) -> Option<PreShared> {
        self.refresh();
        let origin = normal(origin?).ok()?;
        let mut memory = self.memory();
        memory.forgotten.remove(&origin);
        memory.found.remove(&origin);
        None
    }
}

fn warn(error: &Error, what: &'static str) {
    tracing::warn!(target: TARGET, %error, cause = error.source(), what);
}
