//! Brings what was learned to the file, on a thread of its own: that may wait for others who write, and nobody
//! who has a message in hand should.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long who learns waits for the writing, which nearly always takes less. Once in a spell of trouble.
const BUDGET: Duration = Duration::from_millis(50);

/// The pause after what could not be written.
const RETRY: Duration = Duration::from_secs(30);

/// One try to write whatever has to be.
pub(super) trait Job: Send + Sync + 'static {
    /// Returns whether nothing is left to be written.
    fn run(&self) -> bool;
}

/// At most one thread at a time, which ends when there is nothing to do, or with this value.
#[derive(Debug, Default)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_thread: bool,
    /// Since when there is something to do that has not been tried. `None` when all has been.
    since: Option<Instant>,
    /// Counts orders, so that a try knows whether one came meanwhile.
    orders: u64,
    is_over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Has `job` done soon. Waits for it until [`BUDGET`] is over, which begins with the first order that has not
    /// been tried.
    pub(super) fn order(&self, job: &Arc<impl Job>) {
        let mut state = self.shared.state();
        state.orders += 1;
        let since = *state.since.get_or_insert_with(Instant::now);
        if !state.has_thread {
            let (shared, job) = (self.shared.clone(), job.clone());
            let thread =
                thread::Builder::new().name("known-peers".into()).spawn(move || work(&shared, &*job));
            // Without one, the next order tries again.
            state.has_thread = thread.is_ok();
        }
        self.shared.changed.notify_all();
        drop(state);
        self.wait(since + BUDGET);
    }

    /// Waits until everything that was ordered has been tried, or `deadline`.
    pub(super) fn wait(&self, deadline: Instant) {
        let mut state = self.shared.state();
        while state.has_thread && state.since.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Writer {
    /// The thread goes on by itself with the try that it is at, which replaces the file as a whole or not at all.
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
    }
}

fn work(shared: &Shared, job: &impl Job) {
    let mut state = shared.state();
    loop {
        let orders = state.orders;
        drop(state);
        let is_done = job.run();
        state = shared.state();
        if state.orders != orders {
            continue;
        }
        state.since = None;
        shared.changed.notify_all();
        if !is_done && !state.is_over {
            let waited = shared
                .changed
                .wait_timeout_while(state, RETRY, |state| state.orders == orders && !state.is_over);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if is_done || state.is_over {
            state.has_thread = false;
            return;
        }
    }
}
