//! Wipes in time what a responder's sessions leave behind: for the shells, which have a clock and tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::protocol::Responder;

/// How often keys are wiped whose session is over.
const SWEEP: Duration = Duration::from_secs(30);

/// At most one task, which ends with the last session or with the responder.
#[derive(Default)]
pub(crate) struct Sweeper {
    at_work: Arc<AtomicBool>,
}

impl Sweeper {
    /// To be called whenever a session has been admitted.
    pub(crate) fn keep_sweeping(&self, responder: &Arc<Responder>) {
        let Some(mut at_work) = AtWork::begin(&self.at_work) else { return };
        let responder = Arc::downgrade(responder);
        tokio::spawn(async move {
            loop {
                sleep(SWEEP).await;
                let Some(responder) = responder.upgrade() else { return };
                // tokio's clock, so that a test can turn it.
                let sweep = || responder.sweep(Instant::now().into_std());
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
