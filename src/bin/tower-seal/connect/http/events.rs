//! Server-sent events, read within bounds.

use std::{mem, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body_util::BodyExt as _;
use sse_stream::{Sse, SseStream};

use super::far::Body;

/// Bytes of an event, as rmcp has it.
const LONGEST: usize = 16 << 20;
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// An event stream, over however many responses it comes.
pub(super) struct Events {
    stream: BoxStream<'static, Result<Sse, sse_stream::Error>>,
    last: Option<String>,
    /// What the server wants between two responses.
    retry: Option<Duration>,
    /// Responses in a row that brought no event.
    failures: u32,
}

impl Events {
    pub(super) fn new(body: Body) -> Self {
        Events { stream: events(body), ..Self::none() }
    }

    /// Before the first response.
    pub(super) fn none() -> Self {
        Events { stream: stream::empty().boxed(), last: None, retry: None, failures: 0 }
    }

    /// Goes on with another response.
    pub(super) fn go_on(&mut self, body: Body) {
        self.stream = events(body);
    }

    /// After what to go on.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// How long to wait before that, and how often that has been in vain.
    pub(super) fn rest(&mut self) -> (Duration, u32) {
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_REST.saturating_mul(1 << (self.failures - 1).min(10)).min(LONGEST_REST);
        (self.retry.map_or(doubled, |retry| retry.clamp(Duration::ZERO, LONGEST_REST)), self.failures - 1)
    }

    /// The next message. An error says why there are no more.
    pub(super) async fn next(&mut self) -> Result<Bytes, String> {
        loop {
            let event = match self.stream.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("it ended".to_owned()),
            };
            self.failures = 0;
            if let Some(id) = event.id {
                self.last = Some(id).filter(|id| !id.is_empty());
            }
            if let Some(retry) = event.retry {
                self.retry = Some(Duration::from_millis(retry));
            }
            let is_message = matches!(event.event.as_deref(), None | Some("" | "message"));
            match event.data {
                Some(data) if is_message && !data.trim_ascii().is_empty() => return Ok(data.into()),
                // Others only say where the stream is.
                _ => {}
            }
        }
    }
}

fn events(body: Body) -> BoxStream<'static, Result<Sse, sse_stream::Error>> {
    let mut size = Size::default();
    let chunks = body.into_data_stream().map(move |chunk| {
        let chunk = chunk.map_err(std::io::Error::other)?;
        if size.allows(&chunk, LONGEST) {
            Ok(chunk)
        } else {
            Err(std::io::Error::other(format!("an event has more than {LONGEST} bytes")))
        }
    });
    SseStream::from_bytes_stream(chunks).boxed()
}

/// What the parser keeps of an event: its lines but for comments, and the line that has no end yet.
#[derive(Default)]
struct Size {
    kept: usize,
    line: usize,
    is_comment: bool,
    after_cr: bool,
}

impl Size {
    fn allows(&mut self, chunk: &[u8], most: usize) -> bool {
        chunk.iter().all(|&byte| {
            match byte {
                // CR LF is one end of a line, also when a chunk ends between them.
                b'\n' if self.after_cr => {}
                b'\r' | b'\n' => {
                    match mem::take(&mut self.line) {
                        0 => self.kept = 0,
                        _ if self.is_comment => {}
                        line => self.kept += line + 1,
                    }
                    self.is_comment = false;
                }
                _ => {
                    self.is_comment |= self.line == 0 && byte == b':';
                    self.line += 1;
                }
            }
            self.after_cr = byte == b'\r';
            self.kept + self.line <= most
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_may_have_so_many_bytes_and_no_more() {
        let allows = |chunks: &[&str], most| {
            let mut size = Size::default();
            chunks.iter().all(|chunk| size.allows(chunk.as_bytes(), most))
        };
        let lines = [": a comment of any length\n", "data: 1\r", "\ndata:", " 2\n", "\r\n", "data: 345\n\n"];
        assert!(allows(&lines, 100));
        assert!(!allows(&lines, 15));
        assert!(allows(&lines[1..], 16));
    }
}
