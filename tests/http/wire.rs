//! Sockets, and bodies in the hands of a test.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt::Debug,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::sync::mpsc;
use tower::{ServiceBuilder, util::BoxCloneSyncService};
use tower_seal::{Error, config::Encoding, error::Result};

use crate::support::{Body, Failure, Wire};

// ---- sockets ----

/// A server of HTTP/1.1 and HTTP/2.
pub(crate) async fn listen(wire: Wire) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = ServiceBuilder::new().map_request(|request: Request<_>| request.map(boxed)).service(wire);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

pub(crate) const EACH: [(Version, Encoding); 4] = [
    (Version::Http1, Encoding::Binary),
    (Version::Http1, Encoding::Json),
    (Version::Http2, Encoding::Binary),
    (Version::Http2, Encoding::Json),
];

/// hyper's client, which takes each request to where its URI says.
pub(crate) fn connection(version: Version) -> Wire {
    let client = Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .http2_only(version == Version::Http2)
        .build_http::<Body>();
    let service = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(boxed))
        .map_err(Failure::new)
        .service(client);
    BoxCloneSyncService::new(service)
}

// ---- bodies ----

pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    body.map_err(Failure::new).boxed()
}

pub(crate) fn empty() -> Body {
    boxed(Empty::new())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    boxed(Full::new(bytes.into()))
}

/// The far end of a body that is made while it is read.
pub(crate) struct Tap(mpsc::UnboundedSender<Result<Bytes, Failure>>);

pub(crate) fn channel() -> (Tap, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |cx| {
        receiver
            .poll_recv(cx)
            .map(|piece| piece.map(|piece: Result<Bytes, _>| piece.map(http_body::Frame::data)))
    });
    (Tap(sender), StreamBody::new(stream).boxed())
}

impl Tap {
    pub(crate) fn send(&self, piece: impl Into<Bytes>) {
        self.0.send(Ok(piece.into())).expect("the body is still there");
    }

    pub(crate) fn fail(self) {
        self.0.send(Err(Failure::new("broken"))).expect("the body is still there");
    }

    /// When the body has been dropped.
    pub(crate) async fn dropped(&self) {
        self.0.closed().await;
    }
}

/// A body that has one piece at hand at a time, and knows when it has ended.
pub(crate) fn paced<const N: usize>(pieces: [&'static str; N]) -> Paced {
    Paced { pieces: pieces.map(Bytes::from).into(), rests: false }
}

pub(crate) struct Paced {
    pieces: VecDeque<Bytes>,
    rests: bool,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Failure>>> {
        self.rests = !self.rests;
        if !self.rests {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// All of a body.
pub(crate) async fn content(body: Body) -> Result<Bytes, Failure> {
    Ok(body.collect().await?.to_bytes())
}

/// The next piece of a body; `None` at its good end.
pub(crate) async fn piece(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    Ok(body.frame().await.transpose()?.map(|frame| frame.into_data().unwrap()))
}

/// The error of this crate in which reading a body ended.
pub(crate) fn reason<T: Debug>(result: Result<T, Failure>) -> Error {
    result.unwrap_err().0.downcast_ref::<Error>().expect("an error of this crate").clone()
}
