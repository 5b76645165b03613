//! A session: what two nodes agreed on, and the streams that begin in it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    handshake,
    keys::{Direction, SessionKeys},
    replay::ReplayWindow,
    stream::{Opener, Sealer, Stream},
    transcript::length,
};
use crate::{
    config::{Config, Signatures},
    error::{Code, Error, Result},
    identity::NodeId,
    suite::{SuiteId, ed25519::Verifier, hash::Expander},
    telemetry::Metric,
    trust::{Candidate, SessionId, Verified},
};

/// How long after the reply an initiator must have begun a stream, and a responder keeps a session that has
/// not been confirmed.
pub(crate) const PROVISIONAL: Duration = Duration::from_secs(60);

/// How long a stream may run from its beginning.
pub(super) const LONGEST_STREAM: Duration = Duration::from_secs(24 * 3600);

pub(super) const GONE: Error = Error::new(Code::UnknownSession, "this session has ended or expired");

/// What the handshake found out.
pub(super) struct Agreement {
    pub(super) config: Config,
    pub(super) side: Direction,
    pub(super) origin: Option<Arc<str>>,
    pub(super) pre_shared: Option<Box<[u8]>>,
    pub(super) id: SessionId,
    pub(super) peer: NodeId,
    pub(super) verifier: Verifier,
    pub(super) suite: SuiteId,
    pub(super) signatures: Signatures,
    pub(super) th: [u8; 32],
    pub(super) keys: Box<SessionKeys>,
    pub(super) began: Instant,
    pub(super) lifetime_secs: u64,
    /// That of the trust policy before it judged.
    pub(super) trust_revision: u64,
}

/// A session of either side. Its secrets are wiped when the last of its streams goes.
pub struct Session {
    pub(super) agreed: Agreement,
    /// Whether a record of the peer has been opened: as responder, a signed one.
    confirmed: AtomicBool,
    ended: AtomicBool,
    trust_revision: AtomicU64,
    last_stream: AtomicU64,
    /// Milliseconds after `began`.
    last_used: AtomicU64,
    served: Mutex<ReplayWindow>,
}

impl Session {
    pub(super) fn new(agreed: Agreement) -> Self {
        let telemetry = agreed.config.telemetry();
        telemetry.count(Metric::Handshakes);
        telemetry.count(Metric::SessionsLive);
        Session {
            confirmed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            trust_revision: AtomicU64::new(agreed.trust_revision),
            last_stream: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            served: Mutex::new(ReplayWindow::new()),
            agreed,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.agreed.id
    }

    /// The other side.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.agreed.peer
    }

    /// The cipher suite.
    #[must_use]
    pub fn suite(&self) -> SuiteId {
        self.agreed.suite
    }

    /// The signature policy that both sides follow.
    #[must_use]
    pub fn signatures(&self) -> Signatures {
        self.agreed.signatures
    }

