//! The sending half.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _};
use tokio::time::{Sleep, sleep};

use super::{
    Frame, Transport,
    link::{Link, Tell},
    now, transport_error,
};
use crate::{
    config::{Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    protocol::{Final, Sealer},
    trust::Verified,
};

/// The sending half of a [`Sealed`](super::Sealed) connection: a sink of messages of at most 1 MiB.
///
/// A message that it has taken leaves with the next `poll_ready`, `poll_flush` or `poll_close`, whoever calls it.
/// Closing ends this direction with authenticated words; the other one stays open.
pub struct Sender<T> {
    pub(super) link: Arc<Link<T>>,
    /// `None` in plaintext.
    pub(super) sealer: Option<(Sealer, Encoding)>,
    /// What has been taken and is not sealed yet.
    pub(super) slot: Option<Bytes>,
    pub(super) end: End,
    pub(super) stall: Option<Pin<Box<Sleep>>>,
}

/// How far this direction's end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Wanted,
    Sealed,
}

impl<T> Sender<T> {
    /// Who is at the far side; `None` in plaintext only.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.link.peer
    }

    /// The slot, or FINAL, as a frame.
    fn seal(&mut self) -> Result<Frame> {
        let message = self.slot.take();
        let Some((sealer, encoding)) = &mut self.sealer else {
            return Ok(Frame::plain(message.unwrap_or_default()));
        };
        let last = if message.is_some() { Final::No } else { Final::Yes };
        if last == Final::Yes {
            self.end = End::Sealed;
        }
        let record = sealer.seal(&message.unwrap_or_default()[..], last, now())?;
        Ok(Frame::record(record, *encoding))
    }
}

impl<T: Transport> Sender<T> {
    /// Hands the transport what there is.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            let mut wire = self.link.wire();
            let cx_both = &mut self.link.context();
            wire.watch_silence(cx_both);
            if let Some(error) = ready!(wire.poll_failure(cx_both)) {
                return Poll::Ready(Err(error));
            }
            let final_is_due = self.end == End::Wanted && self.sealer.is_some();
            if self.slot.is_none() && !final_is_due {
                return Poll::Ready(Ok(()));
            }
            match wire.transport.poll_ready_unpin(cx_both) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    wire.fail_by_transport(error);
                    continue;
                }
                Poll::Pending => {
                    drop(wire);
                    ready!(self.poll_stall(cx));
                    continue;
                }
            }
            drop(wire);
            self.stall = None;
            let frame = self.seal();
            let mut wire = self.link.wire();
            if wire.failure().is_some() {
                continue;
            }
            match frame {
                Ok(frame) => match wire.transport.start_send_unpin(frame) {
                    Ok(()) => wire.active = now(),
                    Err(error) => wire.fail(transport_error(error), Tell::Peer),
                },
                Err(error) => wire.fail(error, Tell::Peer),
            }
        }
    }

    /// Ready when the peer has taken nothing for too long, which ends the connection.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.link.config.bounds().stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stall.as_mut().poll(cx));
        let stalled = Error::new(Code::Timeout, "the far side takes nothing any more");
        self.link.wire().fail(stalled, Tell::Nobody);
        Poll::Ready(())
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            ready!(self.poll_drain(cx))?;
            let mut wire = self.link.wire();
            match wire.transport.poll_flush_unpin(&mut self.link.context()) {
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) => wire.fail_by_transport(error),
                Poll::Pending => {
                    drop(wire);
                    ready!(self.poll_stall(cx));
                }
            }
        }
        self.stall = None;
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> Sink<Bytes> for Sender<T> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.link.tasks().writer.register(cx.waker());
        this.poll_drain(cx)
    }

    /// Errors: `Misuse`, which leaves the connection as it was, for a message above 1 MiB, after closing, and
    /// without `poll_ready`; otherwise that which the connection has ended with.
    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<()> {
        let this = self.get_mut();
        if let Some(error) = this.link.wire().failure() {
            return Err(error.clone());
        }
        if this.end != End::Open {
            return Err(Error::Misuse { reason: "nothing can be sent after closing" });
        }
        if this.sealer.is_some() && message.len() > PORTABLE_RECORD {
            return Err(Error::Misuse { reason: "a message has at most 1 MiB" });
        }
        if this.slot.is_some() {
            return Err(Error::Misuse { reason: "a sink takes a message only once poll_ready says so" });
        }
        this.slot = Some(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.link.tasks().writer.register(cx.waker());
        this.poll_out(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.link.tasks().writer.register(cx.waker());
        if this.end == End::Open {
            this.end = End::Wanted;
        }
        if this.end != End::Wanted && this.link.wire().is_over() && this.link.wire().failure().is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_out(cx))?;
        let mut wire = this.link.wire();
        wire.sent_final = true;
        // In plaintext there are no words for the end of one direction but the transport's own.
        if wire.got_final || this.sealer.is_none() {
            ready!(wire.poll_leave(&mut this.link.context()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("peer", &self.link.peer).finish_non_exhaustive()
    }
}
