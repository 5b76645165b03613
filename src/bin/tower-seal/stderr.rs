//! What goes to stderr: through a queue, and a thread that writes.
//!
//! Whoever started this program may read its stderr slowly, or never: then a write waits, perhaps for ever, and
//! nothing else here is to wait with it. So lines for which there is no room are counted and lost.
//!
//! `tracing-appender` does the same, but counts lines and not bytes, and at the end complains on stderr, for which
//! it would wait for ever.

use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Bytes that wait to be written.
const MOST: usize = 4 << 20;
/// How long the rest may take when the program ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// There is one stderr.
static QUEUE: Queue = Queue { state: Mutex::new(State::new()), changed: Condvar::new() };

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines since the last one for which there was room again.
    lost: u64,
    is_writing: bool,
}

impl State {
    const fn new() -> Self {
        State { lines: VecDeque::new(), bytes: 0, lost: 0, is_writing: false }
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        // What follows on a loss is lost, too, until all is written: then that is told, in its place.
        if state.lost > 0 && !state.lines.is_empty() || state.bytes + line.len() > MOST {
            state.lost += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        self.changed.notify_all();
    }

    /// The next line, and how many were lost before it could be written.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut state = self.state();
        state.is_writing = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.is_writing = true;
                let lost = if state.lines.is_empty() { mem::take(&mut state.lost) } else { 0 };
                return (line, lost);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Starts the thread.
pub(crate) fn start() -> io::Result<()> {
    thread::Builder::new().name("stderr".to_owned()).spawn(write_out)?;
    Ok(())
}

fn write_out() {
    loop {
        let (line, lost) = QUEUE.next();
        // Where nobody reads it any more, it is lost.
        let _ = io::stderr().write_all(&line);
        if lost > 0 {
            tracing::warn!(lines = lost, "some of what was to be said here is lost, since nobody read it");
        }
    }
}

/// Says a line, which brings its own end.
pub(crate) fn say(line: impl Into<Vec<u8>>) {
    QUEUE.push(line.into());
}

/// Waits until all has been written, for a time that is bounded.
pub(crate) fn finish() {
    let state = QUEUE.state();
    let _ = QUEUE.changed.wait_timeout_while(state, FAREWELL, |state| !state.is_idle());
}

/// For `tracing`, which writes a line at a time.
pub(crate) struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        say(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
