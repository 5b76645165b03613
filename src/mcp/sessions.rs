//! Legacy MCP sessions, each for the one caller who got it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, Method, Request, Response, StatusCode};
use lru::LruCache;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::answer::SESSION_ID;
use crate::{http::with_hyphens, identity::NodeId, telemetry, trust::Verified};

/// Ties each legacy `Mcp-Session-Id` that the server below hands out to the verified caller who got it:
/// `UnsealLayer::new(config).layer(BindSessionsLayer::new().layer(server))`.
///
/// A session of MCP 2025-11-25 is open to whoever knows its id: rmcp, like most servers, asks for no more.
///
/// ```text
///  A ── initialize ─────────>│                  │──> rmcp's server, or a proxy to any
///  A <── mcp-session-id: x ──│  x belongs to A  │<──
///  B ── mcp-session-id: x ──>│ 404
/// ```
///
/// A request with an id that this layer has not seen go to the same node gets 404, and the server never sees
/// it. So too after a restart, when no id is known: a client then begins a new session (MCP 2025-11-25,
/// Transports, "Session Management"). Two ids in one request are 400. Requests without an id pass, and so all
/// of MCP 2026-07-28. The transport of 2024-11-05, which has its ids in URLs, is not covered.
///
/// An id belongs to a node and not to its seal session, since that is renewed. It is forgotten when a DELETE
/// is answered with success or 404, and when the bounds set here are reached; each takes about 300 bytes, and
/// each caller as much. Any other 404 may mean the path, so it ends nothing. Bodies are not touched. A refusal has the body `R::default()`, which is
/// empty in axum and rmcp, and a [`SessionRefused`] in its extensions. Clones of a layer, and the services
/// made from them, share what they know.
#[derive(Clone, Debug, Default)]
pub struct BindSessionsLayer {
    options: Options,
    table: Arc<Mutex<Table>>,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    sessions: usize,
    sessions_per_caller: usize,
    idle: Duration,
    unverified: bool,
}

impl Default for Options {
    fn default() -> Self {
        let idle = Duration::from_secs(24 * 60 * 60);
        Options { sessions: 65_536, sessions_per_caller: 1024, idle, unverified: false }
    }
}

impl BindSessionsLayer {
    /// A layer that knows no session yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sessions of all callers together, at least 1; the least recently used goes first. Default: 65,536.
    #[must_use]
    pub fn sessions(mut self, most: usize) -> Self {
        self.options.sessions = most.max(1);
        self
    }

    /// Sessions of one caller, at least 1; the least recently used goes first. Default: 1,024.
    #[must_use]
    pub fn sessions_per_caller(mut self, most: usize) -> Self {
        self.options.sessions_per_caller = most.max(1);
        self
    }

    /// How long a session may go without a request; an open event stream is none. Default: 24 h.
    #[must_use]
    pub fn idle(mut self, limit: Duration) -> Self {
        self.options.idle = limit;
        self
    }

    /// Takes all callers without [`Verified`] **for one and the same**, to whom every session belongs that any
    /// of them got: for tests with [`Config::plaintext`](crate::Config::plaintext). Default: those sessions
    /// belong to nobody.
    #[must_use]
    pub fn dangerously_allow_unverified(mut self) -> Self {
        self.options.unverified = true;
        self
    }

