//! Sealed two-way connections (PROTOCOL section 6): over WebSocket, child processes, sockets, or any other
//! ordered pipe.
//!
//! ```text
//!  connect                                            accept
//!     │ ── hello ───────────────────────────────────────> │  judged; its target compared; verified
//!     │ <────────────────────────────────────── reply ─── │
//!     │ ── record 0, empty, signed ─────────────────────> │  now it is certain who is there
//!     │ <──────────────────────────── record 0, empty ─── │
//!  Sealed  <══ one message, one record, either way ══>  Sealed
//!     │ ── FINAL ───────────────────────────────────────> │  None: this direction has ended, authenticated
//! ```
//!
//! A [`Sealed`] connection is a `Stream` and a `Sink` of messages ([`Bytes`](bytes::Bytes)). [`pipe`] makes one
//! from a socket or the standard streams of a child, `websocket` (with that feature) from a URL; [`connect`] and [`accept`] from
//! anything else that carries whole [`Frame`]s in order.
//!
//! Nothing runs in the background: a connection lives by being polled, in a tokio runtime with its clock. Whoever
//! waits for messages answers pings, and finds out that the far side has gone, that its time is up, or that it is
//! trusted no more. After the far side's FINAL there is nothing to wait for but [`gone`](Receiver::gone).
//!
//! Read and write at the same time, with [halves](Sealed::into_split) in two tasks or with `select`: of two sides
//! that write to each other and do not read meanwhile, neither gets further once the buffers between them are full.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use futures_util::{SinkExt as _, StreamExt as _};
//! use tower_seal::{Config, Identity, duplex::{Acceptor, pipe}, protocol::Destination, trust::Pinned};
//!
//! let (server, client) = (Identity::generate(), Identity::generate());
//! let (server_id, client_id) = (server.node_id(), client.node_id());
//! let acceptor = Acceptor::new(Config::new(server, Pinned::new([client_id])));
//! let config = Config::new(client, Pinned::new([server_id]));
//!
//! // Any two ends of a pipe of bytes.
//! let (here, there) = tokio::io::duplex(4096);
//! let (mut client, mut server) = tokio::try_join!(
//!     pipe::connect(here, &config, Destination::default()),
//!     pipe::accept(there, &acceptor),
//! )?;
//! assert_eq!(server.verified().unwrap().node_id(), client_id);
//!
//! client.send("hello".into()).await?;
//! assert_eq!(server.next().await.unwrap()?, "hello");
//!
//! // Each direction ends for itself.
//! client.close().await?;
//! assert!(server.next().await.is_none());
//! server.send("goodbye".into()).await?;
//! server.close().await?;
//! assert_eq!(client.next().await.unwrap()?, "goodbye");
//! assert!(client.next().await.is_none());
//! # Ok(()) }
//! ```

mod acceptor;
mod connect;
#[cfg(test)]
mod exhausted;
mod frame;
mod handshake;
mod link;
mod places;
mod receiver;
mod redial;
mod sealed;
mod sender;

pub mod pipe;
#[cfg(feature = "websocket")]
pub mod websocket;

use crate::{
    error::{Code, Error},
    shell::{note_session, now, rng, transport},
};

pub use acceptor::{Acceptor, accept};
pub use connect::connect;
pub use frame::{Frame, Transport};
pub use receiver::Receiver;
pub use redial::Redial;
pub use sealed::Sealed;
pub use sender::Sender;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of a transport, which may be one of ours that went through it.
fn transport_error(error: impl Into<BoxError>) -> Error {
    let error = match error.into().downcast::<Error>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    match error.downcast::<std::io::Error>() {
        Ok(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(inner) => inner.clone(),
            None => transport(*error),
        },
        Err(error) => transport(error),
    }
}

/// What operating systems call an error where a connection has been cut off: an end without FINAL.
fn as_end(error: Error) -> Error {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let Error::Transport(inner) = &error else { return error };
    match inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof) => {
            Error::new(Code::Truncated, "the connection was cut off")
        }
        _ => error,
    }
}
