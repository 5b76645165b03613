//! JSON-RPC over a two-way connection: [`serve`], [`Client`], and the [`Driver`] between them.
//!
//! ```text
//!   Client ──queue──┐                    ┌──> Calls ──answer──> the call with that id
//!   Client ──queue──┴─> Writer ─> connection
//!   service ─answers──┘                  └──> Serving: waiting ──> running in the service
//! ```

mod calls;
mod client;
mod driver;
mod serving;
mod writer;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use tower_service::Service;

use super::{
    BoxError, Message,
    fault::{Fault, refusal},
    transport,
};
use crate::{
    config::Config,
    error::{Error, Result},
};

pub use client::Client;
pub use driver::Driver;

/// What a connection ended with. An error of this crate stays what it is.
fn reason(error: impl Into<BoxError>) -> Error {
    error.into().downcast::<Error>().map_or_else(transport, |error| *error)
}

/// Serves what comes over `connection` with `service`, and gives [clients](Driver::client) for calls the other
/// way.
///
/// Nothing happens before the [`Driver`] is polled: spawn it, or await it.
///
/// At most [`Limits::serving`](crate::config::Limits::serving) messages are in the service at once, each begun when
/// the service is ready, and answered when it is done, in whatever order; behind them
/// [`Limits::in_flight`](crate::config::Limits::in_flight) messages, and
/// [`Limits::waiting_bytes`](crate::config::Limits::waiting_bytes) bytes, wait, and then the connection is not read
/// further. Only while calls of ours wait, whose answers may be behind, it is read on, and requests that find no
/// room get an error with code 503; a notification, which cannot be refused, waits without room, and then nothing
/// is read until there is some.
///
/// All of it runs in the task of the driver, the service's futures too: what takes the processor long, or blocks,
/// holds the connection up, so let the service spawn it.
///
/// A message that is being served counts until it has been answered, also while it waits for a call of its own.
/// So two sides whose services both call back, and are both called as often as may be served at once, can wait for
/// each other, until [`Limits::response`](crate::config::Limits::response) ends it.
///
/// | what comes | what the far side gets |
/// |---|---|
/// | a request | what the service answers; nothing for `None` |
/// | a request that the service fails to answer | -32603, `Internal error`, and no reason, which is nobody's business |
/// | a request with an answer that the connection refuses to carry (`Misuse`) | an error with code 413 |
/// | a request without room | an error with code 503: it has not been served, and may be repeated |
/// | a notification | nothing, whatever the service says |
/// | a batch with a request in it | what the service answers: it gets the batch as a whole; an error as above is an array of one for each request |
/// | a response, or a batch of them | nothing: it is for a call of ours, or late |
/// | JSON that is no JSON-RPC | -32600, `Invalid Request` |
/// | anything else | -32700, `Parse error` |
pub fn serve<C, S>(config: &Config, connection: C, service: S) -> Driver<C, S>
where
    S: Service<Message, Response = Option<Bytes>>,
    S::Error: Into<BoxError>,
{
    Driver::new(config, connection, service)
}

impl Client {
    /// A client of whoever is at the other end of `connection`, and the driver to spawn. It ends, and closes the
    /// connection, when the last clone of the client, and its last call, is gone.
    ///
    /// Requests of the far side are answered by -32601, `Method not found`: for a service use [`serve`].
    pub fn connect<C>(config: &Config, connection: C) -> (Self, Driver<C, NoService>) {
        let driver = serve(config, connection, NoService).until_unused();
        (driver.client(), driver)
    }
}

/// A service for a side that has none: -32601, `Method not found`, for what wants an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoService;

impl Service<Message> for NoService {
    type Response = Option<Bytes>;
    type Error = Infallible;
    type Future = Ready<Result<Option<Bytes>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        ready(Ok(refusal(&message.bytes, Fault::MethodNotFound)))
    }
}
