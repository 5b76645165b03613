//! One request, sealed and sent, and its response, opened.

use std::sync::Arc;

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request,
    uri::Scheme,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::Body;
use tokio::time::timeout;
use tower_service::Service;
use tracing::Span;

use super::{Options, Shared};
use crate::{
    below::Below,
    config::Config,
    error::{Code, Error, Result},
    http::{
        BoxError, Content, SEAL_SESSION,
        body::{Budget, Failure, OpenBody, Opening, SealBody, Sealing, collect, count},
        frames::Frames,
        message, note_session, now, rng,
        sessions::{Place, without_query},
        source::{Pieces, Source},
    },
    kept::Handshake,
    not_sent::is_unsent,
    protocol::{
        self, Awaiting, Destination, Final, Initiator, MAX_ERROR, MAX_HANDSHAKE, Plaintext, Record, Session,
    },
    signing::Signing,
    telemetry,
};

/// What a call needs until it ends. In a box, for the future of every request is moved, and this is half of it.
struct Call<S> {
    below: Below<S>,
    inner: Inner,
}

/// A request as it is sealed, perhaps more than once.
struct Inner {
    parts: request::Parts,
    place: Place,
    at_hand: Pieces,
}

/// Seals, sends, opens. One flat future, since every request has one, and what is nested is in it twice; what
/// happens seldom is boxed.
pub(super) fn exchange<S, B, R>(
    shared: Arc<Shared>,
    below: Below<S>,
    request: Request<B>,
    is_traced: bool,
) -> impl Future<Output = Result<Response<OpenBody<R>>>>
where
    S: Service<Request<SealBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let mut rest = Some(Source::new(body));
    let call = place(&shared.options.config, &parts)
        .map(|place| Box::new(Call { below, inner: Inner { parts, place, at_hand: Pieces::new() } }));
    // Blocks end where their variables would else be kept until the response is there.
    async move {
        let options = &shared.options;
        let mut call = call?;
        let Call { below, inner } = &mut *call;
        if let Some(source) = &mut rest {
            inner.at_hand = source.at_hand().await;
        }
        rest.take_if(|source| source.is_ended());
        let whole = rest.is_none();
        let limit = options.config.bounds().request;
        let (mut renewed, mut repeated) = (false, false);
        loop {
            let (kept, session, began, bytes, sealer, awaiting) = {
                // First of all, since not even a hello goes to where no request can go.
                let plaintext = inner.encode()?;
                let kept = shared.sessions.at(&inner.place);
                let session = match kept.ready() {
                    Some(session) => session,
                    None => {
                        let handshake = |own| handshake(options.config.clone(), &options.copied, own, inner);
                        Box::pin(kept.renewed(below, handshake)).await?
                    }
                };
                // Where our span is off, the present one is somebody else's.
                if is_traced {
                    note_session(&Span::current(), session.id(), session.peer());
                }
                let last = if whole { Final::Yes } else { Final::No };
                let began = now();
                let unsent = match session.draft_request(plaintext, last, limit, true, &mut rng(), began) {
                    // It ended between the two lines above; nothing has been sent.
                    Err(error) if error.code() == Some(Code::UnknownSession) && !renewed => {
                        renewed = true;
                        kept.forget(&session);
                        continue;
                    }
                    unsent => unsent?,
                };
                let proof = Signing::new(&options.config, unsent.leaf()).await?;
                let protocol::Request { bytes, rest, response } = unsent.write(proof.as_ref());
                (kept, session, began, bytes, rest, response)
            };
            let records = rest.take().zip(sealer).map(|(source, sealer)| Sealing::new(source, sealer, None));
            let body = SealBody::records(bytes.clone(), records);
            let bear = |body| outer(options, &inner.parts, &session, body);
            let answer = timeout(options.config.bounds().response, async {
                below.ready().await?;
                let (response, twice) = match below.call(bear(body)).await {
                    // The connection broke before there was an answer. The same bytes are served at most once.
                    Err(error) if whole => {
                        let again = Box::pin(below.ready_and_call(bear(SealBody::whole(bytes)))).await;
                        (again.map_err(|again| if is_unsent(&error) { again } else { error })?, true)
                    }
                    response => (response?, false),
                };
                let (content, status, version, body) = {
                    let (head, body) = response.into_parts();
                    (Content::of(&head.headers), head.status, head.version, body)
                };
                match content {
                    Some(Content::Records(encoding)) if status == StatusCode::OK => {
                        let limits = options.config.bounds();
                        let mut frames = Frames::new(body, encoding, limits.record, limits.stall);
                        let record = std::future::poll_fn(|cx| frames.poll_record(cx)).await;
                        let opened = open(options, &awaiting, record, frames, version);
                        opened.inspect_err(|error| count(options.config.telemetry(), error))
                    }
                    Some(Content::Error) => Err(Box::pin(refused(&awaiting, body, twice)).await),
                    _ => Err(Error::Unsealed { status: status.as_u16() }),
                }
            });
            match answer.await.unwrap_or_else(|_| Err(Error::TimedOut { waiting_for: "the response" })) {
                Err(Error::Refused { code: Code::UnknownSession, signed: true }) => {
                    kept.forget(&session);
                    if repeated || !whole || !inner.is_repeatable(options) {
                        return Err(Error::OutcomeUnknown);
                    }
                    repeated = true;
                }
                // Anybody may have said this, so nothing is sent again; but the next call makes a new session, lest
                // one that the far side has lost, and has no time to sign for, be tried until it expires.
                Err(error @ Error::Refused { code: Code::UnknownSession, signed: false }) => {
                    kept.forget(&session);
                    return Err(error);
                }
                // Late there, and not here: the reply of the handshake was held back on its way, so the far side counts
                // from long before, and would as long as the session lasts. Whoever forges this costs a handshake.
                Err(error @ Error::Refused { code: Code::Expired, .. })
                    if now().saturating_duration_since(began) < limit =>
                {
                    kept.forget(&session);
                    return Err(error);
                }
                // It may have been served, and there is no answer.
                Err(error @ Error::Transport(_))
                    if whole && !is_unsent(&error) && !inner.is_repeatable(options) =>
                {
                    tracing::debug!(target: telemetry::TARGET, reason = ?error, "no answer");
                    return Err(Error::OutcomeUnknown);
                }
                answer => return answer,
            }
        }
    }
}

