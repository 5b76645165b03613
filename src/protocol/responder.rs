//! The responder's memory: sessions, provisional and confirmed, and the hellos that made them (PROTOCOL
//! section 2.3).

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand_core::CryptoRng;

use super::{
    exchange::Offered,
    handshake::{self, Hello},
    record::Record,
    reject::{self, Subject},
    session::Session,
    session_table::SessionTable,
};
use crate::{
    config::Config,
    error::{Code, Error, Result},
};

/// How long a hello is remembered.
const HELLO_MEMORY: Duration = Duration::from_secs(3600);

/// Answers hellos, and finds the session of a request. Shared by all connections of a server.
pub struct Responder {
    config: Config,
    sessions: Mutex<SessionTable>,
    hellos: Mutex<SeenHellos>,
}

impl Responder {
    /// A responder without sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let sessions = Mutex::new(SessionTable::new(config.bounds()));
        Responder { config, sessions, hellos: Mutex::default() }
    }

    /// Its config.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Answers a hello. The session is its caller's: for a duplex connection, or to
    /// [`admit`](Self::admit).
    ///
    /// `target` says whether the `target` of the hello is right; HTTP compares the path of each request
    /// instead. `budget` is asked before the first public-key operation; a no answers `busy`. Takes up to 80
    /// bytes of `rng`.
    ///
    /// Errors: as section 2.3 orders them.
    pub fn accept(
        &self,
        hello: &[u8],
        target: impl FnOnce(Option<&str>) -> bool,
        budget: impl FnOnce() -> bool,
        rng: &mut (impl CryptoRng + ?Sized),
        now: Instant,
    ) -> Result<(Bytes, Session)> {
        let hello = Hello::parse(hello)?;
        let hellos = || self.hellos.lock().unwrap_or_else(PoisonError::into_inner);
        handshake::respond(
            &self.config,
            &hello,
            target,
            |h1| {
                hellos().check(h1, now)?;
                if budget() {
                    Ok(())
                } else {
                    Err(Error::new(Code::Busy, "too many handshakes in this second"))
                }
            },
            |h1| hellos().remember(h1, self.config.bounds().hellos, now),
            rng,
            now,
        )
    }

    /// Keeps a session for requests: for 60 s, and as long as it lasts once a request has confirmed it.
    pub fn admit(&self, session: Session) {
        self.sessions().admit(Arc::new(session));
    }

    /// Opens a request's first record. Before it is [claimed](Offered::claim), its path is to be compared.
    ///
    /// Errors: those of section 9, with the subject that a signed error is about.
    pub fn open(
        &self,
        mut record: Record,
        now: Instant,
    ) -> Result<(Offered, Subject), (Error, Option<Subject>)> {
        self.find_and_open(&mut record, now).map_err(|error| (error, Subject::of(record)))
    }

    fn find_and_open(&self, record: &mut Record, now: Instant) -> Result<(Offered, Subject)> {
        const UNKNOWN: Error =
            Error::new(Code::UnknownSession, "no such session: it never was, or it has ended");
        let Some(opening) = record.opening else {
            return Err(Error::malformed("a request without an opening"));
        };
        let id = opening.session;
        let Some(session) = self.sessions().find(&id) else {
            return Err(UNKNOWN);
        };
        // One reference is the table's, one is ours.
        if !session.takes_streams(now) || is_idle(&session, 2, &self.config, now) {
            self.sessions().remove(&id);
            return Err(UNKNOWN);
        }
        let opened = Offered::open(session.clone(), record, now)?;
        // Only now, so that forgeries neither keep a session alive nor choose which one goes.
        self.sessions().used(&session);
        Ok(opened)
    }

    /// The message that tells the peer of `error`, counted; signed where there is a subject.
    #[must_use]
    pub fn refuse(&self, error: &Error, subject: Option<&Subject>) -> Bytes {
        if let Some(code) = error.code() {
            self.config.telemetry().reject(code);
        }
        reject::write(error, subject.map(|subject| (subject, &self.config)))
    }

    /// Forgets the sessions whose time is up or whose peer is trusted no more, so that their keys are wiped.
    /// Returns whether any is left. To be called about once a minute while there are sessions.
    pub fn sweep(&self, now: Instant) -> bool {
        let mut sessions = self.sessions();
        sessions.retain(|session| {
            let streams_run = Arc::strong_count(session) > 1;
            (session.takes_streams(now) || streams_run && session.is_live())
                && !is_idle(session, 1, &self.config, now)
        });
        !sessions.is_empty()
    }

    fn sessions(&self) -> MutexGuard<'_, SessionTable> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the test vectors.
#[cfg(test)]
impl Responder {
    pub(super) fn admit_shared(&self, session: Arc<Session>) {
        self.sessions().admit(session);
    }
}

/// Whether it has rested for too long. Streams that run, which hold references beside `own` ones, keep it in
/// use.
fn is_idle(session: &Arc<Session>, own: usize, config: &Config, now: Instant) -> bool {
    let rested = session.age(now).saturating_sub(session.last_used());
    rested > config.bounds().idle && Arc::strong_count(session) <= own
}

/// The hashes of accepted hellos: those of the last hour, and at most so many.
#[derive(Default)]
struct SeenHellos {
    known: HashSet<[u8; 32]>,
    order: VecDeque<(Instant, [u8; 32])>,
}

impl SeenHellos {
    fn check(&mut self, h1: &[u8; 32], now: Instant) -> Result<()> {
        while let Some((since, old)) = self.order.front() {
            if now.saturating_duration_since(*since) <= HELLO_MEMORY {
                break;
            }
            self.known.remove(old);
            self.order.pop_front();
        }
        if self.known.contains(h1) {
            return Err(Error::new(Code::Replayed, "this hello has been answered before"));
        }
        Ok(())
    }

    fn remember(&mut self, h1: [u8; 32], most: usize, now: Instant) -> Result<()> {
        // Again, since another copy may have come meanwhile.
        self.check(&h1, now)?;
        if self.order.len() >= most
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(h1);
        self.order.push_back((now, h1));
        Ok(())
    }
}
