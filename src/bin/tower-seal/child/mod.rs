//! Children: the stdio servers that are run, one for each connection.
//!
//! ```text
//!  client ══ records ══>  Receiver ──> one line each ──> stdin  ┐
//!                                                               │ COMMAND, in a process group of its own
//!  client <══ records ══  Sender  <── one line each <── stdout  │
//!                                       our stderr  <── stderr  ┘
//! ```
//!
//! A connection and its child end together, whoever ends first:
//!
//! - the client ends its direction, goes, or breaks the protocol: stdin is closed; a child that does not end within
//!   5 s gets SIGTERM, and after another 5 s SIGKILL. So it is when this program has to stop.
//! - the child ends: what it said before is sent; then FINAL if its status is 0, and otherwise a notice, and an
//!   end without FINAL, which is `truncated` for the client.
//!
//! What the child started itself is ended after it.

mod carry;
mod ending;
mod group;
mod lines;
mod listen;
mod message;
mod program;
mod room;
mod signs;
mod speak;
mod voice;

use std::{
    fmt::Write as _,
    io,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tower_seal::NodeId;

use crate::common::LogFormat;
use group::Group;
use room::{Place, Room};
use voice::Voice;

pub(crate) use carry::carry;
pub(crate) use program::Program;

/// The program, and how many of it may run.
#[derive(Debug)]
pub(crate) struct Children {
    program: Program,
    format: LogFormat,
    room: Room,
    started: AtomicU64,
    refused: AtomicU64,
}

impl Children {
    /// So many at once, of which so many for one node.
    pub(crate) fn new(program: Program, (most, per_node): (usize, usize), format: LogFormat) -> Self {
        Children {
            program,
            format,
            room: Room::new(most, per_node),
            started: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub(crate) fn are_too_many(&self) -> bool {
        self.room.is_full()
    }

    /// Counts a connection for which there was no room.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A place among them, or why there is none.
    fn place(&self, peer: Option<NodeId>) -> Result<Place, &'static str> {
        self.room.place(peer).inspect_err(|_| self.count_refused())
    }

    fn start(&self, peer: Option<NodeId>, place: Place) -> io::Result<Child> {
        let mut command = self.program.command(peer);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        group::begin(&mut command);
        let mut process = command.spawn()?;
        let group = Group::of(&process);
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(
            child = number,
            pid = process.id(),
            peer = peer.map(tracing::field::display),
            "started"
        );
        let missing = || io::Error::other("it has no standard streams");
        let streams = Streams {
            stdin: process.stdin.take().ok_or_else(missing)?,
            stdout: process.stdout.take().ok_or_else(missing)?,
            stderr: process.stderr.take().ok_or_else(missing)?,
        };
        let voice = Voice { format: self.format, child: number, peer };
        Ok(Child { process, group, streams: Some(streams), voice, _place: place })
    }

    /// In the text format of Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        for (name, kind, value) in [
            ("tower_seal_children_live", "gauge", self.room.taken() as u64),
            ("tower_seal_children_started_total", "counter", self.started.load(Ordering::Relaxed)),
            ("tower_seal_children_refused_total", "counter", self.refused.load(Ordering::Relaxed)),
        ] {
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

/// One that runs. Dropping it kills it, and all that it started.
#[derive(Debug)]
struct Child {
    process: tokio::process::Child,
    group: Group,
    streams: Option<Streams>,
    voice: Voice,
    /// Held until its end.
    _place: Place,
}

#[derive(Debug)]
struct Streams {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}
