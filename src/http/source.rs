//! An inner body, taken in pieces.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::Body;
use smallvec::SmallVec;

use super::BoxError;
use crate::{
    error::{Error, Result},
    shell::transport,
};

/// The most content in one record that is sent; far enough below what every receiver takes for a head and
/// for padding.
pub(super) const PIECE: usize = 256 << 10;

/// Most bodies that are at hand are so in one piece.
pub(super) type Pieces = SmallVec<[Bytes; 1]>;

/// An inner body, from which pieces of content are taken as they are at hand.
pub(super) struct Source<B> {
    body: Pin<Box<B>>,
    rest: Bytes,
    ended: bool,
    /// Comes after `rest`, so that a body that fails at once does not keep its head back.
    failed: Option<Error>,
}

impl<B> Source<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: B) -> Self {
        Source { body: Box::pin(body), rest: Bytes::new(), ended: false, failed: None }
    }

    /// The content that is at hand now, up to [`PIECE`] bytes. It never waits.
    pub(super) async fn at_hand(&mut self) -> Pieces {
        let (mut pieces, mut room) = (Pieces::new(), PIECE);
        std::future::poll_fn(|cx| {
            while room > 0 && !self.is_ended() {
                match self.poll_piece(cx, room) {
                    Poll::Ready(Some(Ok(piece))) => {
                        room -= piece.len();
                        pieces.push(piece);
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.failed = Some(error);
                        break;
                    }
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            Poll::Ready(())
        })
        .await;
        pieces
    }

    /// Whether nothing follows, as far as is known without waiting.
    pub(super) fn is_ended(&self) -> bool {
        self.rest.is_empty() && self.failed.is_none() && (self.ended || self.body.is_end_stream())
    }

    /// The next piece, of 1 to `most` bytes. Trailers, which records cannot carry, are dropped.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Option<Result<Bytes>>> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(most));
                return Poll::Ready(Some(Ok(piece)));
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        self.rest = data.copy_to_bytes(data.remaining());
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(transport(error))));
                }
                None => self.ended = true,
            }
        }
    }
}
