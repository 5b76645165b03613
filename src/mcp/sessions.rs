//! Legacy MCP sessions, each for the one caller who got it.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode};
use lru::LruCache;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::answer::SESSION_ID;
use crate::{identity::NodeId, telemetry, trust::Verified};

/// Ties each legacy `Mcp-Session-Id` that the server below hands out to the verified caller who got it.
///
/// A session id of MCP 2025-11-25 opens its session to whoever knows it: rmcp, like most servers, asks for
/// nothing else. This layer stands between [`UnsealLayer`](crate::http::UnsealLayer), which says who calls,
/// and such a server, or a reverse proxy to one.
///
/// ```text
///  A ── initialize ─────────>│                     │──> server
///  A <── mcp-session-id: x ──│  x belongs to A     │<──
///  A ── mcp-session-id: x ──>│                     │──>
///  B ── mcp-session-id: x ──>│ 404                 │
/// ```
///
/// What bears an id gets 404, and the server never sees it, unless this layer has seen the id go to the same
/// node: so too after a restart, when it knows none. A client answers a 404 by beginning a new session (MCP
/// 2025-11-25, Transports, "Session Management"). More ids than one are 400. What bears none passes, so that
/// MCP 2026-07-28, which has none, is not concerned; nor is the transport of 2024-11-05, whose ids are in URLs.
///
/// An id belongs to the node and not to its seal session, since that is renewed. It is forgotten when a DELETE
/// succeeds, when the server answers it with 404, after a day without a request ([`idle`](Self::idle)), and
/// when there are too many; an entry takes about 300 bytes. Bodies are not touched, and a refusal has
/// `R::default()`, an empty one in axum and rmcp; its reason is a [`SessionRefused`] in its extensions.
///
/// ```
/// use std::sync::Arc;
///
/// use rmcp::transport::streamable_http_server::{
///     StreamableHttpService, session::local::LocalSessionManager,
/// };
/// use tower::Layer as _;
/// use tower_seal::{Config, Identity, http::UnsealLayer, mcp::BindSessionsLayer, trust::AnyIdentity};
///
/// struct Server;
///
/// impl rmcp::ServerHandler for Server {}
///
/// let sessions = Arc::new(LocalSessionManager::default());
/// let server = StreamableHttpService::new(|| Ok(Server), sessions, Default::default());
/// let unseal = UnsealLayer::new(Config::new(Identity::generate(), AnyIdentity));
/// let app: axum::Router = axum::Router::new()
///     .fallback_service(unseal.layer(BindSessionsLayer::new().layer(server)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct BindSessionsLayer {
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    sessions: usize,
    sessions_per_caller: usize,
    idle: Duration,
    unverified: bool,
}

impl BindSessionsLayer {
    /// A layer with a table of its own, shared by all services made from it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.shared.options;
        change(&mut options);
        BindSessionsLayer { shared: Arc::new(Shared { options, ..Shared::default() }) }
    }

    /// Sessions known, all callers together; the least recently used goes first. Default: 65,536.
    #[must_use]
    pub fn sessions(self, most: usize) -> Self {
        self.with(|options| options.sessions = most.max(1))
    }

    /// Sessions of one caller; the least recently used goes first. Default: 1,024.
    #[must_use]
    pub fn sessions_per_caller(self, most: usize) -> Self {
        self.with(|options| options.sessions_per_caller = most.max(1))
    }

    /// How long a session may rest without a request; an open event stream is none. Default: 24 h.
    #[must_use]
    pub fn idle(self, limit: Duration) -> Self {
        self.with(|options| options.idle = limit)
    }

    /// Takes all callers without [`Verified`] **for one and the same caller**, who may use every session that
    /// any of them got: for tests with [`Config::plaintext`](crate::Config::plaintext). By default what they
    /// get is nobody's.
    #[must_use]
    pub fn dangerously_allow_unverified(self) -> Self {
        self.with(|options| options.unverified = true)
    }
}

impl<S> Layer<S> for BindSessionsLayer {
    type Service = BindSessions<S>;

    fn layer(&self, inner: S) -> BindSessions<S> {
        BindSessions { inner, shared: self.shared.clone() }
    }
}

/// The service that [`BindSessionsLayer`] makes.
#[derive(Clone, Debug)]
pub struct BindSessions<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for BindSessions<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BindSessionsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        BindSessionsFuture(match self.shared.admit(&request) {
            Err(reason) => Step::Refuse(reason),
            // Called here and now, it is the service that was polled ready: nothing has to be cloned.
            Ok(asked) => Step::Pass(Box::pin(self.inner.call(request)), asked, self.shared.clone()),
        })
    }
}

/// The future of [`BindSessions`].
#[must_use = "futures do nothing unless polled"]
pub struct BindSessionsFuture<F>(Step<F>);

enum Step<F> {
    Refuse(SessionRefused),
    Pass(Pin<Box<F>>, Asked, Arc<Shared>),
}

impl<F, R, E> Future for BindSessionsFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match &mut self.0 {
            Step::Refuse(reason) => Poll::Ready(Ok(reason.respond())),
            Step::Pass(answer, asked, shared) => {
                let response = ready!(answer.as_mut().poll(cx))?;
                shared.settle(asked, response.status(), response.headers());
                Poll::Ready(Ok(response))
            }
        }
    }
}

