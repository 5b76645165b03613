//! A WebSocket as a transport of frames, with its pings.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        error::{CapacityError, ProtocolError},
        protocol::frame::Utf8Bytes,
    },
};

use super::{
    gauge::Gauge,
    keep_alive::{KeepAlive, Need},
};
use crate::{
    config::Limits,
    duplex::{Frame, transport_error},
    error::{Code, Error, Result},
};

/// A WebSocket over `S`, of whichever side: text messages are JSON, binary messages records.
pub struct WebSocket<S> {
    inner: WebSocketStream<Gauge<S>>,
    keep_alive: KeepAlive,
    /// A ping or a pong is on its way to the socket.
    unflushed: bool,
    /// A hello or a reply has come.
    greeted: bool,
    /// The far side has said that nothing follows.
    ended: bool,
}

impl<S> WebSocket<S> {
    pub(super) fn new(inner: WebSocketStream<Gauge<S>>, limits: &Limits) -> Self {
        WebSocket {
            inner,
            keep_alive: KeepAlive::new(limits),
            unflushed: false,
            greeted: false,
            ended: false,
        }
    }

    /// Of a server, to which anybody may say anything.
    pub(super) fn of_stranger(mut inner: WebSocketStream<Gauge<S>>, limits: &Limits) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        inner.get_mut().watch_headers();
        Self::new(inner, limits)
    }

    /// The handshake is over.
    pub(super) fn open(&mut self)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.inner.get_mut().open();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn greet(&mut self, frame: Frame) -> Frame {
        if !std::mem::replace(&mut self.greeted, true) {
            self.inner.get_mut().widen();
        }
        frame
    }

    /// Until pings and pongs are written, further ones, which the far side can cause, find only so much room.
    fn poll_unflushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.unflushed {
            ready!(self.inner.poll_flush_unpin(cx)).map_err(websocket_error)?;
            self.unflushed = false;
            self.keep_alive.flushed();
        }
        Poll::Ready(Ok(()))
    }

    /// What is to be done where nothing comes.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            let can_write = match self.poll_unflushed(cx) {
                Poll::Ready(written) => written.map(|()| true)?,
                Poll::Pending => false,
            };
            // What waits to be written before a ping may take its time: it is not asked before it can be.
            if can_write
                && self.keep_alive.wants_ping()
                && let Poll::Ready(room) = self.inner.poll_ready_unpin(cx)
            {
                room.map_err(websocket_error)?;
                self.inner.start_send_unpin(Message::Ping(Bytes::new())).map_err(websocket_error)?;
                self.unflushed = true;
                self.keep_alive.queued();
                continue;
            }
            let gauge = self.inner.get_ref();
            match self.keep_alive.poll(gauge.heard, gauge.taken, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Need::Ping) => {}
                Poll::Ready(Need::End(reason)) => return Err(Error::new(Code::Timeout, reason)),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Frame>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            let message = match this.inner.poll_next_unpin(cx) {
                Poll::Ready(message) => message,
                Poll::Pending => {
                    return match this.poll_rest(cx) {
                        Ok(()) => Poll::Pending,
                        Err(error) => Poll::Ready(Some(Err(error))),
                    };
                }
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Poll::Ready(Some(Ok(this.greet(Frame::Text(text.into())))));
                }
                Some(Ok(Message::Binary(bytes))) => {
                    return Poll::Ready(Some(Ok(this.greet(Frame::Binary(bytes)))));
                }
                // Answered below.
                Some(Ok(Message::Ping(_))) => this.unflushed = true,
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
                // Whose answer goes out if it can. A client would have to wait until the server hangs up.
                Some(Ok(Message::Close(_))) => {
                    this.ended = true;
                    let _ = this.inner.poll_flush_unpin(cx);
                    return Poll::Ready(None);
                }
                Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) | None => {
                    this.ended = true;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(websocket_error(error)))),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Frame> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_unflushed(cx))?;
        self.inner.poll_ready_unpin(cx).map_err(websocket_error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<()> {
        let message = match frame {
            Frame::Binary(bytes) => Message::Binary(bytes),
            Frame::Text(text) => Message::Text(
                Utf8Bytes::try_from(text).map_err(|_| Error::Misuse { reason: "a text message is UTF-8" })?,
            ),
        };
        self.inner.start_send_unpin(message).map_err(websocket_error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.inner.poll_flush_unpin(cx)).map_err(websocket_error)?;
        self.unflushed = false;
        self.keep_alive.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_close_unpin(cx).map_err(websocket_error)
    }
}

pub(super) fn websocket_error(error: WsError) -> Error {
    use ProtocolError::{HandshakeIncomplete, SecWebSocketSubProtocolError, SendAfterClosing};
    match error {
        WsError::Io(error) => transport_error(error),
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
            Error::new(Code::TooLarge, "a WebSocket message above the configured limit")
        }
        WsError::Capacity(CapacityError::TooManyHeaders) | WsError::AttackAttempt => {
            Error::new(Code::TooLarge, "a request to upgrade that is too long")
        }
        WsError::Utf8(_) => Error::malformed("a text message that is not UTF-8"),
        WsError::Http(response) => Error::Unsealed { status: response.status().as_u16() },
        // The server upgraded, but to something else.
        WsError::Protocol(SecWebSocketSubProtocolError(_)) => Error::Unsealed { status: 101 },
        WsError::Protocol(HandshakeIncomplete) => {
            Error::new(Code::Truncated, "the connection ended within the upgrade")
        }
        // Which is an end like any other that the operating system reports.
        WsError::ConnectionClosed | WsError::AlreadyClosed | WsError::Protocol(SendAfterClosing) => {
            transport_error(io::Error::new(io::ErrorKind::NotConnected, error))
        }
        WsError::Protocol(_) => Error::malformed("what no WebSocket says (RFC 6455)"),
        error => transport_error(error),
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}
