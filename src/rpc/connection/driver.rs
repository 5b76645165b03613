//! The [`Driver`] of a connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};
use tower_service::Service;

use super::{
    calls::Calls,
    client::{Client, Outgoing, Shared, over},
    reason,
    serving::{Serving, Wants},
    writer::{Next, Writer},
};
use crate::{
    config::Config,
    error::{Error, Result},
    rpc::{
        BoxError, Message,
        fault::{Fault, error_answer},
        id::Id,
        shape::{Batch, Shape},
    },
    telemetry::Metric,
    trust::Verified,
};

/// Rounds of reading and writing before other tasks get their turn.
const ROUNDS: usize = 16;

/// Messages that are read in a round.
const READS: usize = 16;

/// How long what the far side has asked for may still take once it has ended its direction.
const DRAIN: Duration = Duration::from_secs(5);

/// What keeps a two-way connection going: one future, to be spawned or awaited, that owns everything.
///
/// It ends, and with it every call that waits and every message that is being served,
/// - well, when the far side has ended its direction, which ends our calls at once, and what it asked for before has
///   been answered, or 5 s later; or, with [`until_unused`](Self::until_unused), when the last client is gone and
///   the answers that are ready have left;
/// - with an error, when the connection fails, when the far side reads nothing for
///   [`Limits::stall`](crate::config::Limits::stall), or when the service can take nothing any more;
/// - when it is dropped.
#[must_use = "nothing happens before it is polled"]
pub struct Driver<C, S: Service<Message>> {
    connection: Pin<Box<C>>,
    shared: Arc<Shared>,
    serving: Serving<S>,
    writer: Writer,
    queue: mpsc::UnboundedReceiver<Outgoing>,
    /// For further clients.
    sender: Option<mpsc::UnboundedSender<Outgoing>>,
    /// Whose turn it is to write.
    clients_first: bool,
    ends_unused: bool,
    /// Since the far side has ended its direction: until when it is still served.
    draining: Option<Pin<Box<Sleep>>>,
    /// What to end with, once the connection is closed.
    ending: Option<Result<()>>,
}

impl<C, S> Driver<C, S>
where
    S: Service<Message, Response = Option<Bytes>>,
    S::Error: Into<BoxError>,
{
    pub(super) fn new(config: &Config, connection: C, service: S) -> Self {
        let limits = config.bounds();
        let (sender, queue) = mpsc::unbounded_channel();
        Driver {
            connection: Box::pin(connection),
            shared: Arc::new(Shared::new(config)),
            serving: Serving::new(service, limits),
            writer: Writer::new(limits.stall),
            queue,
            sender: Some(sender),
            clients_first: true,
            ends_unused: false,
            draining: None,
            ending: None,
        }
    }

    /// A client for calls over this connection. What the service needs for calls of its own, too.
    #[must_use]
    pub fn client(&self) -> Client {
        let sender = self.sender.clone().unwrap_or_else(|| mpsc::unbounded_channel().0);
        Client::new(self.shared.clone(), sender)
    }

    /// Who is at the other end, for the service: the [`caller`](Message::caller) of every message. What a sealed
    /// connection says of itself can be given as it is: `.caller(sealed.verified())`.
    pub fn caller(mut self, caller: impl Into<Option<Verified>>) -> Self {
        self.serving.caller = caller.into();
        self
    }

    /// Ends when the last client is gone, those made before it is first polled; at once, where none was made.
    /// One that the service itself holds counts.
    pub fn until_unused(mut self) -> Self {
        self.ends_unused = true;
        self
    }
}

