//! The sending end of a connection: one message at a time, flushed when there is no other.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Sink;
use tokio::time::{Sleep, sleep};

use super::{calls::Calls, client::Outgoing, reason, serving::Answer};
use crate::{
    error::{Error, Result},
    rpc::BoxError,
};

/// Messages that are written before others get their turn.
const MOST_AT_ONCE: usize = 64;

/// A message that is to leave.
pub(super) enum Next {
    /// From a client.
    Call(Outgoing),
    /// To a call of the far side.
    Answer(Answer),
}

impl Next {
    fn bytes(&self) -> Bytes {
        match self {
            Next::Call(call) => call.bytes.clone(),
            Next::Answer(answer) => answer.bytes.clone(),
        }
    }
}

pub(super) struct Writer {
    next: Option<Next>,
    is_unflushed: bool,
    /// How long the far side may read nothing.
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Writer {
    pub(super) fn new(stall: Duration) -> Self {
        Writer { next: None, is_unflushed: false, stall, stalled: None }
    }

    /// Whether everything it was given has left.
    pub(super) fn is_idle(&self) -> bool {
        self.next.is_none() && !self.is_unflushed
    }

    /// Forgets what it was given and has not left.
    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    /// Writes what `source` gives, as far as the connection takes it. Whether it wrote anything.
    ///
    /// Errors: `Transport`; `TimedOut` when nothing moves for too long.
    pub(super) fn poll<C>(
        &mut self,
        cx: &mut Context<'_>,
        mut connection: Pin<&mut C>,
        calls: &Calls,
        mut source: impl FnMut(&mut Context<'_>) -> Option<Next>,
    ) -> Result<bool>
    where
        C: Sink<Bytes>,
        C::Error: Into<BoxError>,
    {
        for wrote in 0..MOST_AT_ONCE {
            if self.next.is_none() {
                self.next = source(cx);
            }
            let step = if self.next.is_some() {
                connection.as_mut().poll_ready(cx)
            } else if self.is_unflushed {
                connection.as_mut().poll_flush(cx)
            } else {
                return Ok(wrote > 0);
            };
            if self.step(cx, step)?.is_pending() {
                return Ok(wrote > 0);
            }
            let Some(next) = self.next.take() else {
                self.is_unflushed = false;
                return Ok(wrote > 0);
            };
            let sent = connection.as_mut().start_send(next.bytes()).map_err(reason);
            match (next, sent) {
                // As a sealed connection says it: this one cannot go, and others may.
                (Next::Answer(answer), Err(Error::Misuse { .. })) => {
                    self.next = answer.instead().map(Next::Answer);
                }
                (Next::Call(call), Err(error @ Error::Misuse { .. })) => call.settle(Err(error), calls),
                (_, Err(error)) => return Err(error),
                (Next::Call(call), Ok(())) => call.settle(Ok(()), calls),
                (Next::Answer(_), Ok(())) => {}
            }
            self.is_unflushed = true;
        }
        Ok(true)
    }

    /// Closes the connection; ready also when that takes too long.
    pub(super) fn poll_close<C>(&mut self, cx: &mut Context<'_>, connection: Pin<&mut C>) -> Poll<Result<()>>
    where
        C: Sink<Bytes>,
        C::Error: Into<BoxError>,
    {
        let step = connection.poll_close(cx);
        self.step(cx, step).map_or_else(|error| Poll::Ready(Err(error)), |step| step.map(Ok))
    }

    /// Watches over the time that a step takes.
    fn step<E: Into<BoxError>>(
        &mut self,
        cx: &mut Context<'_>,
        step: Poll<Result<(), E>>,
    ) -> Result<Poll<()>> {
        if let Poll::Ready(result) = step {
            self.stalled = None;
            return result.map(Poll::Ready).map_err(reason);
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.stall)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Err(Error::TimedOut { waiting_for: "the far side to read" }),
            Poll::Pending => Ok(Poll::Pending),
        }
    }
}
