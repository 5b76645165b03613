//! HOW: the wire protocol, bytes in and bytes out.
//!
//! No sockets, no clock, no randomness of its own: `now` and `rng` are arguments. The files are named after
//! the sections of PROTOCOL.md.
//!
//! ```text
//!  initiator                                                     responder
//!  Initiator::start ───────── hello (signed X25519) ──────────>  Responder::accept   judged, then verified
//!  Initiator::finish <─────── reply (signed over both) ────────  a provisional Session
//!  Session::request ───────── record 0, signed ───────────────>  Responder::open     now it is confirmed
//!                   ───────── record 1 … FINAL ───────────────>  Offered::claim      served at most once
//!  Awaiting::open   <──────── record 0 … FINAL ────────────────  Claimed::response
//! ```
//!
//! Each message in full, by hand:
//!
//! ```
//! use std::{sync::Arc, time::{Duration, Instant}};
//! use bytes::BytesMut;
//! use rand_core::UnwrapErr;
//! use tower_seal::{
//!     Config, Identity,
//!     config::Encoding,
//!     protocol::{Destination, Final, Initiator, Record, Responder},
//!     trust::{AnyIdentity, Pinned},
//! };
//!
//! let (rng, now) = (&mut UnwrapErr(getrandom::SysRng), Instant::now());
//! let server = Responder::new(Config::new(Identity::generate(), AnyIdentity));
//! let client = Config::new(Identity::generate(), Pinned::new([server.config().node_id()]));
//!
//! let (hello, initiator) = Initiator::start(&client, Destination::default(), rng)?;
//! let (reply, session) = server.accept(&hello, |_target| true, || true, rng, now)?;
//! server.admit(session);
//! let session = Arc::new(initiator.finish(&reply, now)?);
//!
//! let request = session.request(&b"ping"[..], Final::Yes, Duration::from_secs(60), false, rng, now)?;
//! let record = Record::parse(BytesMut::from(&request.bytes[..]), Encoding::Binary, 1 << 20)?;
//! let (offered, _) = server.open(record, now).map_err(|(error, _)| error)?;
//! let mut claimed = offered.claim(false, rng, now)?;
//! assert_eq!(claimed.plaintext, "ping");
//! assert_eq!(claimed.caller.node_id(), client.node_id());
//!
//! let response = claimed.response.seal(&b"pong"[..], Final::Yes, now)?;
//! let record = Record::parse(BytesMut::from(&response[..]), Encoding::Binary, 1 << 20)?;
//! let (opened, _) = request.response.open(record, now)?;
//! assert_eq!(opened.plaintext, "pong");
//! # Ok::<(), tower_seal::Error>(())
//! ```

mod batch;
mod binary;
mod exchange;
mod handshake;
mod json;
mod keys;
mod message_kind;
mod record;
mod reject;
mod replay;
mod responder;
mod session;
mod session_table;
mod stream;
mod transcript;
#[cfg(test)]
mod vectors;

pub use exchange::{Awaiting, Claimed, Offered, Request};
pub use handshake::{Destination, Initiator, MAX_HANDSHAKE};
pub use message_kind::MessageKind;
pub use record::{Plaintext, Record};
pub use reject::{MAX_ERROR, Subject, error_message, refusal};
pub use responder::Responder;
pub use session::Session;
pub(crate) use stream::{Draft, sign};
pub use stream::{Final, Opened, Opener, Sealer};
