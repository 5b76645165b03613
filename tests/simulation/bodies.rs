//! Bodies of one type, so that services fit together in any order.

#[path = "../support/failure.rs"]
mod failure;

use std::error::Error as StdError;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use tokio::sync::mpsc;

pub(crate) use failure::Failure;

pub(crate) type Body = BoxBody<Bytes, Failure>;

pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    body.map_err(Failure::new).boxed()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    boxed(Full::new(bytes.into()))
}

/// The far end of a body that is made while it is read.
pub(crate) type Tap = mpsc::UnboundedSender<Result<Bytes, Failure>>;

pub(crate) fn channel() -> (Tap, Body) {
    let (tap, mut receiver) = mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|piece| piece.map(|piece: Result<_, _>| piece.map(http_body::Frame::data)))
    });
    (tap, StreamBody::new(stream).boxed())
}

/// The next piece of a body; `None` at its good end.
pub(crate) async fn piece(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    Ok(body.frame().await.transpose()?.and_then(|frame| frame.into_data().ok()))
}

pub(crate) async fn content(body: Body) -> Result<Bytes, Failure> {
    Ok(body.collect().await?.to_bytes())
}
