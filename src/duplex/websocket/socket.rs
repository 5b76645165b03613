//! A WebSocket as a transport of frames, with its pings.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        error::{CapacityError, ProtocolError},
        protocol::frame::Utf8Bytes,
    },
};

use super::gauge::Gauge;
use crate::{
    config::Limits,
    duplex::{Frame, transport_error},
    error::{Code, Error, Result},
};

/// A WebSocket over `S`, of whichever side: text messages are JSON, binary messages records.
pub struct WebSocket<S> {
    inner: WebSocketStream<Gauge<S>>,
    keep_alive: KeepAlive,
    /// A ping is on its way to the socket.
    unflushed: bool,
    /// A hello or a reply has come.
    greeted: bool,
}

/// When to ping, and when to give up.
struct KeepAlive {
    ping: Duration,
    pong: Duration,
    heard: Instant,
    /// Since when a ping has been waiting for any sign of life.
    pinged: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Due {
    Ping,
    Silence,
}

impl<S> WebSocket<S> {
    pub(super) fn new(inner: WebSocketStream<Gauge<S>>, limits: &Limits) -> Self {
        let keep_alive = KeepAlive {
            ping: limits.ping,
            pong: limits.pong,
            heard: Instant::now(),
            pinged: None,
            timer: None,
        };
        WebSocket { inner, keep_alive, unflushed: false, greeted: false }
    }

    /// The handshake is over.
    pub(super) fn open(&mut self)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.inner.get_mut().open();
    }
}

impl KeepAlive {
    fn hear(&mut self) {
        self.heard = Instant::now();
        if self.pinged.take().is_some() {
            // Set for the pong, it may be later than the next ping.
            self.timer = None;
        }
    }

    /// To be asked when nothing more is there to be read.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            let (since, limit) = match self.pinged {
                Some(pinged) => (pinged, self.pong),
                None => (self.heard, self.ping),
            };
            let rested = since.elapsed();
            if rested >= limit {
                self.timer = None;
                if self.pinged.is_some() {
                    return Poll::Ready(Due::Silence);
                }
                self.pinged = Some(Instant::now());
                return Poll::Ready(Due::Ping);
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit - rested)));
            ready!(timer.as_mut().poll(cx));
            // It may have been set for an earlier rest.
            self.timer = None;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn greet(&mut self, frame: Frame) -> Frame {
        if !std::mem::replace(&mut self.greeted, true) {
            self.inner.get_mut().widen();
        }
        frame
    }

    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            if self.unflushed {
                match self.inner.poll_flush_unpin(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Err(websocket_error(error)),
                    Poll::Pending => {}
                }
            }
            match self.keep_alive.poll_due(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Due::Silence) => {
                    return Err(Error::new(Code::Timeout, "the far side does not answer pings"));
                }
                Poll::Ready(Due::Ping) => match self.inner.poll_ready_unpin(cx) {
                    Poll::Ready(Ok(())) => {
                        let sent = self.inner.start_send_unpin(Message::Ping(Bytes::new()));
                        sent.map_err(websocket_error)?;
                        self.unflushed = true;
                    }
                    Poll::Ready(Err(error)) => return Err(websocket_error(error)),
                    // Something waits to be written before it: the peer takes nothing, and has to say something.
                    Poll::Pending => {}
                },
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Frame>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let this = self.get_mut();
        loop {
            let message = match this.inner.poll_next_unpin(cx) {
                Poll::Ready(message) => message,
                Poll::Pending => {
                    return match this.poll_ping(cx) {
                        Ok(()) => Poll::Pending,
                        Err(error) => Poll::Ready(Some(Err(error))),
                    };
                }
            };
            this.keep_alive.hear();
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Poll::Ready(Some(Ok(this.greet(Frame::Text(text.into())))));
                }
                Some(Ok(Message::Binary(bytes))) => {
                    return Poll::Ready(Some(Ok(this.greet(Frame::Binary(bytes)))));
                }
                // Pings are answered below, and after a close message the end follows.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
                Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) | None => {
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
        self.inner.poll_flush_unpin(cx).map_err(websocket_error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_close_unpin(cx).map_err(websocket_error)
    }
}

pub(super) fn websocket_error(error: WsError) -> Error {
    match error {
        WsError::Io(error) => transport_error(error),
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
            Error::new(Code::TooLarge, "a WebSocket message above the configured limit")
        }
        WsError::Utf8(_) => Error::malformed("a text message that is not UTF-8"),
        WsError::Http(response) => Error::Unsealed { status: response.status().as_u16() },
        // The server upgraded, but to something else.
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => Error::Unsealed { status: 101 },
        error => transport_error(error),
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}
