//! The session that an initiator keeps with one far side: made on first use, renewed in time.
//!
//! ```text
//!   none ──call──> handshaking ──reply──> ready ──stale: a call──> ready, and handshaking beside it
//!    ^                  │ every call waits for the same handshake; it goes on while one of them lives
//!    └────────────────────────────────────── ready ──over: swept, so that its keys are wiped
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};

use crate::{
    below::Below,
    error::Result,
    identity::NodeId,
    protocol::Session,
    shell::now,
    sweeper::{Sweep, Sweeper},
};

/// How long a session that could not be renewed goes on serving before the next try.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// Makes a session, with a service of its own.
pub(crate) type Handshake = BoxFuture<'static, Result<Arc<Session>>>;

type Underway = Shared<Handshake>;

#[derive(Clone, Default)]
pub(crate) struct Kept {
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct Shelf {
    slot: Mutex<Slot>,
    sweeper: Sweeper,
}

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

impl Kept {
    /// The session that takes a stream now, if there is one and its renewal is not due.
    pub(crate) fn ready(&self) -> Option<Arc<Session>> {
        self.lock().usable(now())
    }

    /// With whom the session is that is kept; of two, the newer one.
    pub(crate) fn peer(&self) -> Option<NodeId> {
        let slot = self.lock();
        slot.ready.as_ref().or(slot.before.as_ref()).map(|session| session.peer())
    }

    /// A session for a call that has the service `below`, where none is [ready](Self::ready).
    ///
    /// One that is old and still serves is returned at once, and a new one is made beside it: nothing is queued
    /// behind a renewal, nor fails with it. Whoever waits for a handshake, of its own or of another call, holds
    /// nothing that is ready: under a limit of concurrency the handshake could wait for that for ever.
    pub(crate) async fn renewed<S: Clone>(
        &self,
        below: &mut Below<S>,
        handshake: impl FnOnce(Below<S>) -> Handshake,
    ) -> Result<Arc<Session>> {
        let (old, underway) = {
            let slot = self.lock();
            (slot.old(now()), slot.underway())
        };
        match (old, underway) {
            (Some(old), Some(_)) => Ok(old),
            (Some(old), None) => {
                let (kept, made) = (self.clone(), self.begin(handshake(below.another())));
                // Nobody waits for it. The task ends with the handshake, which has a limit of its own.
                tokio::spawn(async move { kept.join(made).await });
                Ok(old)
            }
            (None, Some(underway)) => {
                drop(below.take());
                self.join(underway).await
            }
            (None, None) => self.join(self.begin(handshake(below.take()))).await,
        }
    }

    /// What to wait for: `handshake`, unless another call was faster.
    fn begin(&self, handshake: Handshake) -> Underway {
        let own = handshake.shared();
        // Goes before `own` does, which has a service of the application inside.
        let mut slot = self.lock();
        if let Some(session) = slot.usable(now()) {
            return std::future::ready(Ok(session)).boxed().shared();
        }
        slot.underway().unwrap_or_else(|| {
            slot.underway = own.downgrade();
            own.clone()
        })
    }

    async fn join(&self, made: Underway) -> Result<Arc<Session>> {
        let result = made.clone().await;
        self.settle(&made, &result);
        result
    }

    /// The far side does not know `session` any more.
    pub(crate) fn forget(&self, session: &Arc<Session>) {
        let mut slot = self.lock();
        let is_it = |known: &mut Arc<Session>| Arc::ptr_eq(known, session);
        if slot.before.take_if(is_it).is_none() && slot.ready.take_if(is_it).is_some() {
            slot.before = None;
        }
    }

    /// Keeps what a handshake gave.
    fn settle(&self, made: &Underway, result: &Result<Arc<Session>>) {
        let underway = {
            let mut slot = self.lock();
            let underway = slot.underway();
            // Whoever of the waiting comes first; when the last one comes it may be another handshake's turn.
            if underway.as_ref().is_some_and(|underway| underway.ptr_eq(made)) {
                slot.keep(result);
            }
            underway
        };
        if result.is_ok() {
            self.shelf.sweeper.keep_sweeping(&self.shelf);
        }
        // Not under the lock, since it may be the last one that waited.
        drop(underway);
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.shelf.lock()
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sweep for Shelf {
    fn sweep(&self, now: Instant) -> bool {
        // One that a call or a stream holds is not: the next record may make it serve again, and its keys stay anyway.
        let is_over = |session: &mut Arc<Session>| {
            Arc::strong_count(session) == 1 && session.is_stale(now) && !session.serves_meanwhile(now)
        };
        let mut slot = self.lock();
        let over = (slot.ready.take_if(is_over), slot.before.take_if(is_over));
        let is_any_left = slot.ready.is_some() || slot.before.is_some();
        drop(slot);
        // Not under the lock, since a config of the application may go with it.
        drop(over);
        is_any_left
    }
}

impl Slot {
    fn usable(&self, now: Instant) -> Option<Arc<Session>> {
        let fresh = self.ready.as_ref().filter(|session| !session.is_stale(now));
        let paused = self.renew_after.is_some_and(|after| now < after);
        fresh.cloned().or_else(|| self.old(now).filter(|_| paused))
    }

    /// One whose renewal is due, and that serves until it is done.
    fn old(&self, now: Instant) -> Option<Arc<Session>> {
        let mut old = self.ready.iter().chain(&self.before);
        old.find(|session| session.serves_meanwhile(now)).cloned()
    }

    fn keep(&mut self, result: &Result<Arc<Session>>) {
        self.underway = None;
        match result {
            Ok(session) => {
                self.renew_after = None;
                let old = self.ready.replace(session.clone());
                if old.as_ref().is_some_and(|old| old.is_confirmed()) {
                    self.before = old;
                }
            }
            Err(_) => self.renew_after = Some(now() + RENEWAL_PAUSE),
        }
    }

    fn underway(&self) -> Option<Underway> {
        self.underway.as_ref().and_then(WeakShared::upgrade)
    }
}
