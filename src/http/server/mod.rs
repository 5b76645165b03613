//! The server's side: [`UnsealLayer`] opens requests and seals responses.

mod cors;
mod exchange;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use ::http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, uri::Authority,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http_body::Body;
use tokio::time::timeout;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, field::Empty};

use super::{
    BoxError, Content, Rejection,
    body::{OpenBody, SealBody, collect},
    now, rng,
};
use crate::{
    config::Config,
    error::{Code, Error, Result},
    protocol::{MAX_HANDSHAKE, Responder, Subject},
    sweeper::Sweeper,
    telemetry::{self, Metric},
    trust::Verified,
};

pub use cors::Cors;

/// Addresses whose plaintext requests are logged, once each.
const MOST_LOGGED: usize = 1024;

/// Tells nginx to pass on what comes as it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Opens what comes to the service below it, and seals what that answers.
///
/// The service gets the inner request: the inner authority as `host`, and in its extensions [`Verified`] and
/// the inner [`Scheme`](::http::uri::Scheme), beside the typed extensions of the outer one. What is refused
/// gets an error response, with a [`Rejection`] in its extensions.
#[derive(Clone)]
pub struct UnsealLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Options {
    config: Config,
    prefix: String,
    authorities: Option<Vec<Authority>>,
    infrastructure: Vec<HeaderName>,
    cors: Option<Cors>,
    address: fn(&Extensions) -> Option<IpAddr>,
}

struct Shared {
    options: Options,
    responder: Arc<Responder>,
    handshakes: DefaultDirectRateLimiter,
    signed_errors: DefaultDirectRateLimiter,
    sweeper: Sweeper,
    plaintext_from: Mutex<HashSet<Option<IpAddr>>>,
}

impl UnsealLayer {
    /// A layer with sessions of its own, shared by all services made from it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::from_options(Options {
            config,
            prefix: String::new(),
            authorities: None,
            infrastructure: Vec::new(),
            cors: None,
            address: |extensions| extensions.get::<SocketAddr>().map(SocketAddr::ip),
        })
    }

    fn from_options(options: Options) -> Self {
        let limiter =
            |rate| RateLimiter::direct(Quota::per_second(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN)));
        let limits = options.config.bounds();
        let shared = Shared {
            handshakes: limiter(limits.handshakes_per_second),
            signed_errors: limiter(limits.signed_errors_per_second),
            responder: Arc::new(Responder::new(options.config.clone())),
            sweeper: Sweeper::default(),
            plaintext_from: Mutex::default(),
            options,
        };
        UnsealLayer { shared: Arc::new(shared) }
    }

    fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.shared.options.clone();
        change(&mut options);
        Self::from_options(options)
    }

    /// The prefix, such as `/tools`, that a gateway in front strips from outer paths. It is stripped from
    /// inner paths too before they are compared, and before the service sees them; an inner path without it
    /// is `path_mismatch`.
    ///
    /// Errors: `Misuse` for a prefix that does not begin with `/`, or ends with one.
    pub fn stripped_prefix(self, prefix: &str) -> Result<Self> {
        if !prefix.starts_with('/') || prefix.ends_with('/') {
            return Err(Error::Misuse { reason: "a prefix begins with a slash and does not end with one" });
        }
        Ok(self.with(|options| options.prefix = prefix.to_owned()))
    }

    /// The inner authorities that are served, such as `example.com:8443`; others are `path_mismatch`. All
    /// are, by default.
    #[must_use]
    pub fn authorities(self, authorities: impl IntoIterator<Item = Authority>) -> Self {
        self.with(|options| options.authorities = Some(authorities.into_iter().collect()))
    }

    /// Inner fields that only infrastructure may set, and that are removed beside `forwarded`,
    /// `x-forwarded-*` and `x-real-ip`.
    #[must_use]
    pub fn set_by_infrastructure(self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|options| options.infrastructure.extend(fields))
    }

    /// Answers CORS preflights, in plaintext since browsers send them so. Default: they are refused.
    #[must_use]
    pub fn cors(self, cors: Cors) -> Self {
        self.with(|options| options.cors = Some(cors))
    }

    /// Where to find the peer's address among a request's extensions, for the log of plaintext requests.
    /// Default: a [`SocketAddr`]; with axum, `|e| e.get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip())`.
    #[must_use]
    pub fn peer_address(self, address: fn(&Extensions) -> Option<IpAddr>) -> Self {
        self.with(|options| options.address = address)
    }
}

impl<S> Layer<S> for UnsealLayer {
    type Service = Unseal<S>;

    fn layer(&self, inner: S) -> Unseal<S> {
        Unseal { inner, shared: self.shared.clone() }
    }
}

