//! The sending half.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _};
use tokio::time::{Sleep, sleep};

use super::{
    Frame, Transport,
    link::{Link, Tell, settled},
    now, transport_error,
};
use crate::{
    config::{Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    protocol::{Draft, Final, Sealer},
    signing::Signing,
    trust::Verified,
};

/// The most records of one connection that wait for their signatures: beyond, a signature is a small part of the costs,
/// and the far side, which could open the first ones meanwhile, would rest.
const MOST_UNSIGNED: usize = 32;

/// The most bytes of their messages, but for one that is longer.
const MOST_UNSIGNED_BYTES: usize = 32 << 10;

/// The sending half of a [`Sealed`](super::Sealed) connection: a sink of messages of at most 1 MiB.
///
/// A message that it has taken leaves with the next flush at the latest, or the end, whoever calls for it. Of messages
/// that have to be signed, those that are taken before a flush are signed together, up to 32, or 32 KiB, or one longer.
/// Closing ends this direction with authenticated words; the other one stays open.
pub struct Sender<T> {
    pub(super) link: Arc<Link<T>>,
    /// `None` in plaintext, and once nothing more is to be sealed, so that its keys are wiped.
    pub(super) sealer: Option<(Sealer, Encoding)>,
    /// What has been taken and is not sealed yet.
    slot: Option<Bytes>,
    /// Records that wait for their signatures, in order.
    unsigned: VecDeque<Unsigned>,
    /// Bytes of messages in these.
    unsigned_bytes: usize,
    /// What the transport is to take next.
    frame: Option<Frame>,
    end: End,
    stall: Option<Stall>,
}

struct Unsigned {
    draft: Draft,
    encoding: Encoding,
    signing: Signing,
    /// Of the message.
    length: usize,
}

/// What has to have left before a call returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// As much as makes room for another message.
    Room,
    Empty,
}

/// How far this direction's end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Wanted,
    Sealed,
}

impl<T> Sender<T> {
    /// `sealer` is `None` in plaintext.
    pub(super) fn new(link: Arc<Link<T>>, sealer: Option<(Sealer, Encoding)>) -> Self {
        Sender {
            link,
            sealer,
            slot: None,
            unsigned: VecDeque::new(),
            unsigned_bytes: 0,
            frame: None,
            end: End::Open,
            stall: None,
        }
    }

    /// Who is at the far side; `None` in plaintext only.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.link.peer
    }

    /// Seals the slot, or FINAL, but for the signature. In plaintext it is a frame as it is.
    fn seal(&mut self) -> Result<()> {
        let final_is_due = self.end == End::Wanted && self.link.is_sealed();
        if self.slot.is_none() && !final_is_due || !self.has_room() {
            return Ok(());
        }
        let message = self.slot.take();
        let Some((sealer, encoding)) = &mut self.sealer else {
            if self.link.is_sealed() {
                return Err(Error::Misuse { reason: "nothing can be sealed after the end" });
            }
            self.frame = Some(Frame::plain(message.unwrap_or_default()));
            return Ok(());
        };
        let last = if message.is_some() { Final::No } else { Final::Yes };
        let message = message.unwrap_or_default();
        let (draft, encoding) = (sealer.draft(message[..].into(), last, now())?, *encoding);
        if last == Final::Yes {
            self.end = End::Sealed;
            self.sealer = None;
        }
        let signing = Signing::new(&self.link.config, draft.leaf());
        self.unsigned_bytes += message.len();
        self.unsigned.push_back(Unsigned { draft, encoding, signing, length: message.len() });
        Ok(())
    }

    /// Whether another record may be sealed before those that have been have left.
    fn has_room(&self) -> bool {
        self.frame.is_none()
            && self.unsigned.len() < MOST_UNSIGNED
            && self.slot.as_ref().is_none_or(|message| {
                self.unsigned.is_empty() || self.unsigned_bytes + message.len() <= MOST_UNSIGNED_BYTES
            })
    }

    /// Whether what has been sealed waits for its signature, and can do so while more is sealed.
    fn may_wait(&self) -> bool {
        let waits = self.unsigned.front().is_some_and(|first| !first.signing.is_ready());
        waits && self.slot.is_none() && self.has_room() && self.unsigned_bytes < MOST_UNSIGNED_BYTES
    }

    /// Makes a frame of the first record, once it is signed.
    fn poll_signed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(Unsigned { signing, .. }) = self.unsigned.front_mut() else { return Poll::Ready(Ok(())) };
        let proof = ready!(Pin::new(signing).poll(cx))?;
        if let Some(Unsigned { draft, encoding, length, .. }) = self.unsigned.pop_front() {
            self.unsigned_bytes -= length;
            self.frame = Some(Frame::record(draft.write(proof.as_ref()), encoding));
        }
        if self.unsigned.is_empty() {
            // So that a connection that rests keeps no memory of busier times.
            self.unsigned.shrink_to(1);
        }
        Poll::Ready(Ok(()))
    }

    /// Forgets what has not left, and the keys.
    fn forget(&mut self) {
        (self.sealer, self.slot, self.frame) = (None, None, None);
        (self.unsigned, self.unsigned_bytes) = (VecDeque::new(), 0);
    }
}

