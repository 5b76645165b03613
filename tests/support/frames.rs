//! A transport of frames without bounds.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, Stream};
use tokio::sync::mpsc;
use tower_seal::duplex::Frame;

/// One end of it.
pub(crate) struct End {
    pub(crate) to: Option<mpsc::UnboundedSender<io::Result<Frame>>>,
    pub(crate) from: mpsc::UnboundedReceiver<io::Result<Frame>>,
}

pub(crate) fn frames() -> (End, End) {
    let ((a, b), (c, d)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    (End { to: Some(a), from: d }, End { to: Some(c), from: b })
}

impl Stream for End {
    type Item = io::Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.from.poll_recv(cx)
    }
}

impl Sink<Frame> for End {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> io::Result<()> {
        let to = self.to.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        to.send(Ok(frame)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to = None;
        Poll::Ready(Ok(()))
    }
}
