//! Trust on first use: whoever answered first at an origin is the one who is expected there.

mod changed;
mod memory;
mod writer;

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
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
use writer::{Job, Writer};

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
/// damaged, the nodes that were known stay so, and nobody new is trusted.
///
/// What is learned counts at once, and is written by a thread of its own, for which a session's first answer waits
/// 50 ms at most. What cannot be written, while another process has locked the file say, is logged, remembered as
/// long as this value lives, and tried again with each new session and every 30 s; if somebody else writes down
/// another node first, that one goes before it.
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
    known: Arc<Known>,
    writer: Writer,
}

/// What the writing thread needs as well.
#[derive(Debug)]
struct Known {
    peers: KnownPeers,
    /// What was read last. Locked by the one thread that reads the file, and before `memory`; never while somebody
    /// waits for others who write.
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
        let known = Known {
            peers,
            read: Mutex::new(version),
            memory: Mutex::new(memory),
            revision: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        };
        Ok(FirstUse { known: Arc::new(known), writer: Writer::default() })
    }

    /// The file.
    #[must_use]
    pub fn peers(&self) -> &KnownPeers {
        &self.known.peers
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
        let memory = self.known.memory();
        let expected = memory.node(&origin)?;
        let found = memory.found.get(&origin).copied().filter(|_| answered);
        Some(PeerChanged { origin, expected, answered, found })
    }

    /// Looks whether the file has changed, as every handshake does. For programs whose connections are so
    /// long that they should not wait for the next handshake until a node that was forgotten loses its own.
    pub fn refresh(&self) {
        self.known.refresh();
    }

    /// Waits until what was learned has been written, or could not be, or `limit` is over. Returns whether all of it
    /// is in the file. For programs that end as soon as they have their answer; it blocks.
    pub fn flush(&self, limit: Duration) -> bool {
        self.writer.wait(Instant::now() + limit);
        self.known.memory().unsaved.is_empty()
    }
}

impl Known {
    fn refresh(&self) {
        // Somebody else who is at it does the same.
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

impl Job for Known {
    fn run(&self) -> bool {
        let learned: Vec<_> =
            self.memory().unsaved.iter().map(|(origin, node)| (origin.clone(), *node)).collect();
        if learned.is_empty() {
            return true;
        }
        match self.peers.learn(&learned) {
            Ok(there) => {
                let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
                let is_other = self.memory().written(&learned, there);
                self.read_anew(&mut read);
                drop(read);
                if is_other {
                    self.withdraw();
                }
                self.warned.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    warn(
                        &error,
                        "known peers: what is learned cannot be written down now, and goes with this process \
                         unless that changes",
                    );
                }
            }
        }
        self.memory().unsaved.is_empty()
    }
}

impl Trust for FirstUse {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        let origin = match candidate.origin.map(normal) {
            Some(Ok(origin)) => origin,
            Some(Err(reason)) => return Verdict::Refuse(reason),
            None => return Verdict::Refuse(NO_ORIGIN),
        };
        let mut memory = self.known.memory();
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
        self.known.memory().node(&origin)
    }

    fn confirmed(&self, candidate: &Candidate<'_>) {
        let Some(Ok(origin)) = candidate.origin.map(normal) else { return };
        let node = candidate.node_id;
        let mut memory = self.known.memory();
        if memory.known.get(&origin) == Some(&node) {
            return;
        }
        drop(memory);
        // What another process wrote a moment ago counts.
        self.refresh();
        memory = self.known.memory();
        let known = memory.node(&origin);
        let is_learned = known.is_none() && memory.forgotten.get(&origin) != Some(&node);
        if is_learned {
            memory.unsaved.insert(origin.clone(), node);
        }
        let is_unsaved = memory.unsaved.get(&origin) == Some(&node);
        drop(memory);
        if is_unsaved {
            self.writer.order(&self.known);
        }
        if is_learned || known != Some(node) {
            // Whoever else answered at this origin is not to be trusted any more; that may be this one.
            self.known.withdraw();
        }
    }

    fn revision(&self) -> u64 {
        self.known.revision.load(Ordering::Acquire)
    }

    /// None. But this is asked just when a handshake begins, and whoever was forgotten before may be met, and
    /// learned, again from then on.
    fn offers(&self, origin: Option<&str>) -> Option<PreShared> {
        self.refresh();
        let origin = normal(origin?).ok()?;
        let mut memory = self.known.memory();
        memory.forgotten.remove(&origin);
        memory.found.remove(&origin);
        None
    }
}

fn warn(error: &Error, what: &'static str) {
    tracing::warn!(target: TARGET, %error, cause = error.source(), "{what}");
}
