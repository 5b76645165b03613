//! Over WebSocket (RFC 6455), by tokio-tungstenite: `tower-seal.v1` as subprotocol, the path as target.
//!
//! A connection pings a peer that is silent, and fails when it stays so
//! ([`Limits::ping`], [`Limits::pong`]), or takes nothing more ([`Limits::stall`]). That happens in `next`, as does the
//! answer to a ping, and after the peer's end in [`gone`](super::Receiver::gone): a program that does not come back
//! to it for minutes, such as a server in a long call, looks dead to its peer.
//!
//! A server of `wss` gives [`accept`] what its TLS library makes of a TCP connection, on which `set_nodelay` spares
//! small messages a wait.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use futures_util::{SinkExt as _, StreamExt as _};
//! use tower_seal::{Config, Identity, duplex::websocket::{self, Options}, trust::Pinned};
//!
//! # let server_id = Identity::generate().node_id();
//! let config = Config::new(Identity::generate(), Pinned::new([server_id]));
//! let mut server = websocket::connect("wss://example.com/mcp", &config, &Options::new()).await?;
//! server.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into()).await?;
//! println!("{:?}", server.next().await);
//! # Ok(()) }
//! ```

mod client;
mod gauge;
mod keep_alive;
mod server;
mod socket;
mod tls;

#[cfg(feature = "axum")]
mod upgrade;

use http::{HeaderMap, HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::{
    config::{Encoding, Limits, PORTABLE_RECORD},
    protocol::Record,
};

pub use client::{ClientSocket, Options, connect};
pub use server::{accept, accept_upgraded};
pub use socket::WebSocket;
pub use tls::Socket;
#[cfg(feature = "axum")]
pub use upgrade::{Accepting, Upgrade, Upgraded};

/// The subprotocol, which both sides name.
pub const SUBPROTOCOL: &str = "tower-seal.v1";

const PROTOCOL: HeaderValue = HeaderValue::from_static(SUBPROTOCOL);

/// Bytes that are read at once, and that wait to be written with others. The default, 128 KiB of each, would be
/// most of a connection.
const BUFFER: usize = 8 << 10;

/// Room for pongs beside a message. A peer that pings and never reads may fill all of the room, which is 2.2 MiB; further
/// pongs replace each other.
const PONGS: usize = 64 << 10;

fn settings(limits: &Limits) -> WebSocketConfig {
    // As much as one message may follow what was not worth writing yet.
    let unsent = BUFFER + Record::longest(Encoding::Json, PORTABLE_RECORD) + PONGS;
    let longest = Record::longest(Encoding::Json, limits.record);
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(unsent)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
}

/// Whether a request offers the subprotocol.
fn is_offered(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == SUBPROTOCOL)
}