impl<T: Transport> Sender<T> {
    /// Waits until a message can be taken. Dropping this future loses nothing: in a `select`, wait for this, and
    /// then hand the message to [`start_send`](Sink::start_send), which does not wait.
    ///
    /// Errors: that which the connection has ended with.
    pub async fn ready(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_ready_unpin(cx)).await
    }

    /// Ends the connection, both directions of it, and tells the far side the code of an error: for what the
    /// application finds wrong. What has been taken and has not left yet is lost. From then on both halves return
    /// this error, unless the connection has failed before.
    ///
    /// Takes at most 2 s.
    pub async fn fail(&mut self, code: Code) {
        let error = Error::new(code, "the application ended the connection");
        self.link.wire().fail(error, Tell::Peer);
        let said = |this: &mut Self, _: &mut Context<'_>| {
            this.link.wire().poll_failure(&mut this.link.context()).map(drop)
        };
        poll_fn(|cx| self.poll_as_writer(cx, said)).await;
        self.forget();
    }

    /// Hands the transport what there is.
    fn poll_drain(&mut self, until: Until, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            let mut wire = self.link.wire();
            let cx_both = &mut self.link.context();
            wire.watch_silence(cx_both);
            if let Some(error) = ready!(wire.poll_failure(cx_both)) {
                drop(wire);
                self.forget();
                return Poll::Ready(Err(error));
            }
            drop(wire);
            let mut signed = self.seal();
            if self.frame.is_none() && signed.is_ok() {
                if until == Until::Room && self.may_wait() {
                    return Poll::Ready(Ok(()));
                }
                signed = ready!(self.poll_signed(cx));
            }
            let mut wire = self.link.wire();
            if let Err(error) = signed {
                wire.fail(error, Tell::Peer);
                continue;
            }
            if self.frame.is_none() {
                return Poll::Ready(Ok(()));
            }
            let cx_both = &mut self.link.context();
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
            self.stall = None;
            let Some(frame) = self.frame.take() else { continue };
            match wire.transport.start_send_unpin(frame).map_err(transport_error) {
                Ok(()) => wire.active = now(),
                // A message that the transport cannot carry ends nothing, where none is counted.
                Err(error @ Error::Misuse { .. }) if !self.link.is_sealed() => {
                    return Poll::Ready(Err(error));
                }
                Err(error) => wire.fail_by(error),
            }
        }
    }

    /// Ready when the peer has taken nothing for too long, which ends the connection.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.link.config.bounds().stall;
        ready!(self.stall.get_or_insert_with(|| Stall::new(limit)).poll(cx));
        let stalled = Error::new(Code::Timeout, "the far side takes nothing any more");
        self.link.wire().fail(stalled, Tell::Nobody);
        Poll::Ready(())
    }

    /// `poll`, woken by what the transport does as long as it is pending.
    fn poll_as_writer<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        self.link.tasks().writer.register(cx.waker());
        let polled = poll(self, cx);
        settled(&self.link.tasks().writer, polled)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.end == End::Open {
            self.end = End::Wanted;
        }
        let wire = self.link.wire();
        if self.end != End::Wanted && wire.is_over() && wire.failure().is_none() {
            return Poll::Ready(Ok(()));
        }
        drop(wire);
        ready!(self.poll_out(cx))?;
        let mut wire = self.link.wire();
        wire.sent_final = true;
        // In plaintext there are no words for the end of one direction but the transport's own.
        if wire.got_final || !self.link.is_sealed() {
            ready!(wire.poll_leave(&mut self.link.context()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            ready!(self.poll_drain(Until::Empty, cx))?;
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
        self.get_mut().poll_as_writer(cx, |this, cx| this.poll_drain(Until::Room, cx))
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
        if message.len() > PORTABLE_RECORD {
            return Err(Error::Misuse { reason: "a message has at most 1 MiB" });
        }
        if this.slot.is_some() {
            return Err(Error::Misuse { reason: "a sink takes a message only once poll_ready says so" });
        }
        this.slot = Some(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_as_writer(cx, Self::poll_out)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_as_writer(cx, Self::poll_end)
    }
}

/// How long the peer has taken nothing, in parts: the time in which nobody waited counts for one of them at most.
pub(super) struct Stall {
    part: Pin<Box<Sleep>>,
    limit: Duration,
    left: u32,
}

impl Stall {
    const PARTS: u32 = 10;

    fn new(limit: Duration) -> Self {
        Stall { part: Box::pin(sleep(limit / Self::PARTS)), limit, left: Self::PARTS }
    }

    /// Ready when it has been too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.left > 0 {
            ready!(self.part.as_mut().poll(cx));
            self.left -= 1;
            self.part.set(sleep(self.limit / Self::PARTS));
        }
        Poll::Ready(())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("peer", &self.link.peer).finish_non_exhaustive()
    }
}
