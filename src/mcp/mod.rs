//! MCP with rmcp: its streamable HTTP client over any Tower service, sealed or not; and both its sides over a
//! two-way connection.
//!
//! rmcp speaks MCP, and leaves HTTP to a small trait. [`HttpClient`] implements that trait once, for every
//! service from requests to responses: the client layer of [`http`](crate::http) over hyper or reqwest, a
//! stack with timeouts and metrics, or a server in the same process, as here.
//!
//! ```text
//!  rmcp  ->  HttpClient  ->  any layers, such as http::SealLayer  ->  hyper, reqwest, axum::Router
//! ```
//!
//! ```
//! use std::sync::Arc;
//!
//! use rmcp::{
//!     ServerHandler, ServiceExt,
//!     transport::streamable_http_server::{StreamableHttpService, session::local::LocalSessionManager},
//! };
//!
//! struct Server;
//!
//! impl ServerHandler for Server {}
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sessions = Arc::new(LocalSessionManager::default());
//! let service = StreamableHttpService::new(|| Ok(Server), sessions, Default::default());
//!
//! let client = ().serve(tower_seal::mcp::client(service, "http://localhost/mcp")).await?;
//! assert!(client.list_tools(None).await?.tools.is_empty());
//! client.cancel().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `serve` speaks MCP as of 2025-11-25: `initialize`, a session, and a stream of its own for what the server
//! says unasked. For MCP as of 2026-07-28, which has none of these, call rmcp's `serve_with_lifecycle` with
//! `ClientLifecycleMode::Discover`. Both pass through [`HttpClient`]. When a session of the seal is lost under
//! a request, [`Repeatable`] says whether the request may be sent again.
//!
//! Over a two-way connection, such as a WebSocket or the standard streams of a child process, there is no HTTP:
//! `transport` (with the feature `duplex`) makes a sealed connection an rmcp transport for clients and servers, and
//! [`MessageTransport`] any other. Handlers find the [`Verified`](crate::Verified) peer in their context.

mod client;
mod incoming;
mod repeat;
mod sessions;
mod transport;

#[cfg(feature = "duplex")]
mod sealed;

use std::{error::Error as StdError, fmt, sync::Arc};

use rmcp::transport::{
    StreamableHttpClientTransport,
    streamable_http_client::{
        StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
    },
};

pub use client::HttpClient;
pub use repeat::Repeatable;
#[cfg(feature = "duplex")]
pub use sealed::transport;
pub use sessions::{BindSessions, BindSessionsLayer, SessionRefused};
pub use transport::MessageTransport;

type BoxError = Box<dyn StdError + Send + Sync>;
type Failure = StreamableHttpError<HttpClientError>;

/// A transport for an rmcp client that talks to `uri` by way of `service`.
///
/// For other settings than rmcp's defaults, make the transport with
/// [`StreamableHttpClientTransport::with_client`] from an [`HttpClient`].
///
/// # Panics
///
/// Outside a tokio runtime, because rmcp starts the transport's task here.
pub fn client<S>(service: S, uri: impl Into<Arc<str>>) -> StreamableHttpClientTransport<HttpClient<S>>
where
    HttpClient<S>: StreamableHttpClient,
{
    let config = StreamableHttpClientTransportConfig::with_uri(uri);
    StreamableHttpClientTransport::with_client(HttpClient::new(service), config)
}

/// Why the service below gave no answer, or broke one off: that service's own error.
///
/// Also an error in making the request, such as a malformed address. rmcp prints this and not its
/// [`source`](StdError::source), so `Display` and `source` are those of the error within.
#[derive(Debug)]
pub struct HttpClientError(BoxError);

