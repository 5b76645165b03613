//! The server's side.

use http::{Response, StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout_at,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{handshake::server::Request, protocol::Role},
};

use super::{
    PROTOCOL,
    gauge::Gauge,
    is_offered, settings,
    socket::{WebSocket, websocket_error},
};
use crate::{
    duplex::{Acceptor, Sealed, acceptor::accept_in, handshake::LATE, places::Place},
    error::{Error, Result},
};

/// Answers a request to upgrade on a socket that has just been accepted, and shakes hands. What the hello names as
/// its target has to be the path of that request.
///
/// A request that does not offer `tower-seal.v1` gets 400, unless plaintext is taken.
///
/// Errors: `encryption_required` for that; otherwise as [`accept`](crate::duplex::accept). When far too many
/// handshakes are unfinished, `busy` at once, and the socket is dropped.
pub async fn accept<S>(socket: S, acceptor: &Acceptor) -> Result<Sealed<WebSocket<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let place = acceptor.place()?;
    let mut asked = None;
    #[allow(clippy::result_large_err)] // Whose type is tungstenite's.
    let callback = |request: &Request, mut response: Response<()>| {
        let offered = is_offered(request.headers()) && !acceptor.config().is_plaintext();
        if offered {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        } else if !acceptor.takes_plaintext() {
            let mut refusal = Response::new(Some("this needs the subprotocol tower-seal.v1\n".to_owned()));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            return Err(refusal);
        }
        asked = Some((request.uri().path().to_owned(), offered));
        Ok(response)
    };
    let limits = acceptor.config().bounds();
    let upgrade = accept_hdr_async_with_config(Gauge::new(socket), callback, Some(settings(limits)));
    let upgraded = timeout_at(place.until, upgrade).await;
    let stream = match upgraded.map(|upgraded| upgraded.map_err(websocket_error)) {
        Ok(Ok(stream)) => stream,
        Ok(Err(Error::Unsealed { .. })) => return Err(acceptor.count(NOT_OFFERED)),
        Ok(Err(error)) => return Err(acceptor.count(error)),
        Err(_) => return Err(acceptor.count(LATE)),
    };
    let (path, offered) = asked.unwrap_or_default();
    shake(place, WebSocket::of_stranger(stream, limits), acceptor, &path, offered).await
}

/// Shakes hands on a socket that has been upgraded already, by a request for `path` that offered
/// [`SUBPROTOCOL`](super::SUBPROTOCOL).
///
/// Errors: as [`accept`](crate::duplex::accept).
pub async fn accept_upgraded<S>(socket: S, acceptor: &Acceptor, path: &str) -> Result<Sealed<WebSocket<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let place = acceptor.place()?;
    accept_raw(place, socket, acceptor, path, true).await
}

/// `sealed` says whether the request offered the subprotocol.
pub(super) async fn accept_raw<S>(
    place: Place,
    socket: S,
    acceptor: &Acceptor,
    path: &str,
    sealed: bool,
) -> Result<Sealed<WebSocket<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = acceptor.config().bounds();
    let settings = Some(settings(limits));
    let stream = WebSocketStream::from_raw_socket(Gauge::new(socket), Role::Server, settings).await;
    shake(place, WebSocket::of_stranger(stream, limits), acceptor, path, sealed).await
}

async fn shake<S>(
    place: Place,
    socket: WebSocket<S>,
    acceptor: &Acceptor,
    path: &str,
    sealed: bool,
) -> Result<Sealed<WebSocket<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sealed = if sealed {
        accept_in(place, socket, acceptor, Some(path)).await?
    } else {
        acceptor.note_plaintext();
        Sealed::plain(socket, acceptor.config(), None)
    };
    sealed.adjust(WebSocket::open);
    Ok(sealed)
}

/// Before the hello.
impl Acceptor {
    pub(super) fn takes_plaintext(&self) -> bool {
        self.config().is_plaintext() || self.config().accepts_plaintext()
    }
}

pub(super) const NOT_OFFERED: Error =
    Error::new(crate::error::Code::EncryptionRequired, "the request does not offer tower-seal.v1");
