//! Two sides, and the services between them, with bodies of one type so that they fit together in any order.

#[path = "../support/failure.rs"]
mod failure;
#[path = "../support/recorder.rs"]
pub(crate) mod recorder;

use std::{
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc as std_mpsc,
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::combinators::BoxBody;
use tokio::sync::watch;
use tower::{ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_seal::{
    Config, Error,
    config::Encoding,
    http::{SealLayer, UnsealLayer},
    trust::Pinned,
};

pub(crate) use crate::wire::*;

pub(crate) const BOTH: [Encoding; 2] = [Encoding::Binary, Encoding::Json];
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MIB: usize = 1 << 20;

pub(crate) const HANDSHAKE: &str = "application/vnd.tower-seal.handshake+json";
pub(crate) const BINARY: &str = "application/vnd.tower-seal";
pub(crate) const JSON: &str = "application/vnd.tower-seal+json";
pub(crate) const ERROR: &str = "application/vnd.tower-seal.error+json";

pub(crate) use failure::Failure;

pub(crate) type Body = BoxBody<Bytes, Failure>;
/// An application, a server layer around one, a middle, a connection.
pub(crate) type Wire = BoxCloneSyncService<Request<Body>, Response<Body>, Failure>;
/// A client layer above a wire.
pub(crate) type Http = BoxCloneSyncService<Request<Body>, Response<Body>, Error>;

// ---- two sides ----

/// Who they are, and whom they trust: each other.
pub(crate) struct Sides {
    pub(crate) server: Config,
    pub(crate) client: Config,
    /// Whom the server trusts.
    pub(crate) clients: Arc<Pinned>,
    /// Whom the client trusts.
    pub(crate) servers: Arc<Pinned>,
    _watchdog: Watchdog,
}

impl Sides {
    pub(crate) fn new() -> Self {
        let (server, client) = (recorder::new_identity(), recorder::new_identity());
        let clients = Arc::new(Pinned::new([client.node_id()]));
        let servers = Arc::new(Pinned::new([server.node_id()]));
        Sides {
            server: Config::new(server, clients.clone()),
            client: Config::new(client, servers.clone()),
            clients,
            servers,
            _watchdog: Watchdog::start(),
        }
    }

    pub(crate) fn speaking(encoding: Encoding) -> Self {
        let mut sides = Self::new();
        sides.client = sides.client.encoding(encoding);
        sides
    }

    /// The server layer around `app`.
    pub(crate) fn serve(&self, app: Wire) -> Wire {
        serve(&UnsealLayer::new(self.server.clone()), app)
    }

    /// The client layer above `wire`.
    pub(crate) fn seal(&self, wire: Wire) -> Http {
        seal(&SealLayer::new(self.client.clone()), wire)
    }
}

pub(crate) fn serve(layer: &UnsealLayer, app: Wire) -> Wire {
    let service = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(boxed))
        .layer(layer.clone())
        .map_request(|request: Request<_>| request.map(boxed))
        .service(app);
    BoxCloneSyncService::new(service)
}

pub(crate) fn seal(layer: &SealLayer, wire: Wire) -> Http {
    let service = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(boxed))
        .layer(layer.clone())
        .map_request(|request: Request<_>| request.map(boxed))
        .service(wire);
    BoxCloneSyncService::new(service)
}

/// Nothing here waits for real time, so a test that stands still has failed.
struct Watchdog {
    _alive: std_mpsc::Sender<()>,
}

impl Watchdog {
    fn start() -> Self {
        let (alive, end) = std_mpsc::channel();
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        std::thread::spawn(move || {
            if end.recv_timeout(Duration::from_secs(240)) == Err(std_mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test} stands still");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

// ---- services ----

pub(crate) fn app<F, R>(handler: F) -> Wire
where
    F: Fn(Request<Body>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    BoxCloneSyncService::new(service_fn(move |request| {
        let answer = handler(request);
        async move { Ok(answer.await) }
    }))
}

/// Answers with the content of the request, when it has all of it.
pub(crate) fn echo() -> Wire {
    app(|request| async move { Response::new(full(content(request.into_body()).await.unwrap())) })
}

/// Whoever stands between a client and `next`.
pub(crate) fn middle<F, R>(next: Wire, handler: F) -> Wire
where
    F: Fn(Request<Body>, Wire) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response<Body>, Failure>> + Send + 'static,
{
    BoxCloneSyncService::new(service_fn(move |request| handler(request, next.clone())))
}

/// How many hellos and how many sealed requests went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) hellos: Count,
    pub(crate) requests: Count,
}

impl Traffic {
    pub(crate) fn through(wire: Wire) -> (Wire, Self) {
        let traffic = Traffic::default();
        let counted = traffic.clone();
        let wire = middle(wire, move |request, next| {
            let count = if is_hello(&request) { &counted.hellos } else { &counted.requests };
            count.add();
            next.oneshot(request)
        });
        (wire, traffic)
    }

    pub(crate) fn values(&self) -> (usize, usize) {
        (self.hellos.value(), self.requests.value())
    }
}

pub(crate) fn is_hello<B>(request: &Request<B>) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == HANDSHAKE)
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    /// The value before.
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn value(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Shut at first.
#[derive(Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn new() -> Self {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn shut(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn pass(&self) {
        self.0.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// A wire that can be led elsewhere, as to a server that has been started anew.
#[derive(Clone)]
pub(crate) struct Switch(Arc<Mutex<Wire>>);

impl Switch {
    pub(crate) fn new(wire: Wire) -> Self {
        Switch(Arc::new(Mutex::new(wire)))
    }

    pub(crate) fn to(&self, wire: Wire) {
        *self.0.lock().unwrap() = wire;
    }

    pub(crate) fn wire(&self) -> Wire {
        let switch = self.clone();
        Wire::new(service_fn(move |request| {
            let wire = switch.0.lock().unwrap().clone();
            wire.oneshot(request)
        }))
    }
}

// ---- requests ----

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(empty()).unwrap()
}

pub(crate) fn post(uri: &str, content: impl Into<Bytes>) -> Request<Body> {
    Request::post(uri).body(full(content)).unwrap()
}

/// Status and content.
pub(crate) async fn ask(http: &Http, request: Request<Body>) -> Result<(u16, Bytes), Error> {
    let answer = async {
        let response = http.clone().oneshot(request).await?;
        let status = response.status().as_u16();
        Ok((status, content(response.into_body()).await.map_err(|error| reason::<()>(Err(error)))?))
    };
    answer.await.inspect_err(|error| recorder::look_at_error(error))
}

/// Lets `future` come as far as it can by itself, which is not to its end.
pub(crate) async fn begin<F: Future + Unpin>(future: &mut F) {
    let mut future = Pin::new(future);
    std::future::poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}
