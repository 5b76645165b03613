//! A body as long as it has to be, of which only a piece at a time is in memory.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame};

/// As much as one record takes.
pub(crate) const PIECE: usize = 256 << 10;

/// A body of so many bytes, each piece of which is new.
pub(crate) struct Pieces(pub(crate) usize);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.min(PIECE);
        self.0 -= length;
        Poll::Ready((length > 0).then(|| Ok(Frame::data(vec![b'x'; length].into()))))
    }
}

/// How many bytes there were. None of them is kept.
pub(crate) async fn discard(body: impl Body<Error: Debug>) -> usize {
    let (mut body, mut length) = (pin!(body), 0);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        length += frame.unwrap().into_data().map_or(0, |data| data.remaining());
    }
    length
}
