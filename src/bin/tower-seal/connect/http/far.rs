//! Requests to the MCP endpoint, through the seal.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tower_layer::Layer as _;
use tower_seal::{
    Config, Error,
    http::{OpenBody, Seal, SealLayer},
    mcp::Repeatable,
};
use tower_service::Service as _;

use crate::{
    connect::fault::{Fault, reasons},
    problem,
    spell::Spell,
    upstream,
    whom::FarSide,
};

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Bytes of a JSON answer, as rmcp has it.
pub(super) const LONGEST_ANSWER: usize = 16 << 20;
/// Bytes of the body of a refusal.
pub(super) const LONGEST_REFUSAL: usize = 64 << 10;

pub(super) type Body = OpenBody<Incoming>;

/// What tells a server which client asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) id: Option<HeaderValue>,
    /// As agreed upon, in the era that has sessions.
    pub(super) version: Option<HeaderValue>,
}

/// The MCP endpoint. Cheap to clone.
#[derive(Clone)]
pub(super) struct Far {
    seal: Seal<upstream::Http>,
    url: Uri,
    far_side: Arc<FarSide>,
    /// What the server sends that is of no use.
    bad: Arc<Mutex<Spell>>,
}

/// Why there is no event stream.
pub(super) enum Unheard {
    /// The server has none, or not for this side.
    Never,
    /// The server does not know the session.
    Expired,
    /// Perhaps later.
    Now,
}

impl Far {
    pub(super) fn new(config: Config, http: upstream::Http, url: Uri, far_side: FarSide) -> Self {
        // What can do no harm is sent again when the far side has lost the session of the seal.
        let seal = SealLayer::new(config).repeat_if(Repeatable::new().into_predicate()).layer(http);
        Far { seal, url, far_side: Arc::new(far_side), bad: Arc::default() }
    }

    fn request(
        &self,
        method: Method,
        accept: HeaderValue,
        session: &Session,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.url.clone();
        let fields = request.headers_mut();
        fields.insert(ACCEPT, accept);
        for (name, value) in [(SESSION_ID, &session.id), (PROTOCOL_VERSION, &session.version)] {
            if let Some(value) = value {
                fields.insert(name, value.clone());
            }
        }
        request
    }

    /// A POST of a message.
    pub(super) fn post(&self, session: &Session, message: Bytes) -> Request<Full<Bytes>> {
        let mut request = self.request(Method::POST, BOTH, session, message);
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        request
    }

    /// Opens an event stream, after the event `last` where there is one.
    pub(super) async fn listen(&self, session: &Session, last: Option<&str>) -> Result<Body, Unheard> {
        let mut request = self.request(Method::GET, EVENT_STREAM, session, Bytes::new());
        if let Some(last) = last.and_then(|last| HeaderValue::from_str(last).ok()) {
            request.headers_mut().insert(LAST_EVENT_ID, last);
        }
        let response = self.send(request).await.map_err(|error| {
            tracing::debug!(url = self.far_side.url, error = %error, "no event stream");
            Unheard::Now
        })?;
        match response.status() {
            status if status.is_success() && is(&response, &EVENT_STREAM) => Ok(response.into_body()),
            StatusCode::NOT_FOUND => Err(Unheard::Expired),
            status @ StatusCode::BAD_REQUEST => {
                let body = self.read(response.into_body(), LONGEST_REFUSAL, true).await.unwrap_or_default();
                Err(if is_of_no_session(status, &body) { Unheard::Expired } else { Unheard::Never })
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Unheard::Now),
            status if status.is_server_error() => Err(Unheard::Now),
            _ => Err(Unheard::Never),
        }
    }

