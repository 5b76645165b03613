//! A process and whatever it starts: a process group of its own, so that both end together.

use tokio::process::{Child, Command};

/// How often to look whether somebody is left.
#[cfg(unix)]
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// SIGTERM.
    Please,
    /// SIGKILL.
    Now,
}

/// The process group of a child, which is killed when this is dropped.
///
/// A wrapper such as `npx` or `sh -c` does not pass signals on, so they go to all of the group. What leaves the
/// group, as daemons do, is not reached.
#[derive(Debug)]
pub(super) struct Group {
    /// `None` once nobody is left, or will be in a moment: from then on the number may be another's.
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
}

/// Lets `command` begin a group.
pub(super) fn begin(command: &mut Command) {
    #[cfg(unix)]
    command.process_group(0);
    command.kill_on_drop(true);
}

impl Group {
    /// That of a child which was begun with [`begin`].
    pub(super) fn of(child: &Child) -> Self {
        #[cfg(unix)]
        {
            let id = child.id().and_then(|id| i32::try_from(id).ok());
            Group { id: id.and_then(rustix::process::Pid::from_raw) }
        }
        #[cfg(not(unix))]
        {
            let _ = child;
            Group {}
        }
    }

    /// Sends a signal to whoever is left; false where nobody is.
    pub(super) fn ask(&mut self, ask: Ask) -> bool {
        #[cfg(unix)]
        {
            use rustix::process::{Signal, kill_process_group};
            let signal = match ask {
                Ask::Please => Signal::TERM,
                Ask::Now => Signal::KILL,
            };
            let is_there = self.id.is_some_and(|id| kill_process_group(id, signal).is_ok());
            if !is_there || matches!(ask, Ask::Now) {
                self.id = None;
            }
            is_there
        }
        #[cfg(not(unix))]
        {
            let _ = ask;
            false
        }
    }

    /// Resolves once nobody is left.
    pub(super) async fn gone(&mut self) {
        #[cfg(unix)]
        while let Some(id) = self.id {
            if rustix::process::test_kill_process_group(id).is_err() {
                self.id = None;
            } else {
                // Who is not one's own child cannot be waited for.
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.ask(Ask::Now);
    }
}
