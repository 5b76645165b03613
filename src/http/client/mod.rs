//! The client's side: [`SealLayer`] seals requests and opens responses.

mod exchange;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use ::http::{HeaderName, Request, Response, header, request};
use futures_util::{FutureExt as _, future::BoxFuture};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, field::Empty};

use super::{
    BoxError, SEAL_SESSION,
    body::{OpenBody, SealBody},
    sessions::Sessions,
};
use crate::{
    below::Below,
    config::Config,
    error::{Error, Result},
    shell::transport,
    telemetry::{self, Metric},
};

/// Fields that the outer request has, or its transport gives it.
const OUTER: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    SEAL_SESSION,
];

/// Whether a request may be served twice without harm, from its head and its content.
type Repeatable = Arc<dyn Fn(&request::Parts, &[u8]) -> bool + Send + Sync>;

/// Seals what goes through the service below it.
///
/// The handshake happens on first use, once for each origin. Below it stands any HTTP client whose body type
/// is [`SealBody`]; above it, any caller. Nothing is passed on that did not come out of a record. A task forgets the
/// sessions that are over, and ends with them.
#[derive(Clone)]
pub struct SealLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Options {
    config: Config,
    repeatable: Repeatable,
    copied: Vec<HeaderName>,
}

struct Shared {
    options: Options,
    sessions: Sessions,
    warned: AtomicBool,
}

impl SealLayer {
    /// A layer with sessions of its own, shared by all services made from it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::from_options(Options { config, repeatable: Arc::new(|_, _| false), copied: Vec::new() })
    }

    fn from_options(options: Options) -> Self {
        let shared = Shared { options, sessions: Sessions::new(), warned: AtomicBool::new(false) };
        SealLayer { shared: Arc::new(shared) }
    }

    /// Says which requests may be served twice, beside those with a safe method (RFC 9110, section 9.2.1).
    ///
    /// When the far side has lost the session, such a request is sent again, once, in a new one; any other
    /// ends with [`Error::OutcomeUnknown`]. The closure gets the inner head, and the content.
    #[must_use]
    pub fn repeat_if(
        self,
        repeatable: impl Fn(&request::Parts, &[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        let options = Options { repeatable: Arc::new(repeatable), ..self.shared.options.clone() };
        Self::from_options(options)
    }

    /// Copies these inner header fields to the outer request, where everybody can read them, for gateways
    /// that route by them. The far side ignores the copies.
    ///
    /// Errors: `Misuse` for `authorization`, `cookie` and `mcp-param-*`, which nobody in between should see, and
    /// for fields that the outer request has of its own.
    pub fn copy_to_outside(self, fields: impl IntoIterator<Item = HeaderName>) -> Result<Self> {
        let copied: Vec<HeaderName> = fields.into_iter().collect();
        let secret = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
        if copied.iter().any(|name| secret.contains(name) || name.as_str().starts_with("mcp-param-")) {
            return Err(Error::Misuse {
                reason: "authorization, cookie and mcp-param-* stay inside the seal",
            });
        }
        if copied.iter().any(|name| OUTER.contains(name)) {
            return Err(Error::Misuse { reason: "the outer request has this field of its own" });
        }
        Ok(Self::from_options(Options { copied, ..self.shared.options.clone() }))
    }
}

impl<S> Layer<S> for SealLayer {
    type Service = Seal<S>;

    fn layer(&self, inner: S) -> Seal<S> {
        Seal { inner, shared: self.shared.clone() }
    }
}

/// The service that [`SealLayer`] makes.
#[derive(Clone)]
pub struct Seal<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for Seal<S>
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
    type Response = Response<OpenBody<R>>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx).map_err(transport)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone has not been polled ready, so it stays, and the ready one goes.
        let clone = self.inner.clone();
        let below = Below::new(std::mem::replace(&mut self.inner, clone));
        let shared = self.shared.clone();
        if shared.options.config.is_plaintext() {
            return plain(shared, below, request).boxed();
        }
        let span = tracing::debug_span!(target: telemetry::TARGET, telemetry::SEAL_SPAN, session = Empty, peer = Empty);
        exchange::exchange(shared, below, request, !span.is_disabled()).instrument(span).boxed()
    }
}

async fn plain<S, B, R>(
    shared: Arc<Shared>,
    mut below: Below<S>,
    request: Request<B>,
) -> Result<Response<OpenBody<R>>>
where
    S: Service<Request<SealBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
{
    if !shared.warned.swap(true, Ordering::Relaxed) {
        tracing::warn!(target: telemetry::TARGET, "plaintext mode: requests are sent without any protection");
    }
    shared.options.config.telemetry().count(Metric::PlaintextRequests);
    Ok(below.ready_and_call(request.map(SealBody::plain)).await?.map(OpenBody::plain))
}

impl std::fmt::Debug for SealLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealLayer").field("config", &self.shared.options.config).finish_non_exhaustive()
    }
}

impl<S> std::fmt::Debug for Seal<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("config", &self.shared.options.config).finish_non_exhaustive()
    }
}
