//! One sealed request and its sealed response.

use std::sync::Arc;

use ::http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, request, uri::PathAndQuery,
};
use bytes::Bytes;
use http_body::Body;
use tokio::time::timeout;
use tower_service::Service;
use tracing::Span;

use super::{Options, Shared};
use crate::{
    config::{Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    http::{
        BoxError, Content,
        body::{Budget, Failure, OpenBody, Opening, SealBody, Sealing},
        frames::Frames,
        message::{self, RequestHead},
        note_session, now, rng,
        source::Source,
    },
    protocol::{Final, Offered, Plaintext, Sealer, Subject},
    trust::Verified,
};

pub(super) async fn serve<S, B, R>(
    shared: &Shared,
    mut inner: S,
    request: Request<B>,
    encoding: Encoding,
    span: &Span,
) -> std::result::Result<Response<SealBody<R>>, S::Error>
where
    S: Service<Request<OpenBody<B>>, Response = Response<R>>,
    B: Body,
    B::Error: Into<BoxError>,
    R: Body,
    R::Error: Into<BoxError>,
{
    let (exchange, subject) = match open(shared, request, encoding).await {
        Ok(opened) => opened,
        Err((error, subject)) => return Ok(shared.refuse(error, subject.as_ref())),
    };
    note_session(span, exchange.caller.session(), exchange.caller.node_id());
    let response = inner.call(exchange.request).await?;
    let sealed = seal(response, exchange.response, encoding, exchange.failure).await;
    Ok(sealed.unwrap_or_else(|error| shared.refuse(error, Some(&subject))))
}

/// A request that is to be served now.
struct Exchange<B> {
    request: Request<OpenBody<B>>,
    caller: Verified,
    response: Sealer,
    /// Where more records are to come.
    failure: Option<Arc<Failure>>,
}

/// Reads, opens, compares, claims, in this order.
async fn open<B>(
    shared: &Shared,
    request: Request<B>,
    encoding: Encoding,
) -> Result<(Exchange<B>, Subject), (Error, Option<Subject>)>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let limits = shared.options.config.bounds();
    let (outer, body) = request.into_parts();
    let mut frames = Frames::new(body, encoding, limits.record, limits.stall);
    let record = timeout(limits.handshake, std::future::poll_fn(|cx| frames.poll_record(cx))).await;
    let record = record
        .unwrap_or(Some(Err(Error::TimedOut { waiting_for: "the first record" })))
        .unwrap_or(Err(Error::new(Code::Truncated, "a request without a record")))
        .map_err(|error| (error, None))?;
    let (offered, subject) = shared.responder.open(record, now())?;
    match take(shared, outer, frames, offered).await {
        Ok(exchange) => Ok((exchange, subject)),
        Err(error) => Err((error, Some(subject))),
    }
}

async fn take<B>(
    shared: &Shared,
    outer: request::Parts,
    mut frames: Frames<B>,
    offered: Offered,
) -> Result<Exchange<B>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let options = &shared.options;
    let limits = options.config.bounds();
    if offered.last() == Final::Yes && !frames.is_at_end() {
        let end = timeout(limits.handshake, std::future::poll_fn(|cx| frames.poll_end(cx))).await;
        end.unwrap_or(Err(Error::TimedOut { waiting_for: "the end of the request" }))?;
    }
    let (head, content) = message::decode_request(offered.plaintext(), limits.head)?;
    let budget = Budget::new(limits.body, &content)?;
    let uri = inner_uri(options, &head, &outer.uri)?;
    let claimed = offered.claim(true, &mut rng(), now())?;

    let failure = claimed.rest.is_some().then(|| Arc::new(Failure::new(options.config.clone(), false)));
    let rest = claimed.rest.map(|opener| {
        frames.never_rest();
        Opening { frames, opener, budget, failure: failure.clone() }
    });
    let mut request = Request::new(OpenBody::records(content, rest));
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.version_mut() = outer.version;
    *request.headers_mut() = inner_headers(options, head.headers, head.authority.as_str())?;
    *request.extensions_mut() = outer.extensions;
    request.extensions_mut().insert(claimed.caller);
    request.extensions_mut().insert(head.scheme);
    Ok(Exchange { request, caller: claimed.caller, response: claimed.response, failure })
}

/// The inner path, less the stripped prefix, which must be the outer path byte for byte.
fn inner_uri(options: &Options, head: &RequestHead, outer: &Uri) -> Result<Uri> {
    const MISMATCH: Error = Error::new(Code::PathMismatch, "the inner path is not the outer one");
    if let Some(served) = &options.authorities {
        // `Authority` compares without regard to case.
        if !served.contains(&head.authority) {
            return Err(Error::new(Code::PathMismatch, "the inner authority is not served here"));
        }
    }
    let stripped = head.path.as_str().strip_prefix(&options.prefix).ok_or(MISMATCH)?;
    let path: PathAndQuery = match stripped.as_bytes().first() {
        Some(b'/') if options.prefix.is_empty() => head.path.clone(),
        Some(b'/') => stripped.parse().map_err(|_| MISMATCH)?,
        Some(b'?') | None => format!("/{stripped}").parse().map_err(|_| MISMATCH)?,
        // The prefix ended within a segment.
        Some(_) => return Err(MISMATCH),
    };
    let outer = if outer.path().is_empty() { "/" } else { outer.path() };
    // What stripping leaves begins with one slash too.
    if path.path() != outer || path.path().starts_with("//") {
        return Err(MISMATCH);
    }
    Ok(Uri::from(path))
}

/// The inner fields, without those that infrastructure sets, and with the inner authority as host.
fn inner_headers(options: &Options, mut headers: HeaderMap, authority: &str) -> Result<HeaderMap> {
    message::strip_infrastructure(&mut headers, &options.infrastructure);
    let host =
        HeaderValue::from_str(authority).map_err(|_| Error::malformed("an authority that is no host"))?;
    headers.insert(header::HOST, host);
    Ok(headers)
}

/// The response's head, and what content is at hand, leave at once.
async fn seal<R>(
    response: Response<R>,
    mut sealer: Sealer,
    encoding: Encoding,
    failure: Option<Arc<Failure>>,
) -> Result<Response<SealBody<R>>>
where
    R: Body,
    R::Error: Into<BoxError>,
{
    let (inner, body) = response.into_parts();
    let mut source = Source::new(body);
    let pieces = source.at_hand().await;
    // The service may have answered a request whose later records were forged: that answer counts for nothing.
    if let Some(error) = failure.as_ref().and_then(|failure| failure.found()) {
        return Err(error.clone());
    }
    let content: usize = pieces.iter().map(Bytes::len).sum();
    let mut plaintext = Plaintext::with_capacity(content + 1024);
    let mut last = if source.is_ended() { Final::Yes } else { Final::No };
    let encoded = message::encode_response(inner.status, &inner.headers, &pieces, plaintext.buffer());
    if encoded.is_err() || plaintext.len() > PORTABLE_RECORD {
        // A status that cannot be carried, or a head that no record has room for. The caller gets an error,
        // and nothing else of it.
        plaintext = Plaintext::with_capacity(64);
        let (status, headers) = (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
        message::encode_response::<Bytes>(status, &headers, &[], plaintext.buffer())?;
        last = Final::Yes;
    }
    let first = sealer.seal(plaintext, last, now())?;
    let rest = (last == Final::No).then_some(Sealing { source, sealer, failure });
    let mut response = Response::new(SealBody::records(first, rest));
    response.headers_mut().insert(header::CONTENT_TYPE, Content::Records(encoding).header());
    // Nothing else of the inner response: among its extensions there may be words for the outer status line.
    Ok(response)
}
