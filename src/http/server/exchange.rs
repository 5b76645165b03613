//! One sealed request and its sealed response.

use std::{sync::Arc, time::Duration};

use ::http::{
    Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, response,
    uri::{Authority, PathAndQuery},
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
        message, note_session, now, rng,
        source::{Pieces, Source},
    },
    protocol::{Draft, Final, Offered, Plaintext, Record, Sealer, Subject},
    signing::Signing,
    telemetry,
    trust::Verified,
};

/// Reads, opens, compares, claims; calls the service; seals: in this order.
///
/// One flat future, since every request has one, and what is nested is in it twice.
pub(super) fn serve<S, B, R>(
    shared: Arc<Shared>,
    mut inner: S,
    request: Request<B>,
    encoding: Encoding,
    is_traced: bool,
) -> impl Future<Output = std::result::Result<Response<SealBody<R>>, S::Error>>
where
    S: Service<Request<OpenBody<B>>, Response = Response<R>>,
    B: Body,
    B::Error: Into<BoxError>,
    R: Body,
    R::Error: Into<BoxError>,
{
    let limits = shared.options.config.bounds();
    let page = shared.page(request.headers());
    let (parts, body) = request.into_parts();
    let outer = Outer { uri: parts.uri, version: parts.version, extensions: parts.extensions };
    let mut frames = Frames::new(body, encoding, limits.record, limits.stall);
    // Blocks end where their variables would else be kept until the response is there.
    async move {
        let (request, mut sealer, failure, subject) = {
            let record = first_record(&mut frames, shared.options.config.bounds().handshake).await;
            match record.and_then(|record| open(&shared, outer, frames, record)) {
                Ok((Taken { request, caller, response, failure }, subject)) => {
                    // Where our span is off, the present one is somebody else's.
                    if is_traced {
                        note_session(&Span::current(), caller.session(), caller.node_id());
                    }
                    (request, response, failure, subject)
                }
                Err((error, subject)) => return Ok(shared.refuse(error, subject.as_ref(), page)),
            }
        };
        let (source, draft, last) = {
            let (head, body) = inner.call(request).await?.into_parts();
            let mut source = Source::new(body);
            let content = source.at_hand().await;
            // The service may have answered a request whose later records were forged: that answer counts for nothing.
            let found = failure.as_ref().and_then(|failure| failure.found());
            match found.map_or_else(|| seal(head, content, &source, &mut sealer), Err) {
                Ok((draft, last)) => (source, draft, last),
                Err(error) => return Ok(shared.refuse(error, Some(&subject), page)),
            }
        };
        Ok(match Signing::new(&shared.options.config, draft.leaf()).await {
            Ok(proof) => {
                let first = draft.write(proof.as_ref());
                let rest = (last == Final::No).then(|| Sealing::new(source, sealer, failure));
                let mut response = Response::new(SealBody::records(first, rest));
                // Nothing else of the inner response: its extensions may hold words for the outer status line.
                response.headers_mut().insert(header::CONTENT_TYPE, Content::Records(encoding).media_type());
                shared.add_outer_fields(response.headers_mut(), page);
                response
            }
            Err(error) => shared.refuse(error, Some(&subject), page),
        })
    }
}

/// What is still of use of the outer request's head.
struct Outer {
    uri: Uri,
    version: Version,
    extensions: Extensions,
}

/// The first record; where it says that it is the last one too, the end of the body after it.
async fn first_record<B>(frames: &mut Frames<B>, limit: Duration) -> Result<Record, (Error, Option<Subject>)>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let record = match timeout(limit, std::future::poll_fn(|cx| frames.poll_record(cx))).await {
        Ok(Ok(Some(record))) => record,
        Ok(Ok(None)) => return Err((Error::new(Code::Truncated, "a request without a record"), None)),
        Ok(Err(error)) => return Err((error, None)),
        Err(_) => return Err((Error::TimedOut { waiting_for: "the first record" }, None)),
    };
    if record.is_final() && !frames.is_at_end() {
        let end = Box::pin(timeout(limit, std::future::poll_fn(|cx| frames.poll_end(cx)))).await;
        let end = end.unwrap_or(Err(Error::TimedOut { waiting_for: "the end of the request" }));
        if let Err(error) = end {
            return Err((error, Subject::of(record)));
        }
    }
    Ok(record)
}

