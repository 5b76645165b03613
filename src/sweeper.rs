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
        if self.at_work.swap(true, Ordering::AcqRel) {
            return;
        }
        let (responder, at_work) = (Arc::downgrade(responder), self.at_work.clone());
        tokio::spawn(async move {
            loop {
                sleep(SWEEP).await;
                let Some(responder) = responder.upgrade() else { return };
                // tokio's clock, so that a test can turn it.
                let sweep = || responder.sweep(Instant::now().into_std());
                if sweep() {
                    continue;
                }
                at_work.store(false, Ordering::Release);
                // A session may have come in between, whose handshake still saw a task at work.
                if !sweep() || at_work.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }
}
