//! rmcp's streamable HTTP client over any Tower service.
//!
//! What an answer means, and every size limit, is as in rmcp's own client over reqwest, with three exceptions.
//! A GET or DELETE that does not succeed is an [`HttpStatusError`], where there it is an error of reqwest or
//! passes. A refusal whose body breaks off is the error that broke it, which may say that somebody tampered
//! with it. And the first error ends a stream of events.
//!
//! [`HttpStatusError`]: rmcp::transport::streamable_http_client::HttpStatusError

use std::{collections::HashMap, future::poll_fn, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
    response::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage},
    transport::streamable_http_client::{StreamableHttpClient, StreamableHttpPostResponse as Answer},
};
use tower_service::Service;

use super::{
    BoxError, Failure, HttpClientError,
    answer::{
        AnswerBody, EVENT_STREAM, Events, JSON, SESSION_ID, challenge, events, is, read, session_of,
        status_error, unexpected_type,
    },
};

type Fields = HashMap<HeaderName, HeaderValue>;

const LAST_EVENT_ID: &str = "last-event-id";
/// Fields that are set here, so that the caller's own ones would contradict them.
const RESERVED: [&str; 3] = ["accept", SESSION_ID, LAST_EVENT_ID];

const ACCEPTED_TYPES: HeaderValue = HeaderValue::from_static("text/event-stream, application/json");

/// Bytes of a JSON answer, and of one SSE event where rmcp names no limit.
const MAX_MESSAGE: usize = 16 << 20;
/// Bytes of the body of a refusal.
const MAX_REFUSAL: usize = 64 << 10;

/// rmcp's HTTP client over `S`, a Tower service from requests to responses.
///
/// Give it to [`StreamableHttpClientTransport::with_client`], or let [`client`](super::client()) do so. Every
/// request waits for its own clone of `S` to be ready, so that an open event stream holds up nothing else.
///
/// Events are handed on as they come: an answer of type `text/event-stream` is never collected, and dropping
/// the stream, or the future of the request, drops the response's body or the service's future. A JSON answer
/// is taken up to 16 MiB, the body of a refusal up to 64 KiB, an event up to the transport's
/// `max_sse_event_size`. Redirects are not followed and `Host` is not set: both are for the service.
///
/// [`StreamableHttpClientTransport::with_client`]: rmcp::transport::StreamableHttpClientTransport::with_client
#[derive(Clone, Debug)]
pub struct HttpClient<S> {
    service: S,
}

impl<S> HttpClient<S> {
    /// A client whose requests are answered by `service`.
    pub const fn new(service: S) -> Self {
        Self { service }
    }
}

impl<S, B> StreamableHttpClient for HttpClient<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Error = HttpClientError;

    fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        token: Option<String>,
        fields: Fields,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send + '_ {
        self.post_message_with_max_sse_event_size(uri, message, session_id, token, fields, MAX_MESSAGE)
    }

    fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        token: Option<String>,
        fields: Fields,
        max_event: usize,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send + '_ {
        let service = self.service.clone();
        async move {
            let mut request = request(Method::POST, &uri, session_id.as_deref(), token, fields)?;
            request.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(JSON));
            *request.body_mut() = serde_json::to_vec(&message).map_err(failure)?.into();
            let (head, body) = send(service, request).await?;
            let posted = Posted { message: &message, in_session: session_id.is_some() };
            posted.answer(head, body, max_event).await
        }
    }

    fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        token: Option<String>,
        fields: Fields,
    ) -> impl Future<Output = Result<Events, Failure>> + Send + '_ {
        self.get_stream_with_max_sse_event_size(uri, session_id, last_event_id, token, fields, MAX_MESSAGE)
    }

    fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        token: Option<String>,
        fields: Fields,
        max_event: usize,
    ) -> impl Future<Output = Result<Events, Failure>> + Send + '_ {
        let service = self.service.clone();
        async move {
            let mut request = request(Method::GET, &uri, session_id.as_deref(), token, fields)?;
            if let Some(id) = last_event_id {
                request.headers_mut().insert(LAST_EVENT_ID, HeaderValue::try_from(id).map_err(failure)?);
            }
            let (head, body) = send(service, request).await?;
            challenge(&head)?;
            match head.status {
                StatusCode::METHOD_NOT_ALLOWED => Err(Failure::ServerDoesNotSupportSse),
                status if !status.is_success() => Err(status_error(&head)),
                _ if is(&head, EVENT_STREAM) || is(&head, JSON) => Ok(events(body, max_event)),
                _ => Err(unexpected_type(&head)),
            }
        }
    }

    fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        token: Option<String>,
        fields: Fields,
    ) -> impl Future<Output = Result<(), Failure>> + Send + '_ {
        let service = self.service.clone();
        async move {
            let request = request(Method::DELETE, &uri, Some(&session_id), token, fields)?;
            let (head, _) = send(service, request).await?;
            match head.status {
                // A server need not let clients end sessions (MCP 2025-11-25, Transports, Session Management).
                StatusCode::METHOD_NOT_ALLOWED => Ok(()),
                status if status.is_success() => Ok(()),
                _ => Err(status_error(&head)),
            }
        }
    }
}

