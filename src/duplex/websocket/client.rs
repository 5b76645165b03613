//! The client's side.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_tungstenite::{client_async_with_config, tungstenite::client::IntoClientRequest as _};

use super::{
    PROTOCOL,
    gauge::Gauge,
    settings,
    socket::{WebSocket, websocket_error},
    tls::{self, Socket},
};
use crate::{
    config::Config,
    duplex::{Sealed, handshake::LATE},
    error::{Error, Result},
    identity::NodeId,
    protocol::Destination,
};

/// The transport of a client's connection: TCP, or TLS over it.
pub type ClientSocket = WebSocket<Box<dyn Socket>>;

/// What a client says beside the URL.
#[derive(Clone, Default)]
pub struct Options {
    audience: Option<NodeId>,
    headers: HeaderMap,
    tls: Option<Arc<ClientConfig>>,
}

impl Options {
    /// Whatever node the trust policy accepts there; the system's certificate authorities for `wss`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The node that has to answer.
    #[must_use]
    pub fn audience(self, node: NodeId) -> Self {
        Options { audience: Some(node), ..self }
    }

    /// A header field of the request to upgrade, which everybody on the way can read, such as one that a gateway
    /// asks for.
    #[must_use]
    pub fn outer_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// How to speak TLS, for `wss`.
    #[must_use]
    pub fn tls(self, config: Arc<ClientConfig>) -> Self {
        Options { tls: Some(config), ..self }
    }
}

/// Connects to a `ws://` or `wss://` URL, and shakes hands. The hello's target is its path without the query.
///
/// Errors: `Misuse` for a URL that is none of these; `Transport`; `Unsealed` for a server that does not upgrade, or
/// not to `tower-seal.v1`; otherwise as [`connect`](crate::duplex::connect). Each of the two handshakes may take
/// [`Limits::handshake`](crate::config::Limits::handshake).
pub async fn connect(url: &str, config: &Config, options: &Options) -> Result<Sealed<ClientSocket>> {
    let place = Place::parse(url)?;
    let limits = config.bounds();
    let upgrade = async {
        let tls = match &options.tls {
            _ if !place.secure => None,
            Some(tls) => Some(tls.clone()),
            None => Some(tls::system().await?),
        };
        let socket = Gauge::new(tls::dial(&place.host, place.port, tls).await?);
        let request = place.request(config, options)?;
        client_async_with_config(request, socket, Some(settings(limits))).await.map_err(websocket_error)
    };
    let (stream, _) = timeout(limits.handshake, upgrade).await.unwrap_or(Err(LATE))?;
    let target = place.uri.path();
    let destination =
        Destination { origin: Some(&place.origin), audience: options.audience, target: Some(target) };
    let sealed = crate::duplex::connect(WebSocket::new(stream, limits), config, destination).await?;
    sealed.adjust(WebSocket::open);
    Ok(sealed)
}

/// Where a URL leads.
struct Place {
    uri: Uri,
    secure: bool,
    host: String,
    port: u16,
    origin: String,
}

impl Place {
    fn parse(url: &str) -> Result<Self> {
        const NONE: Error = Error::Misuse { reason: "this is no ws:// or wss:// URL" };
        let uri: Uri = url.parse().map_err(|_| NONE)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NONE);
        };
        let secure = match scheme {
            "ws" => false,
            "wss" => true,
            _ => return Err(NONE),
        };
        if authority.as_str().contains('@') {
            return Err(Error::Misuse { reason: "a URL without user and password" });
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host = authority.host().to_ascii_lowercase();
        // However it is written, it is one origin to whoever remembers it.
        let origin = match authority.port_u16() {
            Some(port) if port != (if secure { 443 } else { 80 }) => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        };
        Ok(Place { uri, secure, host, port, origin })
    }

    fn request(&self, config: &Config, options: &Options) -> Result<Request<()>> {
        let mut request = self.uri.clone().into_client_request().map_err(websocket_error)?;
        for (name, value) in &options.headers {
            request.headers_mut().append(name, value.clone());
        }
        if !config.is_plaintext() {
            request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
        }
        Ok(request)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("audience", &self.audience).finish_non_exhaustive()
    }
}