    /// The moment when the handshake ended on this side.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.agreed.began
    }

    /// Whether the peer has proved with a record that it is there.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    /// A key for the application's own use, bound to this session, `label` and `context` (section 3).
    ///
    /// Errors: `Misuse` above 8160 bytes.
    pub fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<()> {
        let info = [&length(label)[..], label, &length(context), context];
        Expander::new(&self.agreed.keys.exporter).expand(&info, out)
    }

    /// Makes the streams of a duplex connection; there are no others in this session.
    ///
    /// `framed` puts a transport framing around records: a u32 length, or a LF after JSON.
    pub fn into_duplex(self, framed: bool, now: Instant) -> Result<(Sealer, Opener)> {
        let encoding = self.agreed.config.chosen_encoding();
        let (ours, theirs) = match self.agreed.side {
            Direction::Initiator => (Direction::Initiator, Direction::Responder),
            Direction::Responder => (Direction::Responder, Direction::Initiator),
        };
        let session = Arc::new(self);
        let sealer = Sealer::new(Stream::duplex(session.clone(), ours, now), encoding, framed)?;
        let opener = Opener::new(Stream::duplex(session, theirs, now))?;
        Ok((sealer, opener))
    }

    /// Whether a stream may begin: the session has not ended, and its time is not up.
    #[must_use]
    pub fn takes_streams(&self, now: Instant) -> bool {
        let age = self.age(now);
        age <= Duration::from_secs(self.agreed.lifetime_secs)
            && (self.is_confirmed() || self.agreed.side == Direction::Initiator || age <= PROVISIONAL)
            && self.is_live()
    }

    /// Whether an initiator should make a new session before it begins another stream here: the time of this
    /// one is nearly up, it has rested long, or the responder has given up waiting for its first record.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        let age = self.age(now);
        let rested = age.saturating_sub(self.last_used());
        age.as_millis() >= u128::from(self.agreed.lifetime_secs) * 900
            || rested > self.agreed.config.bounds().idle / 2
            || !self.is_confirmed() && age > PROVISIONAL / 2
            || !self.is_live()
    }

    /// Whether a stale session may still serve while another is made: the far side has confirmed it, and has no
    /// reason yet to have forgotten it.
    #[must_use]
    pub fn serves_meanwhile(&self, now: Instant) -> bool {
        let rested = self.age(now).saturating_sub(self.last_used());
        self.is_confirmed() && rested <= self.agreed.config.bounds().idle && self.takes_streams(now)
    }

    /// Ends the session: its streams carry no further record.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether it has not ended, and the trust policy still accepts the peer.
    pub(super) fn is_live(&self) -> bool {
        if self.ended.load(Ordering::Acquire) {
            return false;
        }
        let trust = self.agreed.config.trust();
        let revision = trust.revision();
        if self.trust_revision.load(Ordering::Acquire) != revision {
            if handshake::judge(&self.agreed.config, &self.candidate()).is_err() {
                self.end();
                return false;
            }
            self.trust_revision.store(revision, Ordering::Release);
        }
        true
    }

    /// Errors: `unknown_session` when a stream that began at `began` has to end.
    pub(super) fn check_stream(&self, began: Instant, now: Instant) -> Result<()> {
        if !self.is_live() || now.saturating_duration_since(began) > LONGEST_STREAM {
            return Err(GONE);
        }
        Ok(())
    }

    pub(super) fn check_new_stream(&self, now: Instant) -> Result<()> {
        if !self.takes_streams(now) {
            return Err(GONE);
        }
        Ok(())
    }

    pub(super) fn touch(&self, now: Instant) {
        let millis = u64::try_from(self.age(now).as_millis()).unwrap_or(u64::MAX);
        // Looked at first, since all streams of a session share it, and it is seldom news.
        if self.last_used.load(Ordering::Relaxed) < millis {
            self.last_used.fetch_max(millis, Ordering::Relaxed);
        }
    }

    /// After `began`.
    pub(super) fn last_used(&self) -> Duration {
        Duration::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.agreed.began)
    }

    /// The next id of an exchange, from 1 on, each once.
    pub(super) fn next_stream(&self) -> u64 {
        self.last_stream.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes the id of an exchange as served. Errors: `replayed`.
    pub(super) fn claim(&self, id: u64) -> Result<()> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).claim(id)
    }

    /// A record of the peer held every check. Returns whether the session lives on: a trust policy that learns
    /// may have learned of another node meanwhile.
    pub(super) fn confirm(&self) -> bool {
        if self.is_confirmed() || self.confirmed.swap(true, Ordering::AcqRel) {
            return true;
        }
        self.agreed.config.trust().confirmed(&self.candidate());
        self.is_live()
    }

    /// The other side as proved: once a record of it has been opened.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.is_confirmed().then(|| Verified::new(self.agreed.peer, self.agreed.id, self.agreed.began))
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            node_id: self.agreed.peer,
            origin: self.agreed.origin.as_deref(),
            pre_shared: self.agreed.pre_shared.as_deref(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.agreed.config.telemetry().fall(Metric::SessionsLive);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.agreed.id)
            .field("peer", &self.agreed.peer)
            .field("suite", &self.agreed.suite)
            .finish_non_exhaustive()
    }
}
