//! rmcp over a connection of messages.
//!
//! What comes is treated as rmcp's transport of lines treats it: what is no JSON is ignored, since answering it could
//! go on for ever, and JSON that is no message of MCP gets `Invalid Request` without an id. With one exception: no
//! notification gets an answer (JSON-RPC 2.0, section 4.1).

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::ready,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use rmcp::{
    model::{ErrorCode, ErrorData, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, ServiceRole, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::time::timeout;

use super::{
    BoxError,
    incoming::{Incoming, read},
};
use crate::{
    error::{Error, Result},
    shell::transport,
    telemetry,
    trust::Verified,
};

/// How long our direction may take to end: what was sent has to leave first.
const CLOSING: Duration = Duration::from_secs(5);

/// How long the far side may take to end its direction once ours has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// The code of an error instead of an answer that the connection does not take, as in `rpc`.
const TOO_LARGE: ErrorCode = ErrorCode(413);

/// A transport of rmcp, for clients and servers, over a connection of messages: any [`Stream`] and [`Sink`] of
/// [`Bytes`], each the JSON of one message.
///
/// For a sealed connection take [`transport`](super::transport()), which knows the caller.
///
/// Every message is parsed once, and flushed. When the connection fails, the transport ends, and that error is logged,
/// is what sending and closing return, and `TransportSend` in rmcp; calls that wait get `TransportClosed`. Closing ends
/// our direction, sealed connections with words that the peer can verify, for which 5 s are given to what was sent
/// before, and gives the far side 2 s to end its own.
///
/// A message that is not understood ends nothing: a request is answered by an error, with its id if that can be read,
/// and an answer becomes an error to the call that it is for.
///
/// Nothing limits how many messages wait to be sent, as rmcp sets no limit, and holding back what comes could leave
/// both sides waiting for each other. So a peer that asks, and never reads, costs as much memory as it is answered
/// with: serve only whom you trust so far, or limit how many calls of a peer are in the handler.
///
/// An answer that the connection refuses to carry (`Misuse`), such as one above 1 MiB, becomes an error with code
/// 413, so that nobody waits for it. The same for a request is that call's error.
pub struct MessageTransport<C> {
    connection: Arc<Connection<C>>,
    caller: Option<Verified>,
    objection: Objection,
    end: Option<Result<()>>,
}

/// What is still to be said about a message that was none.
enum Objection {
    None,
    /// To the request with this id, if it could be read.
    Due(Option<RequestId>),
    Unflushed,
}

impl<C> MessageTransport<C> {
    /// Over `connection`, of which it is not known who is at its other end.
    #[must_use]
    pub fn new(connection: C) -> Self {
        let connection = Connection { inner: Mutex::new(Box::pin(connection)), turn: Default::default() };
        MessageTransport {
            connection: Arc::new(connection),
            caller: None,
            objection: Objection::None,
            end: None,
        }
    }

    /// Who is at the other end: a [`Verified`] in the extensions of every request and notification that comes.
    #[must_use]
    pub fn caller(self, caller: Verified) -> Self {
        MessageTransport { caller: Some(caller), ..self }
    }
}

impl<C, E> MessageTransport<C>
where
    C: Stream<Item = Result<Bytes, E>> + Sink<Bytes>,
    C::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    /// The next message of the connection. Dropped at any point, it goes on where it was.
    async fn next(&mut self, object: impl Fn(Option<RequestId>) -> Result<Bytes>) -> Result<Option<Bytes>> {
        if let Objection::Due(id) = &self.objection {
            self.connection.feed(object(id.clone())?).await?;
            self.objection = Objection::Unflushed;
        }
        if let Objection::Unflushed = self.objection {
            self.connection.flush().await?;
            self.objection = Objection::None;
        }
        self.connection.next().await
    }
}

impl<R, C, E> Transport<R> for MessageTransport<C>
where
    R: ServiceRole,
    C: Stream<Item = Result<Bytes, E>> + Sink<Bytes> + Send + 'static,
    C::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    type Error = Error;

    fn send(&mut self, message: TxJsonRpcMessage<R>) -> impl Future<Output = Result<()>> + Send + 'static {
        let connection = self.connection.clone();
        async move {
            let answered = answered(&message);
            let sent = connection.send(encode::<R>(&message)?).await;
            if let (Err(Error::Misuse { .. }), Some(id)) = (&sent, answered) {
                let instead = ErrorData::new(TOO_LARGE, "the answer is too large for this connection", None);
                connection.send(encode::<R>(&JsonRpcMessage::error(instead, Some(id)))?).await?;
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<R>> {
        while self.end.is_none() {
            let object = |id| {
                let invalid = ErrorData::invalid_request("Invalid request", None);
                encode::<R>(&JsonRpcMessage::error(invalid, id))
            };
            match self.next(object).await {
                Ok(Some(bytes)) => match read::<RxJsonRpcMessage<R>>(&bytes) {
                    Incoming::Message(mut message) => {
                        if let Some(caller) = self.caller {
                            message.insert_extension(caller);
                        }
                        return Some(message);
                    }
                    Incoming::Ignored => {}
                    Incoming::Invalid(id) => self.objection = Objection::Due(id),
                    Incoming::Unreadable(id) => {
                        let unreadable = ErrorData::internal_error("the answer cannot be read", None);
                        return Some(JsonRpcMessage::error(unreadable, Some(id)));
                    }
                },
                Ok(None) => self.end = Some(Ok(())),
                Err(error) => {
                    let reason: &dyn std::error::Error = &error;
                    tracing::warn!(target: telemetry::TARGET, reason, "a connection that carries MCP failed");
                    self.end = Some(Err(error));
                }
            }
        }
        None
    }

    async fn close(&mut self) -> Result<()> {
        let late = Err(Error::TimedOut { waiting_for: "the far side to read" });
        let closed = timeout(CLOSING, self.connection.close()).await.unwrap_or(late);
        if closed.is_ok() && self.end.is_none() {
            // Going with something unread would break the connection off, and with it what was sent last.
            let rest = async { while let Ok(Some(_)) = self.connection.next().await {} };
            let _ = timeout(FAREWELL, rest).await;
        }
        self.end.replace(Ok(())).unwrap_or(Ok(())).and(closed)
    }
}

/// The request that a message answers.
fn answered<A, B, N>(message: &JsonRpcMessage<A, B, N>) -> Option<RequestId> {
    match message {
        JsonRpcMessage::Response(response) => Some(response.id.clone()),
        JsonRpcMessage::Error(error) => error.id.clone(),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
    }
}

fn encode<R: ServiceRole>(message: &TxJsonRpcMessage<R>) -> Result<Bytes> {
    serde_json::to_vec(message).map(Bytes::from).map_err(reason)
}

/// An error of a connection, which may be one of ours.
fn reason(error: impl Into<BoxError>) -> Error {
    error.into().downcast::<Error>().map_or_else(transport, |error| *error)
}

/// A connection that one task reads and many write.
struct Connection<C> {
    /// Locked within a poll only.
    inner: Mutex<Pin<Box<C>>>,
    /// Whose turn it is to write: a sink wakes no more than one task.
    turn: tokio::sync::Mutex<()>,
}

impl<C> Connection<C> {
    fn lock(&self) -> MutexGuard<'_, Pin<Box<C>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Sink<Bytes, Error: Into<BoxError>>> Connection<C> {
    async fn send(&self, message: Bytes) -> Result<()> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Has taken nothing of `message` if it is dropped.
    async fn feed(&self, message: Bytes) -> Result<()> {
        let _turn = self.turn.lock().await;
        let mut message = Some(message);
        poll_fn(|cx| {
            let mut inner = self.lock();
            ready!(inner.as_mut().poll_ready(cx)).map_err(reason)?;
            message.take().map_or(Ok(()), |message| inner.as_mut().start_send(message).map_err(reason)).into()
        })
        .await
    }

    async fn flush(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        poll_fn(|cx| self.lock().as_mut().poll_flush(cx).map_err(reason)).await
    }

    async fn close(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        poll_fn(|cx| self.lock().as_mut().poll_close(cx).map_err(reason)).await
    }
}

impl<C: Stream<Item = Result<Bytes, E>>, E: Into<BoxError>> Connection<C> {
    async fn next(&self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.lock().as_mut().poll_next(cx)).await.transpose().map_err(reason)
    }
}

impl<C> fmt::Debug for MessageTransport<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageTransport").field("caller", &self.caller).finish_non_exhaustive()
    }
}
