//! Tower layers that seal HTTP (PROTOCOL section 7): [`SealLayer`] before any client, [`UnsealLayer`]
//! before any server.
//!
//! ```text
//!  POST /mcp?x=1               POST /mcp                              POST /mcp?x=1
//!  authorization: …   Seal     content-type: application/vnd.tower-seal   Unseal   authorization: …
//!  {"jsonrpc":…}     ──────>   <records>                             ───────>   {"jsonrpc":…}
//!                                   whoever stands here sees the path and the sizes
//! ```
//!
//! Method, query, header fields, status and content travel inside records; what stands outside is a `POST`
//! to the same path. Bodies stream in both directions: what the inner body yields goes out as a record at
//! once. Dropping an outer body drops the inner one.
//!
//! `UnsealLayer` wraps a whole service: `UnsealLayer::new(config).layer(router)`. Inside
//! `axum::Router::layer` it comes *after* routing, and what is routed is the outer `POST`; use it there only
//! around services that take every method, such as rmcp's. Typed extensions of the outer request stay, and some
//! speak of it: axum's `OriginalUri` and `MatchedPath` do, so do not decide by them below this layer.
//!
//! A request whose content is not all at hand when it is called, or is above 256 KiB, streams, and so is never
//! sent twice. Trailers are not carried.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, routing::get};
//! use http_body_util::BodyExt as _;
//! use tower::{Layer as _, ServiceExt as _};
//! use tower_seal::{Config, Identity, http::{SealLayer, UnsealLayer}, trust::Pinned};
//!
//! let (server, client) = (Identity::generate(), Identity::generate());
//! let (server_id, client_id) = (server.node_id(), client.node_id());
//!
//! let app = Router::new().route("/hello", get(|| async { "hi" }));
//! let sealed = UnsealLayer::new(Config::new(server, Pinned::new([client_id]))).layer(app);
//!
//! // Any HTTP client in place of `sealed`: hyper-util's, reqwest's, this very service.
//! let http = SealLayer::new(Config::new(client, Pinned::new([server_id]))).layer(sealed);
//! let response = http.oneshot(http::Request::get("http://example.com/hello").body(Body::empty())?).await?;
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "hi");
//! # Ok(()) }
//! ```

mod body;
mod client;
#[cfg(test)]
mod exhausted;
mod frames;
mod message;
mod rejection;
mod server;
mod sessions;
mod source;

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "reqwest")]
mod reqwest;

use std::borrow::Cow;

use ::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    config::Encoding,
    shell::{note_session, now, rng},
};

pub use crate::not_sent::NotSent;
pub use body::{OpenBody, SealBody};
pub use client::{Seal, SealLayer};
pub use rejection::Rejection;
#[cfg(feature = "reqwest")]
pub use reqwest::Reqwest;
pub use server::{Cors, Unseal, UnsealLayer};

/// Media types of the HTTP binding. Checked when they are compiled, for they are in every message.
const HANDSHAKE: HeaderValue = HeaderValue::from_static("application/vnd.tower-seal.handshake+json");
const BINARY: HeaderValue = HeaderValue::from_static("application/vnd.tower-seal");
const JSON: HeaderValue = HeaderValue::from_static("application/vnd.tower-seal+json");
const ERROR: HeaderValue = HeaderValue::from_static("application/vnd.tower-seal.error+json");

/// A hint for load balancers; the body decides.
const SEAL_SESSION: HeaderName = HeaderName::from_static("seal-session");

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a body holds, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Handshake,
    Records(Encoding),
    Error,
}

impl Content {
    fn of(headers: &HeaderMap) -> Option<Self> {
        const ALL: [Content; 4] = [
            Content::Records(Encoding::Binary),
            Content::Records(Encoding::Json),
            Content::Handshake,
            Content::Error,
        ];
        let value = headers.get(header::CONTENT_TYPE)?;
        // First as this crate writes it.
        ALL.into_iter().find(|content| value == content.media_type()).or_else(|| {
            let essence = value.to_str().ok()?.split(';').next().unwrap_or_default().trim().as_bytes();
            ALL.into_iter().find(|content| essence.eq_ignore_ascii_case(content.media_type().as_bytes()))
        })
    }

    fn media_type(self) -> HeaderValue {
        match self {
            Content::Handshake => HANDSHAKE,
            Content::Records(Encoding::Binary) => BINARY,
            Content::Records(Encoding::Json) => JSON,
            Content::Error => ERROR,
        }
    }
}

/// The name as many an application sees it: CGI and its heirs (RFC 3875 section 4.1.18) know no difference
/// between `-` and `_`.
pub(crate) fn with_hyphens(name: &HeaderName) -> Cow<'_, str> {
    match name.as_str() {
        name if name.contains('_') => Cow::Owned(name.replace('_', "-")),
        name => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(value: &'static str) -> Option<Content> {
        of(HeaderValue::from_static(value))
    }

    fn of(value: HeaderValue) -> Option<Content> {
        Content::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
    }

    /// RFC 9110 section 8.3.1: neither case nor parameters make another type of it.
    #[test]
    fn media_types_in_any_spelling() {
        let binary = Some(Content::Records(Encoding::Binary));
        for value in
            ["application/vnd.tower-seal", "Application/VND.Tower-Seal", "application/vnd.tower-seal ; a=b"]
        {
            assert_eq!(content(value), binary, "{value}");
        }
        assert_eq!(of(JSON), Some(Content::Records(Encoding::Json)));
        assert_eq!(of(HANDSHAKE), Some(Content::Handshake));
        assert_eq!(of(ERROR), Some(Content::Error));
        for value in ["", "application/vnd.tower-seal.", "application/vnd.tower-seal+xml", "text/plain"] {
            assert_eq!(content(value), None, "{value}");
        }
        assert_eq!(Content::of(&HeaderMap::new()), None);
        for content in [Content::Handshake, Content::Error]
            .into_iter()
            .chain([Encoding::Binary, Encoding::Json].map(Content::Records))
        {
            assert_eq!(of(content.media_type()), Some(content));
        }
    }
}