/// Where a request goes: its origin, from its URI, or for a relative one from its `host` field.
fn place(config: &Config, parts: &request::Parts) -> Result<Place> {
    let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(|authority| authority.as_str()).or_else(host);
    let Some(authority) = authority else {
        return Err(Error::Misuse { reason: "a request needs an absolute URI or a host field" });
    };
    Ok(Place::new(config, parts.uri.scheme_str().unwrap_or("http"), authority))
}

/// Makes a session: one round trip, in its own call of the service below.
fn handshake<S, B, R>(config: Config, copied: &[HeaderName], mut below: Below<S>, inner: &Inner) -> Handshake
where
    S: Service<Request<SealBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Send + 'static,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    let limit = config.bounds().handshake;
    let place = inner.place.clone();
    let mut request = outer_request(&inner.parts, Content::Handshake, copied, ());
    *request.extensions_mut() = inner.parts.extensions.clone();
    let shake = async move {
        let destination = Destination { origin: Some(&place.origin), audience: place.audience, target: None };
        let (hello, initiator) = Initiator::start(&config, destination, &mut rng())?;
        let response = below.ready_and_call(request.map(|()| SealBody::whole(hello))).await?;
        let arrived = now();
        let (parts, body) = response.into_parts();
        match Content::of(&parts.headers) {
            Some(Content::Handshake) if parts.status == StatusCode::OK => {
                let reply = collect(body, MAX_HANDSHAKE).await?;
                let session = initiator
                    .finish(&reply, arrived)
                    .inspect_err(|error| count(config.telemetry(), error))?;
                tracing::debug!(
                    target: telemetry::TARGET,
                    session = %session.id(), peer = %session.peer(), suite = session.suite().as_str(),
                    "session made"
                );
                Ok(Arc::new(session))
            }
            Some(Content::Error) => Err(protocol::refusal(&collect(body, MAX_ERROR).await?)),
            _ => Err(Error::Unsealed { status: parts.status.as_u16() }),
        }
    };
    async move {
        timeout(limit, shake).await.unwrap_or(Err(Error::TimedOut { waiting_for: "the handshake" }))
    }
    .boxed()
}