/// The service that [`UnsealLayer`] makes.
#[derive(Clone)]
pub struct Unseal<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for Unseal<S>
where
    S: Service<Request<OpenBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    type Response = Response<SealBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The clone has not been polled ready, so it stays, and the ready one goes.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        // Only this layer says who the caller is.
        request.extensions_mut().remove::<Verified>();
        let shared = self.shared.clone();
        let span = tracing::debug_span!(target: telemetry::TARGET, telemetry::UNSEAL_SPAN, session = Empty, peer = Empty);
        match Content::of(request.headers()) {
            _ if shared.options.config.is_plaintext() => shared.plain(ready, request),
            Some(Content::Records(encoding)) if request.method() == Method::POST => {
                exchange::serve(shared, ready, request, encoding, !span.is_disabled())
                    .instrument(span)
                    .boxed()
            }
            Some(Content::Handshake) if request.method() == Method::POST => {
                shared.handshake(request).instrument(span).boxed()
            }
            Some(Content::Records(_) | Content::Handshake) => {
                shared.turn_away(&request, Error::malformed("a sealed request is a POST"))
            }
            _ => match shared.options.cors.as_ref().and_then(|cors| cors.preflight(&request)) {
                Some(preflight) => async { Ok(preflight.map(|()| SealBody::whole(Bytes::new()))) }.boxed(),
                None if shared.options.config.accepts_plaintext() => shared.plain(ready, request),
                None => {
                    let error = Error::new(Code::EncryptionRequired, "plaintext is not taken here: seal it");
                    shared.turn_away(&request, error)
                }
            },
        }
    }
}

impl Shared {
    /// Passes a request on as it is.
    fn plain<S, B, R>(
        &self,
        mut inner: S,
        request: Request<B>,
    ) -> BoxFuture<'static, std::result::Result<Response<SealBody<R>>, S::Error>>
    where
        S: Service<Request<OpenBody<B>>, Response = Response<R>, Future: Send> + Send + 'static,
        B: Send + 'static,
    {
        self.note_plaintext(&request);
        async move { Ok(inner.call(request.map(OpenBody::plain)).await?.map(SealBody::plain)) }.boxed()
    }

    fn turn_away<B, R, E>(
        &self,
        request: &Request<B>,
        error: Error,
    ) -> BoxFuture<'static, std::result::Result<Response<SealBody<R>>, E>>
    where
        R: Send + 'static,
    {
        let response = self.refuse(error, None, self.page(request.headers()));
        async { Ok(response) }.boxed()
    }

    /// The origin of the page that a request comes from, if it may read the answer.
    fn page(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        self.options.cors.as_ref()?.allowed(headers)
    }

    /// Adds the fields that every outer response has.
    fn add_outer_fields(&self, headers: &mut HeaderMap, page: Option<HeaderValue>) {
        headers.insert(header::CACHE_CONTROL, const { HeaderValue::from_static("no-store, no-transform") });
        headers.insert(X_ACCEL_BUFFERING, const { HeaderValue::from_static("no") });
        if let (Some(cors), Some(page)) = (&self.options.cors, page) {
            cors.add(headers, page);
        }
    }

    async fn handshake<B, R, E>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> std::result::Result<Response<SealBody<R>>, E>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let page = self.page(request.headers());
        let limit = self.options.config.bounds().handshake;
        let answer = async {
            let hello = collect(request.into_body(), MAX_HANDSHAKE).await?;
            let budget = || self.handshakes.check().is_ok();
            self.responder.accept(&hello, |_| true, budget, &mut rng(), now())
        };
        let answer = timeout(limit, answer).await;
        Ok(match answer.unwrap_or(Err(Error::TimedOut { waiting_for: "the hello" })) {
            Ok((reply, session)) => {
                tracing::debug!(
                    target: telemetry::TARGET,
                    session = %session.id(), peer = %session.peer(), suite = session.suite().as_str(),
                    "session made, not confirmed yet"
                );
                self.responder.admit(session);
                self.sweeper.keep_sweeping(&self.responder);
                let mut response = Response::new(SealBody::whole(reply));
                response.headers_mut().insert(header::CONTENT_TYPE, Content::Handshake.media_type());
                self.add_outer_fields(response.headers_mut(), page);
                response
            }
            Err(error) => self.refuse(error, None, page),
        })
    }

    /// An error response with the outer fields, signed where there is a subject and the rate allows.
    fn refuse<R>(
        &self,
        error: Error,
        subject: Option<&Subject>,
        page: Option<HeaderValue>,
    ) -> Response<SealBody<R>> {
        let subject = subject.filter(|_| self.signed_errors.check().is_ok());
        let mut response = Rejection::new(error).respond(&self.responder, subject);
        self.add_outer_fields(response.headers_mut(), page);
        response
    }

    fn note_plaintext<B>(&self, request: &Request<B>) {
        self.options.config.telemetry().count(Metric::PlaintextRequests);
        let address = (self.options.address)(request.extensions());
        let mut seen = self.plaintext_from.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MOST_LOGGED && seen.insert(address) {
            tracing::warn!(
                target: telemetry::TARGET,
                address = address.map(tracing::field::display),
                "serving requests without any protection"
            );
        }
    }
}

impl std::fmt::Debug for UnsealLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnsealLayer").field("config", &self.shared.options.config).finish_non_exhaustive()
    }
}

impl<S> std::fmt::Debug for Unseal<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unseal").field("config", &self.shared.options.config).finish_non_exhaustive()
    }
}
