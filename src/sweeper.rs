//! Wipes in time what sessions leave behind: for the shells, which have a clock and tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{protocol::Responder, shell::now};

/// How often keys are wiped whose session is over.
const SWEEP: Duration = Duration::from_secs(30);

/// What keeps sessions, of either side.
pub(crate) trait Sweep: Send + Sync + 'static {
    /// Forgets the sessions that are over, so that their keys are wiped. Returns whether any is left.
    fn sweep(&self, now: Instant) -> bool;
}

impl Sweep for Responder {
    fn sweep(&self, now: Instant) -> bool {
        Responder::sweep(self, now)
    }
}

/// At most one task, which ends with the last session or with what keeps them.
#[derive(Default)]
pub(crate) struct Sweeper {
    at_work: Arc<AtomicBool>,
}

impl Sweeper {
    /// To be called whenever there is a new session, and not under a lock that `sweep` needs.
    pub(crate) fn keep_sweeping(&self, sessions: &Arc<impl Sweep>) {
        let Some(mut at_work) = AtWork::begin(&self.at_work) else { return };
        let sessions = Arc::downgrade(sessions);
        tokio::spawn(async move {
            loop {
                sleep(SWEEP).await;
                let Some(sessions) = sessions.upgrade() else { return };
                let sweep = || sessions.sweep(now());
                if sweep() {
                    continue;
                }
                let flag = at_work.0.clone();
                drop(at_work);
                // A session may have come in between, whose handshake still saw a task at work.
                match sweep().then(|| AtWork::begin(&flag)).flatten() {
                    Some(again) => at_work = again,
                    None => return,
                }
            }
        });
    }
}

/// Held by the task that is at work, and so let go of even if the task goes with its runtime.
struct AtWork(Arc<AtomicBool>);

impl AtWork {
    fn begin(flag: &Arc<AtomicBool>) -> Option<Self> {
        (!flag.swap(true, Ordering::AcqRel)).then(|| AtWork(flag.clone()))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
