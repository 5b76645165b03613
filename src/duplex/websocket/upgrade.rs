//! A request to upgrade among others: an axum extractor, for hyper's servers.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum_core::{body::Body, extract::FromRequestParts};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response, StatusCode, header, request::Parts};
use hyper::{
    rt::{Read as _, ReadBuf as HyperBuf, Write as _},
    upgrade::OnUpgrade,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout_at,
};
use tokio_tungstenite::tungstenite::handshake::server::create_response;

use super::{
    PROTOCOL, is_offered,
    server::{NOT_OFFERED, accept_raw},
    socket::WebSocket,
};
use crate::{
    duplex::{Acceptor, Sealed, handshake::LATE, transport_error},
    error::Result,
};

type Refusal = (StatusCode, &'static str);

/// What comes of an [`Upgrade`] once its response has been sent.
pub type Accepting = BoxFuture<'static, Result<Sealed<WebSocket<Upgraded>>>>;

/// A WebSocket request of HTTP/1.1, extracted by axum or taken from a request's parts.
///
/// ```
/// use axum::{Router, extract::State, response::{IntoResponse, Response}, routing::get};
/// use futures_util::{SinkExt as _, StreamExt as _};
/// use tower_seal::duplex::{Acceptor, websocket::Upgrade};
///
/// async fn welcome(upgrade: Upgrade, State(acceptor): State<Acceptor>) -> Response {
///     let (response, connection) = match upgrade.accept(&acceptor) {
///         Ok(accepted) => accepted,
///         Err(refusal) => return refusal.into_response(),
///     };
///     tokio::spawn(async move {
///         let (mut sender, mut receiver) = connection.await?.into_split();
///         // Of two sides that only write neither gets further, so this one goes on reading.
///         let greet = sender.send("welcome".into());
///         let listen = async {
///             while let Some(Ok(message)) = receiver.next().await {
///                 println!("{} bytes", message.len());
///             }
///         };
///         tokio::join!(greet, listen).0?;
///         sender.close().await
///     });
///     response
/// }
/// # fn f(acceptor: Acceptor) -> Router {
/// Router::new().route("/welcome", get(welcome)).with_state(acceptor)
/// # }
/// ```
#[derive(Debug)]
pub struct Upgrade {
    on: OnUpgrade,
    response: Response<()>,
    path: String,
    offered: bool,
}

impl Upgrade {
    /// Takes it from a request. Errors: the status, and the text, to answer with, for one that is no WebSocket
    /// request, or whose server does not upgrade.
    pub fn from_parts(parts: &mut Parts) -> Result<Self, Refusal> {
        let mut request = Request::new(());
        *request.method_mut() = parts.method.clone();
        *request.version_mut() = parts.version;
        *request.headers_mut() = parts.headers.clone();
        let response = create_response(&request)
            .map_err(|_| (StatusCode::BAD_REQUEST, "this is no WebSocket request\n"))?;
        let on =
            parts.extensions.remove().ok_or((StatusCode::UPGRADE_REQUIRED, "this cannot be upgraded\n"))?;
        let (path, offered) = (parts.uri.path().to_owned(), is_offered(&parts.headers));
        Ok(Upgrade { on, response, path, offered })
    }

    /// The path that the client asked for, where a router below which this is nested has cut it: axum's
    /// `OriginalUri` has it.
    #[must_use]
    pub fn at(self, path: impl Into<String>) -> Self {
        Upgrade { path: path.into(), ..self }
    }

    /// The response that has to be sent, and what comes of it afterwards, which is to be awaited in a task.
    ///
    /// Errors: the answer to who does not offer `tower-seal.v1`, or when far too many handshakes are unfinished. Those of the future are those of
    /// [`accept`](crate::duplex::accept).
    pub fn accept(mut self, acceptor: &Acceptor) -> Result<(Response<Body>, Accepting), Refusal> {
        self.offered &= !acceptor.config().is_plaintext();
        if self.offered {
            self.response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        } else if !acceptor.takes_plaintext() {
            acceptor.count(NOT_OFFERED);
            return Err((StatusCode::BAD_REQUEST, "this needs the subprotocol tower-seal.v1\n"));
        }
        let busy = |_| (StatusCode::SERVICE_UNAVAILABLE, "too many handshakes are unfinished\n");
        let place = acceptor.place().map_err(busy)?;
        let acceptor = acceptor.clone();
        let connection = async move {
            let upgraded = timeout_at(place.until, self.on).await.map_err(|_| acceptor.count(LATE))?;
            let io = Upgraded { io: upgraded.map_err(transport_error)? };
            accept_raw(place, io, &acceptor, &self.path, self.offered).await
        };
        Ok((self.response.map(|()| Body::empty()), connection.boxed()))
    }
}

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Upgrade::from_parts(parts)
    }
}

/// The bytes of an HTTP connection after its upgrade.
#[derive(Debug)]
pub struct Upgraded {
    io: hyper::upgrade::Upgraded,
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut part = HyperBuf::new(buf.initialize_unfilled());
        ready!(Pin::new(&mut self.io).poll_read(cx, part.unfilled()))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
