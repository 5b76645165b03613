//! What a child says that is no message: to stderr here, line by line, each with whose it is.
//!
//! It is not subject to `RUST_LOG`: these are the child's words, not ours.

use std::{fmt::Write as _, str};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tower_seal::NodeId;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use crate::{common::LogFormat, stderr};

/// Bytes of a line. On stderr a longer one becomes several, and on stdout it is cut.
const LINE: usize = 8 << 10;

/// Who speaks.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    pub(super) format: LogFormat,
    pub(super) child: u64,
    /// The caller that it was started for.
    pub(super) peer: Option<NodeId>,
}

impl Voice {
    /// Passes lines on until `stream` ends.
    pub(super) async fn pass(&self, stream: impl AsyncRead + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            let room = (LINE - line.len()) as u64;
            let is_over = !matches!((&mut stream).take(room).read_until(b'\n', &mut line).await, Ok(1..));
            if line.ends_with(b"\n") || is_over {
                if !line.is_empty() {
                    self.say("stderr", &line);
                }
                line.clear();
            } else {
                // What of a character is there already goes with the rest of it.
                let rest = line.split_off(whole(&line));
                self.say("stderr", &line);
                line = rest;
            }
            if is_over {
                return;
            }
        }
    }

    /// One line, of the child's `stream`.
    pub(super) fn say(&self, stream: &str, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let cut = line.get(..LINE).map_or(line, |cut| &cut[..whole(cut)]);
        let mut text = String::from_utf8_lossy(cut).into_owned();
        if cut.len() < line.len() {
            let _ = write!(text, " … ({} bytes more)", line.len() - cut.len());
        }
        stderr::pass_on(self.line(stream, &text));
    }

    fn line(&self, stream: &str, text: &str) -> String {
        match self.format {
            LogFormat::Text => {
                let of = self.peer.map(|peer| format!(" of {}", peer.short())).unwrap_or_default();
                let on = if stream == "stdout" { ", no message on stdout" } else { "" };
                format!("[child {}{of}{on}] {}\n", self.child, harmless(text))
            }
            // As the lines of the log are.
            LogFormat::Json => {
                let mut time = String::new();
                let _ = SystemTime.format_time(&mut Writer::new(&mut time));
                let fields = serde_json::json!({
                    "message": text, "child": self.child, "stream": stream,
                    "peer": self.peer.map(|peer| peer.to_string()),
                });
                let line = serde_json::json!({
                    "timestamp": time, "level": "INFO", "fields": fields, "target": "child",
                });
                format!("{line}\n")
            }
        }
    }
}

/// How many of the bytes make whole characters, where a line was cut: what is no UTF-8 at all stays.
fn whole(line: &[u8]) -> usize {
    match str::from_utf8(line) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => line.len(),
    }
}

/// A child's words may be its caller's. On a terminal control characters could write over other lines, or do worse;
/// and those that turn the direction of writing could make a line look like another.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || character.is_control() && character != '\t' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
