//! A connection: both halves.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};

use super::{
    Frame, Transport,
    link::Link,
    receiver::Receiver,
    sender::{End, Sender},
};
use crate::{
    config::{Config, Encoding},
    error::{Code, Error, Result},
    protocol::{Opener, Sealer},
    trust::Verified,
};

/// A sealed connection whose peer has proved that it is there: a [`Stream`] and a [`Sink`] of messages.
///
/// Dropping the future of a `next` loses nothing. Dropping that of a `send` loses the message if it was not taken
/// yet: in a `select`, wait for [`ready`](Self::ready), and then `start_send` it. What has been taken leaves with
/// the next call. Each message is one record; one of more than 1 MiB is `Misuse`. Keys change by themselves.
///
/// `close` ends this side's direction, with words that the peer can verify. The other one stays open until the
/// stream ends, which a tidy caller waits for. Once both have ended the transport is closed. Dropping a
/// connection that has not been closed is `truncated` for the peer.
///
/// The first failure is told to the peer, ends the connection, and is what every later call returns. One that comes
/// to each is `unknown_session`, [24 hours](Self::ends_at) after the handshake: then connect anew.
pub struct Sealed<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T> Sealed<T> {
    pub(super) fn new(
        transport: T,
        config: &Config,
        (sealer, encoding): (Sealer, Encoding),
        opener: Opener,
    ) -> Self {
        let peer = opener.session().verified();
        let link = Arc::new(Link::new(transport, config.clone(), peer));
        Self::from_parts(link, Some((sealer, encoding)), Some(opener), None)
    }

    /// `early` is what has come already.
    pub(super) fn plain(transport: T, config: &Config, early: Option<Frame>) -> Self {
        Self::from_parts(Arc::new(Link::new(transport, config.clone(), None)), None, None, early)
    }

    fn from_parts(
        link: Arc<Link<T>>,
        sealer: Option<(Sealer, Encoding)>,
        opener: Option<Opener>,
        early: Option<Frame>,
    ) -> Self {
        Sealed {
            sender: Sender { link: link.clone(), sealer, slot: None, end: End::Open, stall: None },
            receiver: Receiver { link, opener, early, ended: false, rest: None },
        }
    }

    /// Who is at the far side, and in which session; `None` in plaintext only.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.receiver.verified()
    }

    /// When the connection has to have ended, 24 h after the handshake; `None` in plaintext, and after the end.
    #[must_use]
    pub fn ends_at(&self) -> Option<Instant> {
        self.receiver.opener.as_ref().map(Opener::ends_at)
    }

    /// A key for the application's own use, bound to this session, `label` and `context` (PROTOCOL section 3).
    ///
    /// Errors: `Misuse` above 8160 bytes, in plaintext, and after the end.
    pub fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<()> {
        match &self.receiver.opener {
            Some(opener) => opener.session().export(label, context, out),
            None => Err(Error::Misuse { reason: "there are no keys in plaintext, or after the end" }),
        }
    }

    /// The two halves, for different tasks. The transport lives as long as one of them.
    #[must_use]
    pub fn into_split(self) -> (Sender<T>, Receiver<T>) {
        (self.sender, self.receiver)
    }

    /// Something to do to the transport, such as to widen its limits.
    pub(super) fn adjust(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.sender.link.wire().transport);
    }
}

impl<T: Transport> Sealed<T> {
    /// Waits until a message can be taken, as [`Sender::ready`].
    pub async fn ready(&mut self) -> Result<()> {
        self.sender.ready().await
    }

    /// Waits until the far side has gone, as [`Receiver::gone`].
    pub async fn gone(&mut self) -> Result<()> {
        self.receiver.gone().await
    }

    /// Ends the connection with the code of an error, which the far side is told, as [`Sender::fail`].
    pub async fn fail(mut self, code: Code) {
        self.sender.fail(code).await;
    }
}

impl<T: Transport> Stream for Sealed<T> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.receiver.poll_next_unpin(cx)
    }
}

impl<T: Transport> Sink<Bytes> for Sealed<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.sender.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<()> {
        self.sender.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.sender.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.sender.poll_close_unpin(cx)
    }
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("peer", &self.verified()).finish_non_exhaustive()
    }
}