    /// Whether what is of no use is the first such thing for some time.
    pub(super) fn bad_begins(&self) -> bool {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner).begins(Instant::now())
    }

    /// Ends the session, which a server may refuse.
    pub(super) async fn delete(&self, session: &Session) {
        let request = self.request(Method::DELETE, BOTH, session, Bytes::new());
        match self.send(request).await {
            Ok(response) => tracing::debug!(status = %response.status(), "the session was ended"),
            Err(error) => tracing::debug!(error = %error, "the session was not ended"),
        }
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        // It is always ready: so is the client below it.
        self.seal.clone().call(request).await
    }

    /// What `proxy` would say.
    pub(super) fn fault(&self, error: &Error) -> Fault {
        tracing::warn!(url = self.far_side.url, error = reasons(error), "a request failed");
        let (name, message) = self.far_side.explain(error);
        Fault::new(name, message)
    }

    /// The same of a request that may have been served.
    pub(super) fn fault_unknown(&self, error: &Error) -> Fault {
        tracing::warn!(url = self.far_side.url, error = reasons(error), "a request failed");
        let (name, message) = problem::explain_unknown(error, &self.far_side.url);
        Fault::new(name, message)
    }

    /// There is no answer to a request that the server has had.
    pub(super) fn unanswered(&self, what: &str, is_harmless: bool) -> Fault {
        if is_harmless {
            self.own("connection_lost", &format!("{what}. Try again."))
        } else {
            self.own("outcome_unknown", &format!("{what}. Look whether it was done before you repeat it."))
        }
    }

    /// A fault of the server's own, with the code of the tool's, or the status.
    pub(super) fn own(&self, name: &str, what: &str) -> Fault {
        Fault::new(name, format!("{}: {what}", self.far_side.url))
    }

    /// A refusal that is no JSON-RPC.
    pub(super) fn status(&self, status: StatusCode, text: &str) -> Fault {
        /// As `serve` answers by itself, and as the layer does in plaintext.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Serve { error: Words },
            Layer(Words),
        }
        #[derive(Deserialize)]
        struct Words {
            code: String,
            message: String,
        }
        if let Ok(Said::Serve { error: words } | Said::Layer(words)) = serde_json::from_str(text) {
            let remedy = match &*words.code {
                "encryption_required" => " Leave --plaintext out here.",
                _ => "",
            };
            return Fault::new(&words.code, format!("{}: {}{remedy}", self.far_side.url, words.message));
        }
        let remedy = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "The server wants a right that is not given here."
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                "Check the path in the URL: it is that of the MCP endpoint, often /mcp."
            }
            StatusCode::TOO_MANY_REQUESTS => "Try again later.",
            _ => "See the log of the server.",
        };
        let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        let text = if text.is_empty() { text } else { format!(" ({text})") };
        self.own("http_status", &format!("the server answered with HTTP {status}{text}. {remedy}"))
    }

    /// The whole of an answer, of so many bytes at most.
    pub(super) async fn read(&self, body: Body, most: usize, is_harmless: bool) -> Result<Bytes, Fault> {
        match Limited::new(body, most).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast::<Error>() {
                Ok(error) if is_harmless => self.fault(&error),
                Ok(error) => self.fault_unknown(&error),
                Err(_) => self.own("too_large", &format!("the server's answer has more than {most} bytes.")),
            }),
        }
    }
}

/// Whether an answer says that the server does not know the session: with 404, as it should, or with 400, as the
/// reference servers do after a restart.
pub(super) fn is_of_no_session(status: StatusCode, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        error: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        #[allow(dead_code, reason = "that it is a number makes it one of JSON-RPC")]
        code: i64,
        message: String,
    }
    let says_so = |refusal: Refusal| refusal.error.message.to_ascii_lowercase().contains("session");
    match status {
        StatusCode::NOT_FOUND => true,
        StatusCode::BAD_REQUEST => serde_json::from_slice(body).is_ok_and(says_so),
        _ => false,
    }
}

/// Whether an answer is of this media type.
fn is(response: &Response<Body>, kind: &HeaderValue) -> bool {
    media_type(response).is_some_and(|found| found.eq_ignore_ascii_case(kind.as_bytes()))
}

pub(super) fn is_event_stream(response: &Response<Body>) -> bool {
    is(response, &EVENT_STREAM)
}

pub(super) fn is_json(response: &Response<Body>) -> bool {
    is(response, &JSON)
}

fn media_type(response: &Response<Body>) -> Option<&[u8]> {
    let value = response.headers().get(CONTENT_TYPE)?.as_bytes();
    value.split(|&byte| byte == b';').next().map(<[u8]>::trim_ascii)
}
