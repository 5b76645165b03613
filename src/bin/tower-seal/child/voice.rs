//! What a child says that is no message: to stderr here, line by line, each with whose it is.
//!
//! It is not subject to `RUST_LOG`: these are the child's words, not ours.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tower_seal::NodeId;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use crate::common::LogFormat;

/// Bytes of a line; a longer one becomes several.
const LINE: u64 = 8 << 10;

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
            line.clear();
            match (&mut stream).take(LINE).read_until(b'\n', &mut line).await {
                Ok(1..) => self.say("stderr", &line).await,
                _ => break,
            }
        }
    }

    /// One line, of the child's `stream`.
    pub(super) async fn say(&self, stream: &str, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = self.line(stream, &String::from_utf8_lossy(line));
        // Where nobody reads it any more, it is lost.
        let mut stderr = tokio::io::stderr();
        let _ = stderr.write_all(line.as_bytes()).await;
        let _ = stderr.flush().await;
    }

    fn line(&self, stream: &str, text: &str) -> String {
        match self.format {
            LogFormat::Text => {
                let of = self.peer.map(|peer| format!(" of {}", peer.short())).unwrap_or_default();
                let on = if stream == "stdout" { ", no message on stdout" } else { "" };
                format!("[child {}{of}{on}] {text}\n", self.child)
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
