//! What goes to stderr: through a queue, and a thread that writes.
//!
//! Whoever started this program may read its stderr slowly, or never: then a write waits, perhaps for ever, and
//! nothing else here is to wait with it. So lines for which there is no room are counted and lost. What children
//! say has half of the room, so that none of them keeps the operator from this program's own lines.
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
/// Of which so many are of children.
const MOST_OF_CHILDREN: usize = MOST / 2;
/// How long the rest may take when the program ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// There is one stderr.
static QUEUE: Queue = Queue { state: Mutex::new(State::new()), changed: Condvar::new() };

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: VecDeque<(Whose, Vec<u8>)>,
    own: Share,
    children: Share,
    is_writing: bool,
}

#[derive(Clone, Copy)]
enum Whose {
    Own,
    Child,
}

struct Share {
    bytes: usize,
    /// Lines since the last one for which there was room again.
    lost: u64,
}

impl Share {
    const fn new() -> Self {
        Share { bytes: 0, lost: 0 }
    }

    /// How many lines were lost, once the others are written.
    fn take_lost(&mut self) -> u64 {
        if self.bytes == 0 { mem::take(&mut self.lost) } else { 0 }
    }
}

impl State {
    const fn new() -> Self {
        State { lines: VecDeque::new(), own: Share::new(), children: Share::new(), is_writing: false }
    }

    fn share(&mut self, whose: Whose) -> &mut Share {
        match whose {
            Whose::Own => &mut self.own,
            Whose::Child => &mut self.children,
        }
    }

    fn has_room(&self, whose: Whose, bytes: usize) -> bool {
        let of_children = self.children.bytes + bytes;
        self.own.bytes + of_children <= MOST
            && (matches!(whose, Whose::Own) || of_children <= MOST_OF_CHILDREN)
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, whose: Whose, line: Vec<u8>) {
        let mut state = self.state();
        let has_room = state.has_room(whose, line.len());
        let share = state.share(whose);
        // What follows on a loss is lost, too, until all is written: then that is told, in its place.
        if share.lost > 0 && share.bytes > 0 || !has_room {
            share.lost += 1;
            return;
        }
        share.bytes += line.len();
        state.lines.push_back((whose, line));
        self.changed.notify_all();
    }

    /// The next line, and how many were lost before it could be written: our own, and children's.
    fn next(&self) -> (Vec<u8>, u64, u64) {
        let mut state = self.state();
        state.is_writing = false;
        self.changed.notify_all();
        loop {
            if let Some((whose, line)) = state.lines.pop_front() {
                state.share(whose).bytes -= line.len();
                state.is_writing = true;
                return (line, state.own.take_lost(), state.children.take_lost());
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
        let (line, lost, of_children) = QUEUE.next();
        // Where nobody reads it any more, it is lost.
        let _ = io::stderr().write_all(&line);
        if lost > 0 {
            tracing::warn!(lines = lost, "some of what was to be said here is lost, since nobody read it");
        }
        if of_children > 0 {
            tracing::warn!(
                lines = of_children,
                "some of what servers said on their stderr is lost, since it was not read here in time"
            );
        }
    }
}

/// Says a line, which brings its own end.
pub(crate) fn say(line: impl Into<Vec<u8>>) {
    QUEUE.push(Whose::Own, line.into());
}

/// The same with a line of a child.
pub(crate) fn pass_on(line: impl Into<Vec<u8>>) {
    QUEUE.push(Whose::Child, line.into());
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