impl<C, S, E> Driver<C, S>
where
    C: Stream<Item = Result<Bytes, E>> + Sink<Bytes>,
    C::Error: Into<BoxError>,
    E: Into<BoxError>,
    S: Service<Message, Response = Option<Bytes>>,
    S::Error: Into<BoxError>,
{
    /// As far as it goes now. Errors: what the connection ends with; `None` if it ends well.
    fn advance(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
        for _ in 0..ROUNDS {
            self.serving.poll(cx)?;
            let (wrote, is_unused) = match self.write(cx) {
                // The far side has said that it goes, so it may be gone.
                Err(_) if self.draining.is_some() => return Ok(Poll::Ready(())),
                written => written?,
            };
            let is_done = if self.draining.is_some() { self.serving.is_idle() } else { is_unused };
            if is_done && self.writer.is_idle() {
                return Ok(Poll::Ready(()));
            }
            match self.read(cx)? {
                Read::Ended => self.drain(),
                Read::Nothing if !wrote => {
                    let patience = self.draining.as_mut().map(|end| end.as_mut().poll(cx));
                    return Ok(patience.unwrap_or(Poll::Pending));
                }
                Read::Nothing | Read::Some => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    /// Whether it wrote anything, and whether there is no client any more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(bool, bool)> {
        let Driver { connection, shared, serving, writer, queue, clients_first, .. } = self;
        let mut is_unused = false;
        let wrote = writer.poll(cx, connection.as_mut(), &shared.calls, |cx| {
            *clients_first = !*clients_first;
            let answer = if *clients_first { None } else { serving.next_answer() };
            answer.map(Next::Answer).or_else(|| {
                let call = next_call(queue, &shared.calls, cx);
                is_unused = matches!(call, Poll::Ready(None));
                match call {
                    Poll::Ready(Some(call)) => Some(Next::Call(call)),
                    Poll::Ready(None) | Poll::Pending => serving.next_answer().map(Next::Answer),
                }
            })
        })?;
        Ok((wrote, is_unused))
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Read> {
        let mut read = Read::Nothing;
        for _ in 0..READS {
            if self.draining.is_some() || !self.serving.takes_more(!self.shared.calls.is_empty()) {
                break;
            }
            match self.connection.as_mut().poll_next(cx) {
                Poll::Ready(Some(message)) => self.sort(message.map_err(reason)?),
                Poll::Ready(None) => return Ok(Read::Ended),
                Poll::Pending => break,
            }
            read = Read::Some;
        }
        Ok(read)
    }

    /// Nothing comes any more, so no call of ours is answered; and what has come is served to its end.
    fn drain(&mut self) {
        self.end_calls(over());
        self.draining = Some(Box::pin(sleep(DRAIN)));
    }

    /// Gives a message to whom it is for.
    fn sort(&mut self, message: Bytes) {
        match Shape::of(&message) {
            Shape::Request { id } => {
                let wants = Wants::Answer(id.into());
                self.serving.take(wants, message);
            }
            Shape::Notification => self.serving.take(Wants::Nothing, message),
            Shape::Batch(Batch { asks: true, .. }) => {
                self.serving.take(Wants::Batch(message.clone()), message)
            }
            Shape::Batch(Batch { answers: None, .. }) => self.serving.take(Wants::Nothing, message),
            Shape::Response { id } => self.answer(Id::of(id), false, &message),
            Shape::Batch(Batch { answers: Some(id), .. }) => self.answer(Id::of(id), true, &message),
            Shape::Invalid { id } => self.serving.refuse(error_answer(id, Fault::InvalidRequest)),
            Shape::Garbled => self.serving.refuse(error_answer(None, Fault::Parse)),
        }
    }

    fn answer(&self, id: Option<Id>, is_batch: bool, message: &Bytes) {
        let taken = id.is_some_and(|id| self.shared.calls.answer(&id, is_batch, message.clone()));
        if !taken {
            self.shared.config.telemetry().count(Metric::LateAnswers);
        }
    }
}

/// The next message of a client that is still wanted; `None` when there is no client any more.
fn next_call(
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
    calls: &Calls,
    cx: &mut Context<'_>,
) -> Poll<Option<Outgoing>> {
    loop {
        match ready!(queue.poll_recv(cx)) {
            Some(call) if !call.is_wanted(calls) => {}
            next => return Poll::Ready(next),
        }
    }
}

impl<C, S: Service<Message>> Driver<C, S> {
    /// Ends what waits for an answer, or to be sent.
    fn end_calls(&mut self, error: Error) {
        self.shared.end(error);
        self.queue.close();
        while self.queue.try_recv().is_ok() {}
    }
}

enum Read {
    Some,
    Nothing,
    Ended,
}

impl<C, S, E> Future for Driver<C, S>
where
    C: Stream<Item = Result<Bytes, E>> + Sink<Bytes>,
    C::Error: Into<BoxError>,
    E: Into<BoxError>,
    S: Service<Message, Response = Option<Bytes>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.ends_unused {
            this.sender = None;
        }
        if this.ending.is_none() {
            let result = match this.advance(cx) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => Ok(()),
                Err(error) => Err(error),
            };
            this.end_calls(result.clone().err().unwrap_or_else(over));
            this.serving.stop();
            this.writer.stop();
            this.ending = Some(result);
        }
        // Whatever comes of it: the reason is known already.
        match this.writer.poll_close(cx, this.connection.as_mut()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(this.ending.take().unwrap_or(Ok(()))),
        }
    }
}

/// Neither the service nor what it runs is pinned here.
impl<C, S: Service<Message>> Unpin for Driver<C, S> {}

impl<C, S: Service<Message>> Drop for Driver<C, S> {
    fn drop(&mut self) {
        self.shared.end(over());
    }
}

impl<C, S: Service<Message>> fmt::Debug for Driver<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("ending", &self.ending).finish_non_exhaustive()
    }
}
