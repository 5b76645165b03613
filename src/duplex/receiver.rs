//! The receiving half.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Frame, Transport,
    link::{COMPLAINT, Link, Tell, Wire, is_complaint},
    now,
};
use crate::{
    error::{Code, Error, Result},
    protocol::{Final, MAX_ERROR, Opener},
    trust::Verified,
};

/// The receiving half of a [`Sealed`](super::Sealed) connection: a stream of messages.
///
/// It ends, with `None`, only when the peer has ended its direction with authenticated words. After an error it
/// yields the same error for ever.
pub struct Receiver<T> {
    pub(super) link: Arc<Link<T>>,
    /// `None` in plaintext.
    pub(super) opener: Option<Opener>,
    /// In plaintext: what came before it was known that nothing is sealed.
    pub(super) early: Option<Frame>,
    pub(super) ended: bool,
    pub(super) idle: Option<Pin<Box<Sleep>>>,
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
                return Poll::Ready(Err(error));
            }
            if self.ended {
                if wire.sent_final {
                    ready!(wire.poll_leave(cx_both));
                }
                return Poll::Ready(Ok(None));
            }
            match wire.transport.poll_next_unpin(cx_both) {
                Poll::Ready(Some(Ok(frame))) => {
                    wire.active = now();
                    return Poll::Ready(Ok(Some(frame)));
                }
                Poll::Ready(Some(Err(error))) => wire.fail_by_transport(error),
                Poll::Ready(None) if self.opener.is_none() => {
                    self.ended = true;
                    wire.got_final = true;
                }
                Poll::Ready(None) => {
                    wire.fail(Error::new(Code::Truncated, "the connection ended without FINAL"), Tell::Peer);
                }
                Poll::Pending => {
                    ready!(poll_idle(&mut self.idle, &wire, cx));
                    let idle = Error::new(Code::Timeout, "the connection carried nothing for too long");
                    wire.fail(idle, Tell::Peer);
                }
            }
        }
    }

    /// `None` for FINAL without a message.
    fn open(&mut self, frame: Frame) -> Result<Option<Bytes>, (Error, Tell)> {
        let Some(opener) = &mut self.opener else {
            return Ok(Some(frame.into_bytes()));
        };
        let kept = match &frame {
            Frame::Text(text) if text.len() <= MAX_ERROR => Some(frame.clone()),
            _ => None,
        };
        let record = frame.into_record(self.link.config.bounds().record).map_err(|error| {
            if kept.as_ref().is_some_and(is_complaint) {
                (COMPLAINT, Tell::Nobody)
            } else {
                (error, Tell::Peer)
            }
        })?;
        let opened = opener.open(record, now()).map_err(|error| (error, Tell::Peer))?;
        if opened.last == Final::No {
            return Ok(Some(opened.plaintext));
        }
        self.ended = true;
        self.link.wire().got_final = true;
        Ok(Some(opened.plaintext).filter(|text| !text.is_empty()))
    }
}

/// Ready when nothing has come or gone for too long.
fn poll_idle<T>(idle: &mut Option<Pin<Box<Sleep>>>, wire: &Wire<T>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(until) = wire.active.checked_add(wire.idle_limit()) else {
        return Poll::Pending;
    };
    let idle = idle.get_or_insert_with(|| Box::pin(sleep_until(Instant::from_std(until))));
    loop {
        ready!(idle.as_mut().poll(cx));
        if idle.deadline().into_std() >= until {
            return Poll::Ready(());
        }
        // Something came or went since it was set.
        idle.as_mut().reset(Instant::from_std(until));
    }
}

impl<T: Transport> Stream for Receiver<T> {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        this.link.tasks().reader.register(cx.waker());
        loop {
            let frame = match ready!(this.poll_frame(cx)) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match this.open(frame) {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err((error, tell)) => this.link.wire().fail(error, tell),
            }
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("peer", &self.link.peer).finish_non_exhaustive()
    }
}
