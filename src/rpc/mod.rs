//! JSON-RPC over tower, sealed message by message, over any transport.
//!
//! **Over single frames** (PROTOCOL section 7, "Frame binding"), such as those of a queue: [`SealLayer`] before
//! any `Service<Bytes, Response = Option<Bytes>>` that carries a frame to one far side and brings its answer, and
//! [`UnsealLayer`] before the service there.
//!
//! ```text
//!  {"id":1,"method":…}  Seal   01 03 6f2e…  your transport  01 03 6f2e…  Unseal  Message { bytes, caller }
//!  ────────────────────────>  ───────────>                ───────────>  ───────────────────────────────>
//!  {"id":1,"result":…}  <──── 01 03 c41b…  <───────────    01 03 c41b…  <──────── {"id":1,"result":…}
//! ```
//!
//! One message, or one batch, is one record. Messages stay the bytes that they are: of each only `id` and `method`
//! are read, to know whether it wants an answer. The answer to a notification is `None`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_seal::Error> {
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use tower::{Layer as _, ServiceExt as _, service_fn};
//! use tower_seal::{Config, Identity, rpc::{Message, SealLayer, UnsealLayer}, trust::Pinned};
//!
//! let (server, client) = (Identity::generate(), Identity::generate());
//! let (server_id, client_id) = (server.node_id(), client.node_id());
//!
//! let app = service_fn(move |message: Message| async move {
//!     assert_eq!(message.caller.map(|caller| caller.node_id()), Some(client_id));
//!     let asks = message.bytes.windows(4).any(|part| part == b"\"id\"");
//!     Ok::<_, Infallible>(asks.then(|| Bytes::from(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)))
//! });
//! let sealed = UnsealLayer::new(Config::new(server, Pinned::new([client_id]))).target("tools").layer(app);
//!
//! // Any transport of frames in place of `sealed`.
//! let rpc = SealLayer::new(Config::new(client, Pinned::new([server_id]))).target("tools").layer(sealed);
//! let ping = Bytes::from(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
//! assert_eq!(rpc.clone().oneshot(ping).await?.unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
//! let told = Bytes::from(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
//! assert_eq!(rpc.oneshot(told).await?, None);
//! # Ok(()) }
//! ```
//!
//! **Over a two-way connection** of messages, which is any `Stream + Sink` of [`Bytes`](bytes::Bytes), sealed by
//! itself or not: [`serve`] runs a service for what comes, and a [`Client`] is a service for what goes; each side
//! may have both. All services of this room take a [`Message`] or bytes and answer with `Option<Bytes>`, so that
//! one service fits everywhere, and tower's middleware fits around all of them.
//!
//! ```
//! # #[cfg(not(feature = "duplex"))] fn main() {}
//! # #[cfg(feature = "duplex")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use tower::{ServiceExt as _, service_fn};
//! use tower_seal::{Config, Identity, duplex::{Acceptor, pipe}, protocol::Destination, trust::Pinned};
//! use tower_seal::rpc::{Client, Message, serve};
//!
//! let (server, client) = (Identity::generate(), Identity::generate());
//! let acceptor = Acceptor::new(Config::new(server, Pinned::new([client.node_id()])));
//! let config = Config::new(client, Pinned::new([acceptor.config().node_id()]));
//!
//! let (here, there) = tokio::io::duplex(4096);
//! tokio::spawn(async move {
//!     let app = service_fn(async |message: Message| {
//!         let known = message.caller.is_some();
//!         Ok::<_, Infallible>(known.then(|| Bytes::from(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)))
//!     });
//!     let sealed = pipe::accept(there, &acceptor).await?;
//!     let caller = sealed.verified();
//!     // For calls of its own, this side would take a `client()` of the driver first.
//!     serve(acceptor.config(), sealed, app).caller(caller).await
//! });
//!
//! let sealed = pipe::connect(here, &config, Destination::default()).await?;
//! let (client, driver) = Client::connect(&config, sealed);
//! let driver = tokio::spawn(driver);
//! let ping = Bytes::from(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
//! assert_eq!(client.oneshot(ping.into()).await?.unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
//! // That was the last client, so the connection ends.
//! driver.await??;
//! # Ok(()) }
//! ```

mod connection;
#[cfg(test)]
mod exhausted;
mod fault;
mod frame;
mod id;
mod message;
mod seal;
mod shape;
mod unseal;

pub use crate::not_sent::NotSent;
pub use connection::{Client, Driver, NoService, serve};
pub use message::Message;
pub use seal::{Seal, SealLayer};
pub use unseal::{Unseal, UnsealLayer};

use crate::shell::{note_session, now, rng, transport};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