impl HttpClientError {
    fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// The error within, to be downcast.
    #[must_use]
    pub fn inner(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Display for HttpClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for HttpClientError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// The head and the body of an answer, read within bounds.
mod answer {
    use std::{mem, str};

    use bytes::Bytes;
    use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
    use http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
        response::Parts,
    };
    use http_body::Body;
    use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};
    use rmcp::transport::streamable_http_client::{
        AuthRequiredError, HttpStatusError, InsufficientScopeError,
    };
    use sse_stream::{Error, Sse, SseStream};

    use super::{Failure, HttpClientError};

    pub(super) const SESSION_ID: &str = "mcp-session-id";
    pub(super) const JSON: &str = "application/json";
    pub(super) const EVENT_STREAM: &str = "text/event-stream";

    pub(super) type AnswerBody = UnsyncBoxBody<Bytes, HttpClientError>;
    pub(super) type Events = BoxStream<'static, Result<Sse, Error>>;

    /// Fails on a 401 or 403 that says how to be authorised (RFC 9110, section 11.6.1; RFC 6750, section 3.1).
    pub(super) fn challenge(head: &Parts) -> Result<(), Failure> {
        let value = match (head.status, head.headers.get(WWW_AUTHENTICATE)) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(value)) => value.to_str(),
            _ => return Ok(()),
        };
        let value =
            value.map_err(|_| Failure::UnexpectedServerResponse("www-authenticate: not ASCII".into()))?;
        Err(match head.status {
            StatusCode::UNAUTHORIZED => Failure::AuthRequired(AuthRequiredError::new(value.to_owned())),
            _ => Failure::InsufficientScope(InsufficientScopeError::new(value.to_owned(), scope(value))),
        })
    }

    /// The value of `scope=` in a challenge, quoted or not.
    fn scope(challenge: &str) -> Option<String> {
        const KEY: &str = "scope=";
        let value = &challenge[challenge.to_ascii_lowercase().find(KEY)? + KEY.len()..];
        let scope = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?.0,
            None => value.split([',', ';', ' ', '\t']).next().filter(|scope| !scope.is_empty())?,
        };
        Some(scope.to_owned())
    }

    pub(super) fn status_error(head: &Parts) -> Failure {
        let after = head.headers.get(RETRY_AFTER).and_then(|value| str::from_utf8(value.as_bytes()).ok());
        HttpStatusError::new(head.status.as_u16(), after.map(str::to_owned)).into()
    }

    pub(super) fn unexpected_type(head: &Parts) -> Failure {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Failure::UnexpectedContentType(head.headers.get(CONTENT_TYPE).map(text))
    }

    pub(super) fn is(head: &Parts, media_type: &str) -> bool {
        let start = head.headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().get(..media_type.len()));
        start.is_some_and(|start| start.eq_ignore_ascii_case(media_type.as_bytes()))
    }

    pub(super) fn session_of(head: &Parts) -> Option<String> {
        head.headers.get(SESSION_ID)?.to_str().ok().map(str::to_owned)
    }

    pub(super) async fn read(body: AnswerBody, max_size: usize) -> Result<Bytes, Failure> {
        if body.size_hint().lower() > max_size as u64 {
            return Err(Failure::ResponseBodyTooLarge { max_size });
        }
        match Limited::new(body, max_size).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast::<HttpClientError>() {
                Ok(error) => Failure::Client(*error),
                Err(_) => Failure::ResponseBodyTooLarge { max_size },
            }),
        }
    }

    /// The events of `body`; the first error ends them.
    pub(super) fn events(body: AnswerBody, max_event: usize) -> Events {
        let mut size = EventSize { max: max_event, kept: 0, line: 0, comment: false, after_cr: false };
        let chunks = body.into_data_stream().map(move |chunk| match chunk? {
            chunk if size.allows(&chunk) => Ok(chunk),
            _ => Err(HttpClientError::new(format!("an SSE event has more than {max_event} bytes"))),
        });
        let events = SseStream::from_bytes_stream(chunks);
        let next = async |mut events: SseStream<_>| Ok(events.try_next().await?.map(|event| (event, events)));
        stream::try_unfold(events, next).boxed()
    }

    /// Counts what the parser keeps of an event: its lines but for comments, and the line that has no end yet.
    struct EventSize {
        max: usize,
        kept: usize,
        line: usize,
        comment: bool,
        after_cr: bool,
    }

    impl EventSize {
        fn allows(&mut self, chunk: &[u8]) -> bool {
            chunk.iter().all(|&byte| {
                match byte {
                    // CR LF is one end of a line, also when a chunk ends between them.
                    b'\n' if self.after_cr => {}
                    b'\r' | b'\n' => {
                        match mem::take(&mut self.line) {
                            0 => self.kept = 0,
                            _ if self.comment => {}
                            line => self.kept += line + 1,
                        }
                        self.comment = false;
                    }
                    _ => {
                        self.comment |= self.line == 0 && byte == b':';
                        self.line += 1;
                    }
                }
                self.after_cr = byte == b'\r';
                self.kept + self.line <= self.max
            })
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Arc;

        use http_body::Frame;
        use http_body_util::StreamBody;

        use super::*;

        fn body(chunks: impl IntoIterator<Item = &'static str>, end: Option<&'static str>) -> AnswerBody {
            let chunks: Vec<_> = chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))).collect();
            let end = end.map(|reason| Err(HttpClientError::new(reason)));
            StreamBody::new(stream::iter(chunks).chain(stream::iter(end)).map_ok(Frame::data)).boxed_unsync()
        }

        async fn data(body: AnswerBody, max_event: usize) -> String {
            let told = |event: Result<Sse, Error>| match event {
                Ok(event) => event.data.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            events(body, max_event).map(told).collect::<Vec<_>>().await.join("|")
        }

        #[tokio::test]
        async fn an_event_may_have_so_many_bytes_and_no_more() {
            let comments = || [": no more than a comment\n"; 9].into_iter();
            let lines = ["data: 1\r", "\ndata:", " 2\n", "\r\n", "data: 345\n", "\n"];
            assert_eq!(data(body(comments().chain(lines), None), 100).await, "1\n2|345");
            // `data: 1` and `data: 2`, with an end each.
            assert_eq!(data(body(lines, None), 16).await, "1\n2|345");
            let error = "body error: an SSE event has more than 15 bytes";
            assert_eq!(data(body(lines, None), 15).await, error);
            assert_eq!(data(body(["data: 12"; 2], None), 15).await, error);
        }

        #[tokio::test]
        async fn the_first_error_ends_the_events() {
            let broken = body(["data: 1\n\n", "data: 2\n"], Some("gone"));
            assert_eq!(data(broken, 99).await, "1|body error: gone");
            assert_eq!(data(body(["data: 1\n\n", "bad\n", "data: 2\n\n"], None), 99).await, "1|invalid line");
        }

        #[tokio::test]
        async fn an_event_comes_at_once_and_the_body_goes_with_its_events() {
            let held = Arc::new(());
            let watched = Arc::downgrade(&held);
            let open = stream::iter([Ok("data: 1\n\n".into())]).chain(stream::pending());
            let open = open.map_ok(move |chunk| (Frame::data(chunk), held.clone()).0);
            let mut events = events(StreamBody::new(open).boxed_unsync(), 99);
            assert!(events.next().await.is_some() && watched.upgrade().is_some());
            drop(events);
            assert!(watched.upgrade().is_none());
        }

        #[tokio::test]
        async fn other_bodies_are_read_up_to_their_bound() {
            assert_eq!(read(body(["abcd", "", "ef"], None), 6).await.ok(), Some("abcdef".into()));
            let error = read(body(["abcd", "ef"], None), 5).await;
            assert!(matches!(error, Err(Failure::ResponseBodyTooLarge { max_size: 5 })));
            let error = read(body(["abcd"], Some("gone")), 5).await;
            assert!(matches!(error, Err(Failure::Client(error)) if error.to_string() == "gone"));
        }
    }
}