fn request(
    method: Method,
    uri: &str,
    session_id: Option<&str>,
    token: Option<String>,
    fields: Fields,
) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder().method(method).uri(uri).body(Full::default()).map_err(failure)?;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, ACCEPTED_TYPES);
    if let Some(token) = token {
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(failure)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    for (name, value) in fields {
        if RESERVED.contains(&name.as_str()) {
            return Err(Failure::ReservedHeaderConflict(name.to_string()));
        }
        headers.append(name, value);
    }
    if let Some(id) = session_id {
        headers.insert(SESSION_ID, HeaderValue::try_from(id).map_err(failure)?);
    }
    Ok(request)
}

async fn send<S, B>(mut service: S, request: Request<Full<Bytes>>) -> Result<(Parts, AnswerBody), Failure>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(failure)?;
    let (head, body) = service.call(request).await.map_err(failure)?.into_parts();
    Ok((head, body.map_err(HttpClientError::new).boxed_unsync()))
}

fn failure(error: impl Into<BoxError>) -> Failure {
    Failure::Client(HttpClientError::new(error))
}

/// What the meaning of an answer depends on.
struct Posted<'a> {
    message: &'a ClientJsonRpcMessage,
    in_session: bool,
}

impl Posted<'_> {
    async fn answer(self, head: Parts, body: AnswerBody, max_event: usize) -> Result<Answer, Failure> {
        challenge(&head)?;
        match head.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => return Ok(Answer::Accepted),
            StatusCode::NOT_FOUND if self.in_session => return Err(Failure::SessionExpired),
            status if !status.is_success() => return self.refusal(head, body).await,
            _ => {}
        }
        // Some servers answer with an empty 200 where only 202 is right, or with other JSON than a message.
        let wants_reply = matches!(self.message, ClientJsonRpcMessage::Request(_));
        if !wants_reply && body.size_hint().exact() == Some(0) {
            return Ok(Answer::Accepted);
        }
        if is(&head, EVENT_STREAM) {
            return Ok(Answer::Sse(events(body, max_event), session_of(&head)));
        }
        if is(&head, JSON) {
            let body = read(body, MAX_MESSAGE).await?;
            return match serde_json::from_slice(&body) {
                Ok(message) => Ok(Answer::Json(message, session_of(&head))),
                Err(_) if !wants_reply => Ok(Answer::Accepted),
                Err(error) => {
                    let start = String::from_utf8_lossy(&body[..body.len().min(256)]);
                    let reason = format!("not a JSON-RPC message: {error}: {start:?}");
                    Err(Failure::UnexpectedServerResponse(reason.into()))
                }
            };
        }
        // That a sealed or chunked body is empty is known only at its end.
        if !wants_reply && read(body, MAX_REFUSAL).await.is_ok_and(|body| body.is_empty()) {
            return Ok(Answer::Accepted);
        }
        Err(unexpected_type(&head))
    }

    /// A JSON-RPC error is an answer; every other refusal is an error of the transport.
    async fn refusal(self, head: Parts, body: AnswerBody) -> Result<Answer, Failure> {
        let (status, json) = (head.status, is(&head, JSON));
        if status == StatusCode::TOO_MANY_REQUESTS || (status.is_server_error() && !json) {
            return Err(status_error(&head));
        }
        let body = match read(body, MAX_REFUSAL).await {
            Err(Failure::ResponseBodyTooLarge { .. }) if status.is_server_error() => {
                return Err(status_error(&head));
            }
            body => body?,
        };
        let text = String::from_utf8_lossy(&body);
        let error = match serde_json::from_slice(&body) {
            Ok(ServerJsonRpcMessage::Error(error)) => Some(error),
            _ => None,
        };
        match (self.message, error) {
            _ if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {}
            // Here a client of both eras learns that the server is of the older one. It heeds only an error
            // with its request's id, which whatever stands before the server cannot know.
            (ClientJsonRpcMessage::Request(request), error)
                if matches!(request.request, ClientRequest::DiscoverRequest(_))
                    && !self.in_session
                    && status.is_client_error() =>
            {
                let error = error.map(|error| error.error).unwrap_or_else(|| {
                    ErrorData::invalid_request(format!("HTTP {status} to server/discover: {text}"), None)
                });
                let message = ServerJsonRpcMessage::error(error, Some(request.id.clone()));
                return Ok(Answer::Json(message, None));
            }
            (_, Some(error)) if json => {
                return Ok(Answer::Json(ServerJsonRpcMessage::Error(error), session_of(&head)));
            }
            _ if status.is_server_error() => return Err(status_error(&head)),
            _ => {}
        }
        Err(Failure::UnexpectedServerResponse(format!("HTTP {status}: {text}").into()))
    }
}