/// Why [`BindSessions`] refused a request: in the extensions of the response. Of these the caller learns no
/// more than 400 for the last and 404 for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionRefused {
    /// The id was never handed out here, or has been forgotten.
    Unknown,
    /// The id was handed out to another caller.
    Foreign,
    /// An id, and no [`Verified`] caller.
    Unverified,
    /// More than one id.
    Ambiguous,
}

impl SessionRefused {
    fn respond<R: Default>(self) -> Response<R> {
        tracing::debug!(target: telemetry::TARGET, reason = ?self, "session refused");
        let mut response = Response::new(R::default());
        *response.status_mut() = match self {
            SessionRefused::Ambiguous => StatusCode::BAD_REQUEST,
            _ => StatusCode::NOT_FOUND,
        };
        response.extensions_mut().insert(self);
        response
    }
}

/// What has to be known of a request when its response comes.
struct Asked {
    caller: Option<Caller>,
    session: Option<Id>,
    ends: bool,
}

/// Copied, because a `HeaderValue` may hold on to the whole head that it came with.
type Id = Arc<[u8]>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    Node(NodeId),
    AnyUnverified,
}

#[derive(Default)]
struct Shared {
    options: Options,
    table: Mutex<Table>,
}

impl Shared {
    fn admit<B>(&self, request: &Request<B>) -> Result<Asked, SessionRefused> {
        let caller = match request.extensions().get::<Verified>() {
            Some(verified) => Some(Caller::Node(verified.node_id())),
            None => self.options.unverified.then_some(Caller::AnyUnverified),
        };
        let mut ids = request.headers().get_all(SESSION_ID).iter();
        let session = match (ids.next(), ids.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => return Err(SessionRefused::Ambiguous),
            (Some(id), None) => {
                let caller = caller.ok_or(SessionRefused::Unverified)?;
                Some(self.table().find(&self.options, id.as_bytes(), caller)?)
            }
        };
        Ok(Asked { caller, session, ends: request.method() == Method::DELETE })
    }

    fn settle(&self, asked: &Asked, status: StatusCode, headers: &HeaderMap) {
        let Some(caller) = asked.caller else { return };
        if let Some(id) = &asked.session
            && (status == StatusCode::NOT_FOUND || asked.ends && status.is_success())
        {
            return self.table().forget(id, caller);
        }
        for id in headers.get_all(SESSION_ID) {
            // Some servers repeat the id in every response. That must not bring back what is forgotten.
            if asked.session.as_deref() == Some(id.as_bytes()) {
                continue;
            }
            if !self.table().bind(&self.options, id.as_bytes(), caller) {
                tracing::warn!(target: telemetry::TARGET, "the server gave two callers one session id");
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose each session is.
struct Table {
    /// The order is that of their use.
    sessions: LruCache<Id, Session>,
    /// The sessions of each caller, in the same order.
    callers: HashMap<Caller, LruCache<Id, ()>>,
}

struct Session {
    caller: Caller,
    used: Instant,
}

impl Table {
    /// The session, which counts as used, if it is this caller's.
    fn find(&mut self, options: &Options, id: &[u8], caller: Caller) -> Result<Id, SessionRefused> {
        let now = Instant::now();
        while let Some((oldest, session)) = self.sessions.peek_lru()
            && now.duration_since(session.used) >= options.idle
        {
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
        let owner = self.sessions.peek(id).ok_or(SessionRefused::Unknown)?.caller;
        if owner != caller {
            return Err(SessionRefused::Foreign);
        }
        if let Some(sessions) = self.callers.get_mut(&caller) {
            sessions.promote(id);
        }
        let (id, session) = self.sessions.get_key_value_mut(id).ok_or(SessionRefused::Unknown)?;
        session.used = now;
        Ok(id.clone())
    }

    /// Makes the session this caller's. False if it is another's, and remains so.
    fn bind(&mut self, options: &Options, id: &[u8], caller: Caller) -> bool {
        match self.find(options, id, caller) {
            Err(SessionRefused::Unknown) => {}
            found => return found.is_ok(),
        }
        let own = self.callers.get(&caller).filter(|own| own.len() >= options.sessions_per_caller);
        let victim = match own {
            Some(own) => own.peek_lru().map(|(id, ())| id.clone()),
            None if self.sessions.len() >= options.sessions => {
                self.sessions.peek_lru().map(|(id, _)| id.clone())
            }
            None => None,
        };
        if let Some(victim) = victim {
            self.remove(&victim);
        }
        let id = Id::from(id);
        self.callers.entry(caller).or_insert_with(LruCache::unbounded).push(id.clone(), ());
        self.sessions.push(id, Session { caller, used: Instant::now() });
        true
    }

    fn forget(&mut self, id: &[u8], caller: Caller) {
        if self.sessions.peek(id).is_some_and(|session| session.caller == caller) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: &[u8]) {
        let Some(Session { caller, .. }) = self.sessions.pop(id) else { return };
        if let Some(sessions) = self.callers.get_mut(&caller) {
            sessions.pop(id);
            if sessions.is_empty() {
                self.callers.remove(&caller);
            }
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            sessions: 65_536,
            sessions_per_caller: 1024,
            idle: Duration::from_secs(24 * 60 * 60),
            unverified: false,
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Table { sessions: LruCache::unbounded(), callers: HashMap::new() }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}
