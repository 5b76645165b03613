//! Records out of a body (PROTOCOL section 7): binary ones after their u32 length, JSON ones in lines.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BufMut as _, BytesMut};
use http_body::Body;
use memchr::memchr;
use tokio::time::{Sleep, sleep};

use super::BoxError;
use crate::{
    config::{Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    protocol::Record,
    shell::transport,
};

/// Cuts a body into records. Holds at most one record, and what came with its last bytes.
pub(super) struct Frames<B> {
    body: Pin<Box<B>>,
    buffer: BytesMut,
    /// Bytes at the start of `buffer` that are known to hold no LF.
    scanned: usize,
    ended: bool,
    encoding: Encoding,
    limit: usize,
    stall: Stall,
}

/// How long to wait for the next bytes.
struct Stall {
    limit: Duration,
    /// Whether it runs between records too, and not only within one.
    between: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<B> Frames<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// Records of at most `limit` bytes of plaintext, or of the 1 MiB that every receiver takes. `stall` is how
    /// long the body may rest within a record.
    pub(super) fn new(body: B, encoding: Encoding, limit: usize, stall: Duration) -> Self {
        Frames {
            body: Box::pin(body),
            buffer: BytesMut::new(),
            scanned: 0,
            ended: false,
            encoding,
            limit: limit.max(PORTABLE_RECORD),
            stall: Stall { limit: stall, between: false, sleep: None },
        }
    }

    /// The end of the body, after FINAL.
    ///
    /// Errors: `malformed` when anything follows; `Transport`; `TimedOut`.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.never_rest();
        loop {
            if !self.buffer.is_empty() {
                return Poll::Ready(Err(Error::malformed("bytes after FINAL")));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// From here on the body may rest between records no longer than within one.
    pub(super) fn never_rest(&mut self) {
        self.stall.between = true;
    }

    /// The next record; `None` at the end of the body.
    ///
    /// Errors: `malformed`, `too_large`, `truncated` within a record; `Transport`; `TimedOut`.
    pub(super) fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Record>>> {
        loop {
            match self.cut() {
                Ok(None) if !self.ended => ready!(self.poll_more(cx))?,
                record => return Poll::Ready(record),
            }
        }
    }

    /// Whether the body is known to have ended with the last record.
    pub(super) fn is_at_end(&self) -> bool {
        self.buffer.is_empty() && (self.ended || self.body.is_end_stream())
    }

    /// Takes the next frame of the body into the buffer. One that comes while the buffer has no memory, and that nobody
    /// else refers to, becomes the buffer, with whatever memory its transport had for it, and is opened where it is.
    /// Anything else is copied: the one copy on the way in.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.stall.sleep = None;
                if let Ok(data) = frame.into_data() {
                    self.buffer.put(data);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(transport(error))),
            Poll::Ready(None) => {
                self.stall.sleep = None;
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.stall.between || !self.buffer.is_empty() => self.stall.poll(cx),
            Poll::Pending => Poll::Pending,
        }
    }

    fn cut(&mut self) -> Result<Option<Record>> {
        let frame = match self.encoding {
            Encoding::Binary => self.cut_binary()?,
            Encoding::Json => self.cut_line()?,
        };
        match frame {
            Some(frame) => Record::parse(frame, self.encoding, self.limit).map(Some),
            None => Ok(None),
        }
    }

    fn cut_binary(&mut self) -> Result<Option<BytesMut>> {
        const TRUNCATED: Error = Error::new(Code::Truncated, "the body ended within a record");
        let Some(length) = self.buffer.first_chunk() else {
            return if self.ended && !self.buffer.is_empty() { Err(TRUNCATED) } else { Ok(None) };
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > Record::longest(self.encoding, self.limit) {
            return Err(Error::new(Code::TooLarge, "a record above the configured limit"));
        }
        if self.buffer.len() - 4 < length {
            return if self.ended { Err(TRUNCATED) } else { Ok(None) };
        }
        self.buffer.advance(4);
        Ok(Some(if self.buffer.len() == length {
            // Nothing else has come, so nothing has to be shared.
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(length)
        }))
    }

    fn cut_line(&mut self) -> Result<Option<BytesMut>> {
        let most = Record::longest(self.encoding, self.limit);
        let end = memchr(b'\n', &self.buffer[self.scanned..]);
        let end = end.map(|end| self.scanned + end);
        if end.unwrap_or(self.buffer.len()) > most {
            return Err(Error::new(Code::TooLarge, "a line above the configured limit"));
        }
        match end {
            Some(end) => {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                self.scanned = 0;
                Ok(Some(line))
            }
            // The LF of the last line may be missing.
            None if self.ended && !self.buffer.is_empty() => {
                self.scanned = 0;
                Ok(Some(self.buffer.split()))
            }
            None => {
                self.scanned = self.buffer.len();
                Ok(None)
            }
        }
    }
}

impl Stall {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        sleep.as_mut().poll(cx).map(|()| Err(Error::TimedOut { waiting_for: "the rest of a sealed body" }))
    }
}
