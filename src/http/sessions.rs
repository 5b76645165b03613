//! The initiator's sessions: one for each origin and node expected there, made on first use.
//!
//! ```text
//!   none ──call──> handshaking ──reply──> ready ──stale: a call──> ready, and handshaking beside it
//!                       │ every call waits for the same handshake; it goes on while one of them lives
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::http::Uri;
use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use lru::LruCache;

use super::now;
use crate::{config::Config, error::Result, identity::NodeId, protocol::Session};

/// Origins for which sessions are kept; the least recently used goes first.
const MOST_ORIGINS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(1024).unwrap();

/// How long a session that could not be renewed goes on serving before the next try.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// Where a session belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// `scheme://authority`, in lower case.
    pub(super) origin: String,
    pub(super) audience: Option<NodeId>,
}

pub(super) type Handshake = BoxFuture<'static, Result<Arc<Session>>>;

#[derive(Default)]
struct Slot {
    ready: Option<Arc<Session>>,
    /// The one before `ready`, which may outlast it: the far side forgets a new session that is not used soon.
    before: Option<Arc<Session>>,
    /// Weak, so that it ends with the last call that waits for it.
    underway: Option<WeakShared<Handshake>>,
    /// When renewing `ready` may be tried again.
    renew_after: Option<Instant>,
}

type Slots = Mutex<LruCache<Place, Slot>>;

pub(super) struct Sessions {
    slots: Arc<Slots>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Sessions { slots: Arc::new(Mutex::new(LruCache::new(MOST_ORIGINS))) }
    }

    /// The session that takes a stream now, if there is one and its renewal is not due.
    pub(super) fn ready(&self, place: &Place) -> Option<Arc<Session>> {
        let now = now();
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(place) {
            return slot.usable(now);
        }
        // Made when nobody was expected there yet, and since then its node has been learned.
        let before = Place { origin: place.origin.clone(), audience: None };
        let made = slots.peek(&before)?.ready.as_ref()?;
        if Some(made.peer()) != place.audience {
            return None;
        }
        let slot = slots.pop(&before)?;
        let session = slot.usable(now);
        slots.put(place.clone(), slot);
        session
    }

    /// A new session. `handshake` makes it, if nobody is at it already; else it is dropped before the wait.
    ///
    /// Where there is an old session that still serves, that is returned at once, and the new one is made
    /// beside it: nothing is queued behind a renewal, nor fails with it.
    pub(super) async fn renewed(
        &self,
        place: &Place,
        handshake: impl FnOnce() -> Handshake,
    ) -> Result<Arc<Session>> {
        let (made, is_new, old) = {
            let mut slots = lock(&self.slots);
            let slot = slots.get_or_insert_mut(place.clone(), Slot::default);
            // It may have come just now.
            if let Some(session) = slot.usable(now()) {
                return Ok(session);
            }
            let old = slot.old();
            match slot.underway.as_ref().and_then(WeakShared::upgrade) {
                Some(underway) => {
                    drop(handshake);
                    (underway, false, old)
                }
                None => {
                    let made: Shared<Handshake> = handshake().shared();
                    slot.underway = made.downgrade();
                    (made, true, old)
                }
            }
        };
        if let Some(old) = old {
            if is_new {
                // Nobody waits for it. The task ends with the handshake, which has a limit of its own.
                let (slots, place) = (self.slots.clone(), place.clone());
                tokio::spawn(async move { settle(&slots, &place, &made, &made.clone().await) });
            }
            return Ok(old);
        }
        let result = made.clone().await;
        settle(&self.slots, place, &made, &result);
        result
    }

    /// The far side does not know `session` any more.
    pub(super) fn forget(&self, place: &Place, session: &Arc<Session>) {
        if let Some(slot) = lock(&self.slots).peek_mut(place) {
            let is_it = |known: &mut Arc<Session>| Arc::ptr_eq(known, session);
            if slot.before.take_if(is_it).is_none() && slot.ready.take_if(is_it).is_some() {
                slot.before = None;
            }
        }
    }
}

/// Puts what a handshake gave into its slot.
fn settle(slots: &Slots, place: &Place, made: &Shared<Handshake>, result: &Result<Arc<Session>>) {
    let mut slots = lock(slots);
    let slot = slots.get_or_insert_mut(place.clone(), Slot::default);
    // Whoever of the waiting comes first; when the last one comes it may be another handshake's turn.
    let underway = slot.underway.as_ref().and_then(WeakShared::upgrade);
    if underway.is_some_and(|underway| underway.ptr_eq(made)) {
        slot.underway = None;
        match result {
            Ok(session) => {
                slot.renew_after = None;
                let old = slot.ready.replace(session.clone());
                if old.as_ref().is_some_and(|old| old.is_confirmed()) {
                    slot.before = old;
                }
            }
            Err(_) => slot.renew_after = Some(now() + RENEWAL_PAUSE),
        }
    }
}

fn lock(slots: &Slots) -> MutexGuard<'_, LruCache<Place, Slot>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn usable(&self, now: Instant) -> Option<Arc<Session>> {
        let fresh = self.ready.as_ref().filter(|session| !session.is_stale(now));
        let paused = self.renew_after.is_some_and(|after| now < after);
        fresh.cloned().or_else(|| self.old().filter(|_| paused))
    }

    /// One whose renewal is due, and that serves until it is done.
    fn old(&self) -> Option<Arc<Session>> {
        let mut old = self.ready.iter().chain(&self.before);
        old.find(|session| session.serves_meanwhile(now())).cloned()
    }
}

impl Place {
    pub(super) fn new(config: &Config, scheme: &str, authority: &str) -> Self {
        let mut origin = String::with_capacity(scheme.len() + 3 + authority.len());
        origin.extend([scheme, "://", authority]);
        origin.make_ascii_lowercase();
        Place { audience: config.trust().expects(Some(&origin)), origin }
    }
}

/// The outer URI: that of the request, without its query.
pub(super) fn without_query(uri: &Uri) -> Uri {
    if uri.query().is_none() && !uri.path().is_empty() {
        return uri.clone();
    }
    let mut parts = uri.clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.path());
    // A path that was valid with a query is so without.
    parts.path_and_query = Some(path.parse().unwrap_or(::http::uri::PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}
