//! The initiator's session with the one far side of a layer, made on first use and renewed in time.
//!
//! ```text
//!   none ──call──> handshaking ──reply──> ready ──stale: a call──> ready, and handshaking beside it
//!                       │ every call waits for the same handshake; it goes on while one of them lives
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};

use super::now;
use crate::{error::Result, protocol::Session};

/// How long a session that could not be renewed goes on serving before the next try.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

pub(super) type Handshake = BoxFuture<'static, Result<Arc<Session>>>;

#[derive(Clone, Default)]
pub(super) struct Kept {
    slot: Arc<Mutex<Slot>>,
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
    pub(super) fn ready(&self) -> Option<Arc<Session>> {
        self.lock().usable()
    }

    /// A new session. `handshake` makes it, if nobody is at it already; else it is dropped before the wait.
    ///
    /// Where there is an old session that still serves, that is returned at once, and the new one is made
    /// beside it: nothing is queued behind a renewal, nor fails with it.
    pub(super) async fn renewed(&self, handshake: impl FnOnce() -> Handshake) -> Result<Arc<Session>> {
        let (made, is_new, old) = {
            let mut slot = self.lock();
            // It may have come just now.
            if let Some(session) = slot.usable() {
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
                let kept = self.clone();
                tokio::spawn(async move { kept.settle(&made, &made.clone().await) });
            }
            return Ok(old);
        }
        let result = made.clone().await;
        self.settle(&made, &result);
        result
    }

    /// The far side does not know `session` any more.
    pub(super) fn forget(&self, session: &Arc<Session>) {
        let mut slot = self.lock();
        let is_it = |known: &mut Arc<Session>| Arc::ptr_eq(known, session);
        if slot.before.take_if(is_it).is_none() && slot.ready.take_if(is_it).is_some() {
            slot.before = None;
        }
    }

    /// Keeps what a handshake gave.
    fn settle(&self, made: &Shared<Handshake>, result: &Result<Arc<Session>>) {
        let mut slot = self.lock();
        // Whoever of the waiting comes first; when the last one comes it may be another handshake's turn.
        let underway = slot.underway.as_ref().and_then(WeakShared::upgrade);
        if underway.is_none_or(|underway| !underway.ptr_eq(made)) {
            return;
        }
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

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn usable(&self) -> Option<Arc<Session>> {
        let fresh = self.ready.as_ref().filter(|session| !session.is_stale(now()));
        let paused = self.renew_after.is_some_and(|after| now() < after);
        fresh.cloned().or_else(|| self.old().filter(|_| paused))
    }

    /// One whose renewal is due, and that serves until it is done.
    fn old(&self) -> Option<Arc<Session>> {
        let mut old = self.ready.iter().chain(&self.before);
        old.find(|session| session.serves_meanwhile(now())).cloned()
    }
}
