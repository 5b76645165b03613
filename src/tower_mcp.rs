//! tower-mcp's client over a two-way connection of messages, sealed or not.
//!
//! ```no_run
//! # async fn f(config: tower_seal::Config) -> Result<(), Box<dyn std::error::Error>> {
//! use tower_mcp::client::McpClient;
//! use tower_seal::{duplex::websocket::{self, Options}, tower_mcp::MessageTransport};
//!
//! let sealed = websocket::connect("wss://example.com/mcp", &config, &Options::new()).await?;
//! let client = McpClient::connect(MessageTransport::new(sealed)).await?;
//! client.initialize("example", "1.0").await?;
//! # Ok(()) }
//! ```

use std::{error::Error as StdError, mem, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::time::timeout;
use tower_mcp::{Error, client::ClientTransport};

use crate::telemetry;

/// How long our direction may take to end, as what was sent has to leave first; and then the far side's.
const CLOSING: Duration = Duration::from_secs(5);
const FAREWELL: Duration = Duration::from_secs(2);

type Outcome<T> = tower_mcp::Result<T>;
type BoxError = Box<dyn StdError + Send + Sync>;

/// A [`ClientTransport`] over a connection of messages: any [`Stream`] and [`Sink`] of [`Bytes`], such as a
/// `duplex::Sealed`.
///
/// Closing ends our direction, sealed connections with words that the peer can verify, for which 5 s are given to what
/// was sent before, and gives the far side 2 s to end its own. Any error ends tower-mcp's client, also that of a
/// message above 1 MiB, which sealed connections do not take.
#[derive(Debug)]
pub struct MessageTransport<C> {
    connection: Pin<Box<C>>,
    /// Until the end of either direction, or an error.
    open: bool,
}

impl<C> MessageTransport<C> {
    /// Over `connection`, whose handshake is done.
    #[must_use]
    pub fn new(connection: C) -> Self {
        MessageTransport { connection: Box::pin(connection), open: true }
    }
}

#[async_trait]
impl<C, E> ClientTransport for MessageTransport<C>
where
    C: Stream<Item = Result<Bytes, E>> + Sink<Bytes> + Send + 'static,
    C::Error: Into<BoxError> + Send,
    E: Into<BoxError> + Send,
{
    async fn send(&mut self, message: &str) -> Outcome<()> {
        let sent = self.connection.send(Bytes::copy_from_slice(message.as_bytes())).await;
        self.open &= sent.is_ok();
        sent.map_err(failed)
    }

    async fn recv(&mut self) -> Outcome<Option<String>> {
        while self.open {
            let Some(message) = self.connection.next().await else { break };
            self.open &= message.is_ok();
            match String::from_utf8(message.map_err(failed)?.into()) {
                Ok(message) => return Ok(Some(message)),
                Err(_) => tracing::debug!(target: telemetry::TARGET, "a message that is no text"),
            }
        }
        self.open = false;
        Ok(None)
    }

    fn is_connected(&self) -> bool {
        self.open
    }

    async fn close(&mut self) -> Outcome<()> {
        let was_open = mem::replace(&mut self.open, false);
        let closed = timeout(CLOSING, self.connection.close()).await;
        closed.map_err(|_| Error::Transport("the far side does not read".to_owned()))?.map_err(failed)?;
        if was_open {
            // Going with something unread would break the connection off, and with it what was sent last.
            let rest = async { while let Some(Ok(_)) = self.connection.next().await {} };
            let _ = timeout(FAREWELL, rest).await;
        }
        Ok(())
    }
}

/// With its cause, as tower-mcp keeps nothing but text.
fn failed(error: impl Into<BoxError>) -> Error {
    let error: BoxError = error.into();
    Error::Transport(error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
}