/// A request that is to be served now.
struct Taken<B> {
    request: Request<OpenBody<B>>,
    caller: Verified,
    response: Sealer,
    /// Where more records are to come.
    failure: Option<Arc<Failure>>,
}

/// Opens; then compares and claims.
fn open<B>(
    shared: &Shared,
    outer: Outer,
    frames: Frames<B>,
    record: Record,
) -> Result<(Taken<B>, Subject), (Error, Option<Subject>)>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let (offered, subject) = shared.responder.open(record, now())?;
    match take(&shared.options, outer, frames, offered) {
        Ok(taken) => Ok((taken, subject)),
        Err(error) => Err((error, Some(subject))),
    }
}

/// Compares and claims.
fn take<B>(options: &Options, outer: Outer, mut frames: Frames<B>, offered: Offered) -> Result<Taken<B>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let limits = options.config.bounds();
    let (head, content) = message::decode_request(offered.plaintext(), limits.head)?;
    let budget = Budget::new(limits.body, &content)?;
    let uri = inner_uri(options, &head.authority, head.path, &outer.uri)?;
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
    *request.headers_mut() = inner_headers(options, head.headers, head.host);
    *request.extensions_mut() = outer.extensions;
    request.extensions_mut().insert(claimed.caller);
    request.extensions_mut().insert(head.scheme);
    Ok(Taken { request, caller: claimed.caller, response: claimed.response, failure })
}

/// The inner path, less the stripped prefix, which must be the outer path byte for byte.
fn inner_uri(options: &Options, authority: &Authority, path: PathAndQuery, outer: &Uri) -> Result<Uri> {
    const MISMATCH: Error = Error::new(Code::PathMismatch, "the inner path is not the outer one");
    if let Some(served) = &options.authorities {
        // `Authority` compares without regard to case.
        if !served.contains(authority) {
            return Err(Error::new(Code::PathMismatch, "the inner authority is not served here"));
        }
    }
    let Some(stripped) = path.as_str().strip_prefix(&options.prefix) else {
        return Err(MISMATCH);
    };
    let path: PathAndQuery = match stripped.as_bytes().first() {
        Some(b'/') if options.prefix.is_empty() => path,
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
fn inner_headers(options: &Options, mut headers: HeaderMap, host: HeaderValue) -> HeaderMap {
    message::strip_infrastructure(&mut headers, &options.infrastructure);
    headers.insert(header::HOST, host);
    headers
}

/// The response's head, and what content is at hand, leave at once, as the first record.
fn seal<R>(
    head: response::Parts,
    content: Pieces,
    source: &Source<R>,
    sealer: &mut Sealer,
) -> Result<(Draft, Final)>
where
    R: Body,
    R::Error: Into<BoxError>,
{
    let length = content.iter().map(Bytes::len).sum::<usize>() + message::usual_head(&head.headers);
    let mut plaintext = Plaintext::with_capacity(length);
    let mut last = if source.is_ended() { Final::Yes } else { Final::No };
    let encoded = message::encode_response(head.status, &head.headers, &content, plaintext.buffer());
    if encoded.is_err() || plaintext.len() > PORTABLE_RECORD {
        tracing::warn!(
            target: telemetry::TARGET,
            status = head.status.as_u16(), length = plaintext.len(),
            "a response that cannot be carried: the caller gets 500"
        );
        // A status that cannot be carried, or a head that no record has room for. The caller gets an error,
        // and nothing else of it.
        plaintext = Plaintext::with_capacity(64);
        let (status, headers) = (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new());
        message::encode_response::<Bytes>(status, &headers, &[], plaintext.buffer())?;
        last = Final::Yes;
    }
    Ok((sealer.draft(plaintext, last, now())?, last))
}