    fn admit<B>(&self, request: &Request<B>) -> Result<Asked, SessionRefused> {
        let caller = match request.extensions().get::<Verified>() {
            Some(verified) => Some(Caller::Node(verified.node_id())),
            None => self.options.unverified.then_some(Caller::Unverified),
        };
        // Underscores too, since many a server takes them for hyphens.
        let is_id = |name: &HeaderName| with_hyphens(name) == SESSION_ID;
        let mut ids = request.headers().iter().filter(|(name, _)| is_id(name)).map(|(_, id)| id);
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

    fn settle<R>(&self, asked: &Asked, response: &Response<R>) {
        let (status, Some(caller)) = (response.status(), asked.caller) else { return };
        if let Some(id) = &asked.session
            && asked.ends
            && (status.is_success() || status == StatusCode::NOT_FOUND)
        {
            return self.table().remove(id, caller);
        }
        for id in response.headers().get_all(SESSION_ID) {
            // Some servers repeat the id in every response. That must not bring back what was forgotten.
            if asked.session.as_deref() != Some(id.as_bytes())
                && !self.table().bind(&self.options, id.as_bytes(), caller)
            {
                tracing::warn!(target: telemetry::TARGET, "the server gave two callers one MCP session id");
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Layer<S> for BindSessionsLayer {
    type Service = BindSessions<S>;

    fn layer(&self, inner: S) -> BindSessions<S> {
        BindSessions { inner, layer: self.clone() }
    }
}

/// The service that [`BindSessionsLayer`] makes.
#[derive(Clone, Debug)]
pub struct BindSessions<S> {
    inner: S,
    layer: BindSessionsLayer,
}

impl<S, B, R> Service<Request<B>> for BindSessions<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let asked = match self.layer.admit(&request) {
            Ok(asked) => asked,
            Err(reason) => return async move { Ok(reason.respond()) }.boxed(),
        };
        // Called here, where it is the one that was polled ready; so no clone has to take its place.
        let (answer, layer) = (self.inner.call(request), self.layer.clone());
        async move { answer.await.inspect(|response| layer.settle(&asked, response)) }.boxed()
    }
}

/// Why [`BindSessions`] refused a request: in the response's extensions, for the layers around. The caller
/// learns only the status: 400 for `Ambiguous`, or else 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionRefused {
    /// The id was not handed out here, or has been forgotten.
    Unknown,
    /// The id was handed out to another caller.
    Foreign,
    /// An id without a [`Verified`] caller.
    Unverified,
    /// More than one id.
    Ambiguous,
}

impl SessionRefused {
    fn respond<R: Default>(self) -> Response<R> {
        tracing::debug!(target: telemetry::TARGET, reason = ?self, "MCP session refused");
        let mut response = Response::new(R::default());
        let ambiguous = self == SessionRefused::Ambiguous;
        *response.status_mut() = if ambiguous { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
        response.extensions_mut().insert(self);
        response
    }
}

/// What is kept of a request until its response comes.
struct Asked {
    caller: Option<Caller>,
    session: Option<Id>,
    ends: bool,
}

/// A copy, since a `HeaderValue` may hold on to the whole head that it came in.
type Id = Arc<[u8]>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    Node(NodeId),
    Unverified,
}

/// Whose each session is.
struct Table {
    /// With the time of their last use, and in that order.
    sessions: LruCache<Id, (Caller, Instant)>,
    /// The sessions of each caller, in the same order.
    callers: HashMap<Caller, LruCache<Id, ()>>,
}

impl Table {
    /// Finds a session of this caller's, and counts that as use.
    fn find(&mut self, options: &Options, id: &[u8], caller: Caller) -> Result<Id, SessionRefused> {
        let now = Instant::now();
        while let Some((oldest, &(owner, used))) = self.sessions.peek_lru()
            && now.duration_since(used) >= options.idle
        {
            let oldest = oldest.clone();
            self.remove(&oldest, owner);
        }
        if self.sessions.peek(id).is_some_and(|(owner, _)| *owner != caller) {
            return Err(SessionRefused::Foreign);
        }
        let (id, session) = self.sessions.get_key_value_mut(id).ok_or(SessionRefused::Unknown)?;
        session.1 = now;
        if let Some(own) = self.callers.get_mut(&caller) {
            own.promote(id);
        }
        Ok(id.clone())
    }

    /// Gives a session to this caller. False if it is another's, and remains so.
    fn bind(&mut self, options: &Options, id: &[u8], caller: Caller) -> bool {
        match self.find(options, id, caller) {
            Err(SessionRefused::Unknown) => {}
            found => return found.is_ok(),
        }
        let own = self.callers.get(&caller).filter(|own| own.len() >= options.sessions_per_caller);
        let excess = match own.and_then(LruCache::peek_lru) {
            Some((oldest, ())) => Some((oldest.clone(), caller)),
            None if self.sessions.len() < options.sessions => None,
            None => self.sessions.peek_lru().map(|(oldest, (owner, _))| (oldest.clone(), *owner)),
        };
        if let Some((oldest, owner)) = excess {
            self.remove(&oldest, owner);
        }
        let id = Id::from(id);
        self.callers.entry(caller).or_insert_with(LruCache::unbounded).push(id.clone(), ());
        self.sessions.push(id, (caller, Instant::now()));
        true
    }

    /// Forgets a session, unless it is not this caller's any more.
    fn remove(&mut self, id: &[u8], caller: Caller) {
        if let Some(own) = self.callers.get_mut(&caller)
            && own.pop(id).is_some()
        {
            if own.is_empty() {
                self.callers.remove(&caller);
            }
            self.sessions.pop(id);
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Table { sessions: LruCache::unbounded(), callers: HashMap::new() }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}
