//! Over any pipe of bytes: child processes, Unix sockets, TCP, in-process pipes.
//!
//! Two pipes make one with [`tokio::io::join`]: `join(child.stdout, child.stdin)` for a child process, and
//! `join(stdin(), stdout())` in it. A child's input ends only when the connection is dropped: to close a `ChildStdin`
//! does nothing. On TCP, `set_nodelay` spares small messages a wait.
//!
//! There are no pings here: a peer that vanishes without a word is noticed by what cannot be sent to it, or after
//! [`Limits::duplex_idle`](crate::config::Limits::duplex_idle).

mod codec;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::Framed;

use super::{Acceptor, Sealed, acceptor::accept_in};
use crate::{
    config::{Config, Encoding},
    error::Result,
    protocol::Destination,
};

pub use codec::{Codec, Framing};

/// A pipe of bytes that is cut into messages.
pub type Pipe<S> = Framed<S, Codec>;

/// Bytes that are read at once.
const READ: usize = 4096;

/// Shakes hands over `pipe`, as the side that began the connection.
///
/// The config's encoding decides the framing for both sides: lines of JSON, or binary messages after their length;
/// in plaintext it is lines of text.
///
/// Errors: as [`connect`](super::connect).
pub async fn connect<S>(pipe: S, config: &Config, destination: Destination<'_>) -> Result<Sealed<Pipe<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lines = config.is_plaintext() || config.chosen_encoding() == Encoding::Json;
    let framing = if lines { Framing::Lines } else { Framing::Lengths };
    let pipe = Framed::with_capacity(pipe, Codec::new(Some(framing)), READ);
    let sealed = super::connect(pipe, config, destination).await?;
    widen(&sealed, config);
    Ok(sealed)
}

/// Shakes hands over `pipe`, as the side that the connection came to. The framing is the initiator's.
///
/// Errors: as [`accept`](super::accept).
pub async fn accept<S>(pipe: S, acceptor: &Acceptor) -> Result<Sealed<Pipe<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = acceptor.config();
    let framing = config.is_plaintext().then_some(Framing::Lines);
    let pipe = Framed::with_capacity(pipe, Codec::new(framing), READ);
    let sealed = accept_in(acceptor.place()?, pipe, acceptor, None).await?;
    widen(&sealed, config);
    Ok(sealed)
}

/// From now on whole messages may come.
fn widen<S>(sealed: &Sealed<Pipe<S>>, config: &Config) {
    let plaintext = sealed.verified().is_none();
    sealed.adjust(|pipe| pipe.codec_mut().open(config.bounds().record, plaintext));
}
