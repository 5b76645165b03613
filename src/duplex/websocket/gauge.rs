//! How much a stranger may send.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    duplex::handshake::FIRST_RECORD,
    error::{Code, Error},
};

/// More than a request to upgrade and a hello need, with what comes in the same segment.
const GREETING: usize = 128 << 10;

/// Counts what comes in until the handshake is over, so that no stranger has a long message buffered.
#[derive(Debug)]
pub(super) struct Gauge<S> {
    io: S,
    left: Option<usize>,
}

impl<S> Gauge<S> {
    pub(super) fn new(io: S) -> Self {
        Gauge { io, left: Some(GREETING) }
    }

    /// From now on a first record may come.
    pub(super) fn widen(&mut self) {
        self.left = self.left.map(|left| left + FIRST_RECORD);
    }

    /// From now on anything may come.
    pub(super) fn open(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gauge<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        if let Some(left) = &mut this.left {
            let Some(rest) = left.checked_sub(buf.filled().len().saturating_sub(before)) else {
                let long = Error::new(Code::TooLarge, "more within the handshake than it needs");
                return Poll::Ready(Err(io::Error::other(long)));
            };
            *left = rest;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gauge<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
