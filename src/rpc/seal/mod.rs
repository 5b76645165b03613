//! The calling side: [`SealLayer`] seals messages and opens their answers.

mod exchange;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, field::Empty};

use super::{BoxError, transport};
use crate::{
    below::Below,
    config::Config,
    error::{Error, Result},
    identity::NodeId,
    kept::Kept,
    telemetry::{self, Metric},
};

/// Decides whether a message may be served twice, by its JSON text.
type Repeatable = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Seals what goes through the service below it, which carries frames to one far side and brings its answers.
///
/// The handshake happens on first use. Above it stands any caller of a `Service<Bytes, Response =
/// Option<Bytes>>`, for one JSON-RPC message or batch of at most 1 MiB each time. Nothing is passed on that did
/// not come out of a record. A task forgets the session when it is over, and ends with it.
///
/// No answer is right for a notification, a response, and a batch of them; for anything else it is an error. An
/// answer to them is dropped. The service below must answer a notification too, with `None` where its transport
/// has nothing to wait for: the far side may have refused it. So `Ok(None)` says that a notification left, and
/// nobody vouches for more: whoever is in between can answer it with nothing as well.
///
/// An error of the service below means that the message may have been served, unless it says by
/// [`NotSent`](super::NotSent) that nothing has left: a message that is not [repeatable](Self::repeat_if) ends with
/// [`Error::OutcomeUnknown`] then, and not with [`Error::Transport`], which a layer above could take for leave to
/// repeat it.
#[derive(Clone)]
pub struct SealLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Options {
    config: Config,
    target: Option<Arc<str>>,
    origin: Option<Arc<str>>,
    audience: Option<NodeId>,
    repeatable: Repeatable,
}

struct Shared {
    options: Options,
    kept: Kept,
    warned: AtomicBool,
}

impl SealLayer {
    /// A layer with a session of its own, shared by all services made from it. So they must lead to the same
    /// far side.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::from_options(Options {
            config,
            target: None,
            origin: None,
            audience: None,
            repeatable: Arc::new(|_| false),
        })
    }

    fn from_options(options: Options) -> Self {
        let shared = Shared { options, kept: Kept::default(), warned: AtomicBool::new(false) };
        SealLayer { shared: Arc::new(shared) }
    }

    fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.shared.options.clone();
        change(&mut options);
        Self::from_options(options)
    }

    /// The name of the queue or service that the session is for, in printable ASCII: a far side that is told
    /// its own refuses another (`path_mismatch`). Calls with a name that cannot be sent end with `Misuse`.
    #[must_use]
    pub fn target(self, name: &str) -> Self {
        self.with(|options| options.target = Some(name.into()))
    }

    /// Where the far side is, such as `nats://broker.example/tools`: what a trust policy learns belongs to it.
    #[must_use]
    pub fn origin(self, origin: &str) -> Self {
        self.with(|options| options.origin = Some(origin.into()))
    }

    /// The node that has to answer. Default: the one that the trust policy expects, if it knows.
    #[must_use]
    pub fn audience(self, node: NodeId) -> Self {
        self.with(|options| options.audience = Some(node))
    }

    /// Says which messages may be served twice. Default: none.
    ///
    /// When the far side has lost the session, such a message is sent again, once, in a new one; any other ends
    /// with [`Error::OutcomeUnknown`]. So does any other whose transport broke.
    #[must_use]
    pub fn repeat_if(self, repeatable: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        self.with(|options| options.repeatable = Arc::new(repeatable))
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

impl<S> Service<Bytes> for Seal<S>
where
    S: Service<Bytes, Response = Option<Bytes>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    type Response = Option<Bytes>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Option<Bytes>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx).map_err(transport)
    }

    fn call(&mut self, message: Bytes) -> Self::Future {
        // The clone has not been polled ready, so it stays, and the ready one goes.
        let clone = self.inner.clone();
        let mut below = Below::new(std::mem::replace(&mut self.inner, clone));
        let shared = self.shared.clone();
        if shared.options.config.is_plaintext() {
            shared.note_plaintext();
            return below.call(message).boxed();
        }
        let span = tracing::debug_span!(target: telemetry::TARGET, telemetry::SEAL_SPAN, session = Empty, peer = Empty);
        exchange::exchange(shared, below, message, span.clone()).instrument(span).boxed()
    }
}

impl Shared {
    fn note_plaintext(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: telemetry::TARGET, "plaintext mode: messages are sent without any protection");
        }
        self.options.config.telemetry().count(Metric::PlaintextRequests);
    }

    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, peer) = (&self.options.config, self.kept.peer());
        f.debug_struct(name).field("config", config).field("peer", &peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for SealLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe("SealLayer", f)
    }
}

impl<S> fmt::Debug for Seal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.describe("Seal", f)
    }
}