/// A `POST` to the inner URL without its query.
fn outer_request<B>(parts: &request::Parts, content: Content, copied: &[HeaderName], body: B) -> Request<B> {
    let mut request = Request::new(body);
    // With room for those that the transport adds.
    *request.headers_mut() = HeaderMap::with_capacity(6);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = without_query(&parts.uri);
    *request.version_mut() = parts.version;
    request.headers_mut().insert(header::CONTENT_TYPE, content.media_type());
    if parts.uri.authority().is_none()
        && let Some(host) = parts.headers.get(header::HOST)
    {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    for name in copied {
        for value in parts.headers.get_all(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
    request
}

impl Inner {
    fn encode(&self) -> Result<Plaintext> {
        let content: usize = self.at_hand.iter().map(Bytes::len).sum();
        let mut plaintext = Plaintext::with_capacity(content + message::usual_head(&self.parts.headers));
        message::encode_request(&self.parts, &Scheme::HTTP, &self.at_hand, plaintext.buffer())?;
        Ok(plaintext)
    }

    fn is_repeatable(&self, options: &Options) -> bool {
        let content = match &self.at_hand[..] {
            [] => Bytes::new(),
            [piece] => piece.clone(),
            pieces => pieces.concat().into(),
        };
        self.parts.method.is_safe() || (options.repeatable)(&self.parts, &content)
    }
}

/// The request that bears `body`.
fn outer<B>(
    options: &Options,
    parts: &request::Parts,
    session: &Session,
    body: SealBody<B>,
) -> Request<SealBody<B>> {
    let content = Content::Records(options.config.chosen_encoding());
    let mut request = outer_request(parts, content, &options.copied, body);
    *request.extensions_mut() = parts.extensions.clone();
    let mut hint = [0; 32];
    if const_hex::encode_to_slice(session.id().as_bytes(), &mut hint).is_ok()
        && let Ok(hint) = HeaderValue::from_bytes(&hint)
    {
        request.headers_mut().insert(SEAL_SESSION, hint);
    }
    request
}

/// Why there is no response. `twice`: whether the request's bytes were sent again.
async fn refused<R>(awaiting: &Awaiting, body: R, twice: bool) -> Error
where
    R: Body,
    R::Error: Into<BoxError>,
{
    match collect(body, MAX_ERROR).await.map(|message| awaiting.refused(&message)) {
        // One copy was taken, and the answer to it is lost.
        Ok(Error::Refused { code: Code::Replayed | Code::Expired, signed: true }) if twice => {
            Error::OutcomeUnknown
        }
        Ok(error) | Err(error) => error,
    }
}

/// The response that begins with `record`.
fn open<R>(
    options: &Options,
    awaiting: &Awaiting,
    record: Result<Option<Record>>,
    frames: Frames<R>,
    version: Version,
) -> Result<Response<OpenBody<R>>>
where
    R: Body,
    R::Error: Into<BoxError>,
{
    let limits = options.config.bounds();
    let Some(record) = record? else {
        return Err(Error::new(Code::Truncated, "a response without a record"));
    };
    let (opened, opener) = awaiting.open(record, now())?;
    let (status, headers, content) = message::decode_response(&opened.plaintext, limits.head)?;
    let budget = Budget::new(limits.body, &content)?;
    let is_over = opener.is_finished() && frames.is_at_end();
    let rest = (!is_over).then(|| {
        let failure = Some(Arc::new(Failure::new(options.config.clone(), true)));
        Opening { frames, opener, budget, failure }
    });
    // Nothing of the outer response: among its extensions there may be words of its status line.
    let mut response = Response::new(OpenBody::records(content, rest));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    *response.version_mut() = version;
    if let Some(server) = awaiting.session().verified() {
        response.extensions_mut().insert(server);
    }
    Ok(response)
}
