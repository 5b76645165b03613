//! The receiving half.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Frame, Transport,
    link::{COMPLAINT, Link, Tell, Wire, is_error, settled},
    now,
};
use crate::{
    error::{Code, Error, Result},
    protocol::{Final, Opener, Record},
    trust::Verified,
};

/// How long a connection may stay open on which nothing happens and whose peer is trusted no more.
const TRUST_CHECK: Duration = Duration::from_secs(60);

/// The receiving half of a [`Sealed`](super::Sealed) connection: a stream of messages.
///
/// It ends, with `None`, only when the peer has ended its direction with authenticated words. After an error it
/// yields the same error for ever.
pub struct Receiver<T> {
    pub(super) link: Arc<Link<T>>,
    /// `None` in plaintext, and once nothing more can come, so that its keys are wiped.
    pub(super) opener: Option<Opener>,
    /// In plaintext: what came before it was known that nothing is sealed.
    pub(super) early: Option<Frame>,
    pub(super) ended: bool,
    pub(super) rest: Option<Pin<Box<Sleep>>>,
}

impl<T> Receiver<T> {
    /// Who is at the far side; `None` in plaintext only.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.link.peer
    }
}

impl<T: Transport> Receiver<T> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>>> {
        if let Some(frame) = self.early.take() {
            return Poll::Ready(Ok(Some(frame)));
        }
        let link = &self.link;
        let mut wire = link.wire();
        let cx_both = &mut link.context();
        loop {
            if let Some(error) = ready!(wire.poll_failure(cx_both)) {
                self.opener = None;
                return Poll::Ready(Err(error));
            }
            if self.ended {
                if wire.sent_final {
                    ready!(wire.poll_leave(cx_both));
                    self.opener = None;
                    return Poll::Ready(Ok(None));
                }
                wire.watch_silence(cx_both);
                if wire.failure().is_some() {
                    continue;
                }
                return Poll::Ready(Ok(None));
            }
            match wire.transport.poll_next_unpin(cx_both) {
                Poll::Ready(Some(Ok(frame))) => {
                    wire.active = now();
                    return Poll::Ready(Ok(Some(frame)));
                }
                Poll::Ready(Some(Err(error))) => wire.fail_by_transport(error),
                Poll::Ready(None) if !link.is_sealed() => {
                    self.ended = true;
                    (wire.got_final, wire.silent) = (true, true);
                }
                Poll::Ready(None) => {
                    wire.fail(Error::new(Code::Truncated, "the connection ended without FINAL"), Tell::Peer);
                }
                Poll::Pending => {
                    let error = ready!(poll_rest(&mut self.rest, self.opener.as_ref(), &wire, cx));
                    wire.fail(error, Tell::Peer);
                }
            }
        }
    }

    /// Waits until the far side has gone, and answers its pings meanwhile: for who has still something to do for
    /// it after its FINAL, or after the last message of interest. Messages that still come are dropped.
    ///
    /// Errors: that which the connection has ended with, where it has not ended well.
    pub async fn gone(&mut self) -> Result<()> {
        while let Some(message) = self.next().await {
            message?;
        }
        poll_fn(|cx| {
            self.link.tasks().reader.register(cx.waker());
            let polled = self.poll_gone(cx);
            settled(&self.link.tasks().reader, polled)
        })
        .await
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let link = &self.link;
        let mut wire = link.wire();
        let cx_both = &mut link.context();
        loop {
            if let Some(error) = ready!(wire.poll_failure(cx_both)) {
                self.opener = None;
                return Poll::Ready(Err(error));
            }
            if wire.sent_final {
                ready!(wire.poll_leave(cx_both));
                self.opener = None;
                return Poll::Ready(Ok(()));
            }
            wire.watch_silence(cx_both);
            if wire.failure().is_some() {
                continue;
            }
            // It closes the transport only once both directions have ended, unless it has gone before.
            if wire.silent {
                return Poll::Ready(Ok(()));
            }
            let error = ready!(poll_rest(&mut self.rest, self.opener.as_ref(), &wire, cx));
            wire.fail(error, Tell::Peer);
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            let frame = match ready!(self.poll_frame(cx)) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match self.open(frame) {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err((error, tell)) => self.link.wire().fail(error, tell),
            }
        }
    }

    /// `None` for FINAL without a message.
    fn open(&mut self, frame: Frame) -> Result<Option<Bytes>, (Error, Tell)> {
        let Some(opener) = &mut self.opener else {
            const NO_KEY: Error = Error::Misuse { reason: "nothing can be opened after the end" };
            return if self.link.is_sealed() {
                Err((NO_KEY, Tell::Nobody))
            } else {
                Ok(Some(frame.into_bytes()))
            };
        };
        let limit = self.link.config.bounds().record;
        let record = match frame {
            Frame::Text(text) => Record::parse_json(&text, limit).map_err(|error| {
                if is_error(&text) { (COMPLAINT, Tell::Nobody) } else { (error, Tell::Peer) }
            })?,
            Frame::Binary(_) => frame.into_record(limit).map_err(|error| (error, Tell::Peer))?,
        };
        let opened = opener.open(record, now()).map_err(|error| (error, Tell::Peer))?;
        if opened.last == Final::No {
            return Ok(Some(opened.plaintext));
        }
        self.ended = true;
        self.link.wire().got_final = true;
        Ok(Some(opened.plaintext).filter(|text| !text.is_empty()))
    }
}

/// Looks after a connection on which nothing comes. Ready with what it has to end with.
fn poll_rest<T>(
    rest: &mut Option<Pin<Box<Sleep>>>,
    opener: Option<&Opener>,
    wire: &Wire<T>,
    cx: &mut Context<'_>,
) -> Poll<Error> {
    loop {
        let now = now();
        if let Some(Err(error)) = opener.map(|opener| opener.check(now)) {
            return Poll::Ready(error);
        }
        let until = wire.idle_until();
        if until.is_some_and(|until| now >= until) {
            return Poll::Ready(Error::new(Code::Timeout, "the connection carried nothing for too long"));
        }
        let check = now + TRUST_CHECK;
        let next = Instant::from_std(until.map_or(check, |until| until.min(check)));
        // One that still runs was set for no later: what is checked then may have moved on, and it is set anew.
        let rest = rest.get_or_insert_with(|| Box::pin(sleep_until(next)));
        if rest.is_elapsed() {
            rest.as_mut().reset(next);
        }
        ready!(rest.as_mut().poll(cx));
    }
}

impl<T: Transport> Stream for Receiver<T> {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        this.link.tasks().reader.register(cx.waker());
        let polled = this.poll_message(cx);
        settled(&this.link.tasks().reader, polled)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("peer", &self.link.peer).finish_non_exhaustive()
    }
}
