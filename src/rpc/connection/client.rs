//! [`Client`]: calls over a two-way connection.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tower_service::Service;

use super::calls::{Calls, Ticket};
use crate::{
    config::Config,
    error::{Error, Result},
    rpc::{
        Message,
        id::Id,
        shape::{Shape, ids_of_batch},
    },
};

/// The calling end of a two-way connection: a service of JSON-RPC messages, cheap to clone.
///
/// Many calls are in flight at once, [`Limits::in_flight`](crate::config::Limits::in_flight) at most; then it is
/// not ready. Answers find their calls by id, whatever their order. A request, and a batch with requests in it, is
/// answered by what the far side answered, errors of JSON-RPC included, or after
/// [`Limits::response`](crate::config::Limits::response) by an error. Anything else is answered by `None` as soon
/// as it is on its way. An answer with code 503, from a far side that runs [`serve`](super::serve), says that the
/// request found no room there: it has not been served, and may be repeated.
///
/// Dropping the future of a call ends the call: it is not sent, if it has not been, and an answer to it counts
/// as late and is dropped. The far side is not told; protocols have messages of their own for that.
///
/// When the connection ends, whatever the reason, every call ends with the same error, later ones too.
///
/// Errors: `Misuse` for what is no JSON-RPC message, for an id that is neither a string nor a number, and for one
/// that another call in flight has; and what the connection refuses so, such as a message above 1 MiB.
pub struct Client {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Outgoing>,
    permit: Option<OwnedSemaphorePermit>,
    waiting: Option<Acquiring>,
}

/// `Sync`, so that the client is.
type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// What a connection's clients and its driver share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) calls: Calls,
    /// One permit for each message that is queued, or whose call waits. So the queue is bounded by it too.
    slots: Arc<Semaphore>,
}

/// A message on its way to the driver.
pub(super) struct Outgoing {
    pub(super) bytes: Bytes,
    sent: Sent,
    _permit: Arc<OwnedSemaphorePermit>,
}

enum Sent {
    /// Of a call.
    Waiting(Ticket),
    /// Of what wants no answer: it is told that it left.
    Told(oneshot::Sender<Result<()>>),
}

impl Shared {
    pub(super) fn new(config: &Config) -> Self {
        let most = config.bounds().in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Shared { config: config.clone(), calls: Calls::default(), slots: Arc::new(Semaphore::new(most)) }
    }

    /// Ends every call with `error`, unless they have ended with another.
    pub(super) fn end(&self, error: Error) {
        self.calls.end(error);
        self.slots.close();
    }

    fn ended(&self) -> Error {
        self.calls.ended().unwrap_or_else(over)
    }
}

/// The error of a connection that ended well.
pub(super) fn over() -> Error {
    let reason = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection has ended");
    Error::Transport(Arc::new(reason))
}

impl Outgoing {
    /// Whether its caller still wants it.
    pub(super) fn is_wanted(&self, calls: &Calls) -> bool {
        match &self.sent {
            Sent::Waiting(ticket) => calls.is_waiting(ticket),
            Sent::Told(told) => !told.is_closed(),
        }
    }

    /// It is on its way, or cannot go.
    pub(super) fn settle(self, sent: Result<()>, calls: &Calls) {
        match (self.sent, sent) {
            (Sent::Waiting(_), Ok(())) => {}
            (Sent::Waiting(ticket), Err(error)) => calls.fail(&ticket, error),
            // Nobody may wait for it.
            (Sent::Told(told), sent) => drop(told.send(sent)),
        }
    }
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, queue: mpsc::UnboundedSender<Outgoing>) -> Self {
        Client { shared, queue, permit: None, waiting: None }
    }

    fn begin(&mut self, bytes: Bytes) -> Result<BoxFuture<'static, Result<Option<Bytes>>>> {
        const NOT_READY: Error = Error::Misuse { reason: "poll_ready comes before each call" };
        let permit = Arc::new(self.permit.take().ok_or(NOT_READY)?);
        let (ids, is_batch) = ids_of(&bytes)?;
        if ids.is_empty() {
            let (told, left) = oneshot::channel();
            self.send(Outgoing { bytes, sent: Sent::Told(told), _permit: permit })?;
            let own = self.clone();
            let left = async move { left.await.unwrap_or_else(|_| Err(own.shared.ended())).map(|()| None) };
            return Ok(self.within(left));
        }
        let (ticket, answered) = self.shared.calls.wait(ids, is_batch)?;
        let call = InFlight { client: self.clone(), ticket: ticket.clone(), _permit: permit.clone() };
        self.send(Outgoing { bytes, sent: Sent::Waiting(ticket), _permit: permit })?;
        let answer =
            async move { answered.await.unwrap_or_else(|_| Err(call.client.shared.ended())).map(Some) };
        Ok(self.within(answer))
    }

    fn send(&self, outgoing: Outgoing) -> Result<()> {
        self.queue.send(outgoing).map_err(|_| self.shared.ended())
    }

    fn within<F>(&self, answer: F) -> BoxFuture<'static, F::Output>
    where
        F: Future<Output = Result<Option<Bytes>>> + Send + 'static,
    {
        let limit = self.shared.config.bounds().response;
        async move {
            let late = Err(Error::TimedOut { waiting_for: "the response" });
            timeout(limit, answer).await.unwrap_or(late)
        }
        .boxed()
    }
}

/// The ids to wait for.
fn ids_of(message: &[u8]) -> Result<(Vec<Id>, bool)> {
    const NO_MESSAGE: Error = Error::Misuse { reason: "this is no JSON-RPC message" };
    const NO_ID: Error = Error::Misuse { reason: "the id of a request is a string or a number" };
    match Shape::of(message) {
        Shape::Request { id } => Ok((vec![Id::of(id).ok_or(NO_ID)?], false)),
        Shape::Notification | Shape::Response { .. } => Ok((Vec::new(), false)),
        Shape::Batch(_) => Ok((ids_of_batch(message).ok_or(NO_MESSAGE)?, true)),
        Shape::Invalid { .. } | Shape::Garbled => Err(NO_MESSAGE),
    }
}

/// A call that waits. Dropping it leaves nothing of it behind.
struct InFlight {
    /// One to hold the connection open, though it may be the last.
    client: Client,
    ticket: Ticket,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.client.shared.calls.forget(&self.ticket);
    }
}

impl Service<Message> for Client {
    type Response = Option<Bytes>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Option<Bytes>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.permit.is_none() {
            let slots = self.shared.slots.clone();
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(slots.acquire_owned()));
            let acquired = ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
            self.permit = Some(acquired.map_err(|_| self.shared.ended())?);
        }
        match self.shared.calls.ended() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.begin(message.bytes).unwrap_or_else(|error| std::future::ready(Err(error)).boxed())
    }
}

impl Clone for Client {
    /// Without the readiness of this one, which counts once.
    fn clone(&self) -> Self {
        Client::new(self.shared.clone(), self.queue.clone())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("ended", &self.shared.calls.ended()).finish_non_exhaustive()
    }
}
