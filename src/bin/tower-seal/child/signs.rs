//! How far a connection with its child has come, as its parts tell each other.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// In this order, none of them twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Running,
    /// The child gets no more input, and a limited time.
    Ending,
    /// The child has ended.
    Ended,
    /// So has all that it started.
    Gone,
}

#[derive(Debug)]
pub(super) struct Signs {
    stage: watch::Sender<Stage>,
    /// The client hears nothing any more.
    pub(super) deaf: CancellationToken,
    /// The client has said all that it had to say, of which some may not be written yet.
    pub(super) said_all: CancellationToken,
    /// The first reason why it could not end well.
    trouble: OnceLock<&'static str>,
    dismissed: AtomicBool,
    spoken: AtomicBool,
}

impl Signs {
    pub(super) fn new() -> Self {
        Signs {
            stage: watch::Sender::new(Stage::Running),
            deaf: CancellationToken::new(),
            said_all: CancellationToken::new(),
            trouble: OnceLock::new(),
            dismissed: AtomicBool::new(false),
            spoken: AtomicBool::new(false),
        }
    }

    pub(super) fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let further = stage > *now;
            *now = stage.max(*now);
            further
        });
    }

    /// Resolves once that stage, or a later one, is reached.
    pub(super) async fn reached(&self, stage: Stage) {
        // It fails only once the sender is gone, which is here.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    pub(super) fn end_in(&self, trouble: &'static str) {
        let _ = self.trouble.set(trouble);
        self.reach(Stage::Ending);
    }

    pub(super) fn trouble(&self) -> Option<&'static str> {
        self.trouble.get().copied()
    }

    pub(super) fn lose_client(&self) {
        self.deaf.cancel();
        self.dismiss();
    }

    /// The child is needed no more: its client has gone, or this program ends.
    pub(super) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
        self.reach(Stage::Ending);
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }

    /// The child has said something on stdout.
    pub(super) fn spoke(&self) {
        self.spoken.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.spoken.load(Ordering::Relaxed)
    }
}
