//! How much a stranger may send, and when anything last moved.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    duplex::handshake::FIRST_RECORD,
    error::{Code, Error},
    protocol::MAX_HANDSHAKE,
};

/// More than a request to upgrade and a hello need, with what comes in the same segment.
const GREETING: usize = 128 << 10;

/// Counts what comes in until the handshake is over, so that no stranger has a long message buffered.
#[derive(Debug)]
pub(super) struct Gauge<S> {
    io: S,
    left: Option<usize>,
    headers: Option<Headers>,
    /// When bytes last came.
    pub(super) heard: Instant,
    /// When the far side last took some.
    pub(super) taken: Instant,
}

impl<S> Gauge<S> {
    pub(super) fn new(io: S) -> Self {
        let now = Instant::now();
        Gauge { io, left: Some(GREETING), headers: None, heard: now, taken: now }
    }

    /// From now on frames come, of which none is as long as a record yet: tungstenite makes room for all of a frame
    /// once it knows its length.
    pub(super) fn watch_headers(&mut self) {
        self.headers = Some(Headers::default());
    }

    /// From now on a first record may come.
    pub(super) fn widen(&mut self) {
        self.headers = None;
        self.left = self.left.map(|left| left + FIRST_RECORD);
    }

    /// From now on anything may come.
    pub(super) fn open(&mut self) {
        (self.headers, self.left) = (None, None);
    }

    fn count(&mut self, came: &[u8]) -> Result<(), Error> {
        const LONG: Error = Error::new(Code::TooLarge, "more within the handshake than it needs");
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(came.len()).ok_or(LONG)?;
        }
        let announced = self.headers.as_mut().map_or(0, |headers| headers.longest(came));
        if announced > MAX_HANDSHAKE as u64 { Err(LONG) } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gauge<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            this.heard = Instant::now();
        }
        Poll::Ready(this.count(came).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gauge<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.taken = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Follows the frames of a WebSocket by their headers (RFC 6455 section 5.2).
#[derive(Debug, Default)]
struct Headers {
    /// Two bytes, and a long length.
    header: [u8; 10],
    have: usize,
    /// Bytes up to the next header.
    skip: u64,
}

impl Headers {
    /// The greatest length that is announced by a header which ends in `bytes`.
    fn longest(&mut self, mut bytes: &[u8]) -> u64 {
        let mut longest = 0;
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            let Some((&byte, rest)) = bytes[skipped..].split_first() else {
                return longest;
            };
            bytes = rest;
            if let Some(next) = self.header.get_mut(self.have) {
                *next = byte;
                self.have += 1;
            }
            let [_, second, long @ ..] = self.header;
            let (size, length) = match second & 0x7f {
                126 => (4, u64::from(u16::from_be_bytes([long[0], long[1]]))),
                127 => (10, u64::from_be_bytes(long)),
                short => (2, u64::from(short)),
            };
            if self.have >= 2 && self.have >= size {
                longest = longest.max(length);
                let mask = if second & 0x80 == 0 { 0 } else { 4 };
                *self = Headers { skip: length.saturating_add(mask), ..Headers::default() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_wherever_reads_end() {
        let mut wire = vec![0x81, 3, b'a', b'b', b'c', 0x89, 0x80, 1, 2, 3, 4];
        wire.extend([0x82, 0x80 | 126, 1, 0, 1, 2, 3, 4]);
        wire.extend([0xff; 256]);
        wire.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        for size in 1..=wire.len() {
            let mut headers = Headers::default();
            let found: Vec<u64> =
                wire.chunks(size).map(|part| headers.longest(part)).filter(|&length| length > 0).collect();
            assert_eq!(found.last(), Some(&65536), "{size}");
            assert!(found.iter().all(|length| [3, 256, 65536].contains(length)), "{size}: {found:?}");
        }
    }
}
