//! The end of a child.

use std::{io, process::ExitStatus, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Child,
    group::Ask,
    signs::{Signs, Stage},
};

/// What a child gets after its stdin was closed, and once more after SIGTERM, as do those that it leaves behind.
const PATIENCE: Duration = Duration::from_secs(5);

impl Child {
    /// Waits for its end, or brings that about: once the connection is [`Stage::Ending`], step by step; when
    /// `hurry` says so, at once.
    pub(super) async fn live(&mut self, signs: &Signs, hurry: &CancellationToken) -> io::Result<ExitStatus> {
        let status = self.end(signs, hurry).await;
        signs.reach(Stage::Ended);
        if self.group.ask(Ask::Please) {
            tokio::select! {
                _ = timeout(PATIENCE, self.group.gone()) => {}
                () = hurry.cancelled() => {}
            }
            self.group.ask(Ask::Now);
        }
        signs.reach(Stage::Gone);
        status
    }

    async fn end(&mut self, signs: &Signs, hurry: &CancellationToken) -> io::Result<ExitStatus> {
        tokio::select! {
            status = self.process.wait() => return status,
            () = signs.reached(Stage::Ending) => {}
            () = hurry.cancelled() => {}
        }
        if let Some(status) = self.end_by_itself(hurry).await {
            return status;
        }
        tracing::info!(child = self.voice.child, "SIGTERM, since it does not end with its stdin");
        self.group.ask(Ask::Please);
        if let Some(status) = self.end_by_itself(hurry).await {
            return status;
        }
        tracing::warn!(child = self.voice.child, "SIGKILL, since it does not end");
        self.group.ask(Ask::Now);
        // Where there are no groups.
        let _ = self.process.start_kill();
        self.process.wait().await
    }

    async fn end_by_itself(&mut self, hurry: &CancellationToken) -> Option<io::Result<ExitStatus>> {
        tokio::select! {
            biased;
            status = self.process.wait() => Some(status),
            () = hurry.cancelled() => None,
            () = sleep(PATIENCE) => None,
        }
    }
}
