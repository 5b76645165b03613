//! Two sides, and services of frames and messages between them.

#[path = "../support/recorder.rs"]
pub(crate) mod recorder;

use std::{
    error::Error as StdError,
    fmt,
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
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{Layer as _, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_seal::{
    Config, Error,
    config::{Encoding, Limits},
    rpc::{Message, SealLayer, UnsealLayer},
    trust::Pinned,
};

pub(crate) const BOTH: [Encoding; 2] = [Encoding::Binary, Encoding::Json];
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MIB: usize = 1 << 20;

/// An application.
pub(crate) type App = BoxCloneSyncService<Message, Option<Bytes>, Failure>;
/// Carries frames: a server layer, a middle.
pub(crate) type Wire = BoxCloneSyncService<Bytes, Option<Bytes>, Failure>;
/// A client layer above a wire.
pub(crate) type Rpc = BoxCloneSyncService<Bytes, Option<Bytes>, Error>;

#[derive(Clone, Debug)]
pub(crate) struct Failure(pub(crate) &'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Failure {}

// ---- two sides ----

pub(crate) struct Sides {
    pub(crate) server: Config,
    pub(crate) client: Config,
    pub(crate) clients: Arc<Pinned>,
    _watchdog: Watchdog,
}

impl Sides {
    pub(crate) fn new() -> Self {
        let (server, client) = (recorder::new_identity(), recorder::new_identity());
        let clients = Arc::new(Pinned::new([client.node_id()]));
        Sides {
            client: Config::new(client, Pinned::new([server.node_id()])),
            server: Config::new(server, clients.clone()),
            clients,
            _watchdog: Watchdog::start(),
        }
    }

    pub(crate) fn speaking(encoding: Encoding) -> Self {
        let mut sides = Self::new();
        sides.client = sides.client.encoding(encoding);
        sides
    }

    pub(crate) fn server_limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        self.server = self.server.limits(limits(change));
        self
    }

    pub(crate) fn client_limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        self.client = self.client.limits(limits(change));
        self
    }

    pub(crate) fn serve(&self, app: App) -> Wire {
        Wire::new(UnsealLayer::new(self.server.clone()).layer(app))
    }

    pub(crate) fn seal(&self, wire: Wire) -> Rpc {
        Rpc::new(SealLayer::new(self.client.clone()).layer(wire))
    }
}

pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Nothing here waits for real time, so a test that stands still has failed.
pub(crate) struct Watchdog {
    _alive: std_mpsc::Sender<()>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let (alive, end) = std_mpsc::channel();
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        std::thread::spawn(move || {
            if end.recv_timeout(Duration::from_secs(120)) == Err(std_mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test} stands still");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

// ---- messages ----

pub(crate) fn request(id: impl Into<Value>, method: &str) -> Bytes {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method }).to_string().into()
}

pub(crate) fn notification(method: &str) -> Bytes {
    json!({ "jsonrpc": "2.0", "method": method }).to_string().into()
}

pub(crate) fn response(id: impl Into<Value>, result: impl Into<Value>) -> Bytes {
    json!({ "jsonrpc": "2.0", "id": id.into(), "result": result.into() }).to_string().into()
}

pub(crate) fn parse(message: &[u8]) -> Value {
    serde_json::from_slice(message).unwrap()
}

/// Id and code of a JSON-RPC error.
pub(crate) fn fault(message: &[u8]) -> (Value, i64) {
    let message = parse(message);
    assert_eq!(message["jsonrpc"], "2.0");
    (message["id"].clone(), message["error"]["code"].as_i64().unwrap())
}

/// Those of an array of errors.
pub(crate) fn faults(message: &[u8]) -> Vec<(Value, i64)> {
    let errors = parse(message);
    errors.as_array().unwrap().iter().map(|error| fault(error.to_string().as_bytes())).collect()
}

// ---- services ----

pub(crate) fn app<F, R>(handler: F) -> App
where
    F: Fn(Message) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Option<Bytes>> + Send + 'static,
{
    App::new(service_fn(move |message| {
        let answer = handler(message);
        async move { Ok(answer.await) }
    }))
}

/// Answers each request with its method; each batch by an array of such answers.
pub(crate) fn echo() -> App {
    app(|message| async move { reply(&parse(&message.bytes)) })
}

pub(crate) fn reply(message: &Value) -> Option<Bytes> {
    fn one(message: &Value) -> Option<Value> {
        let id = message.get("id")?;
        Some(json!({ "jsonrpc": "2.0", "id": id, "result": message.get("method")? }))
    }
    let answer = match message {
        Value::Array(members) => {
            let answers: Vec<Value> = members.iter().filter_map(one).collect();
            (!answers.is_empty()).then_some(Value::Array(answers))?
        }
        message => one(message)?,
    };
    Some(answer.to_string().into())
}

/// Counts what it serves.
pub(crate) fn counted(next: App) -> (App, Count) {
    let count = Count::default();
    let served = count.clone();
    let app = App::new(service_fn(move |message: Message| {
        served.add();
        next.clone().oneshot(message)
    }));
    (app, count)
}

/// Whoever stands between a client and `next`.
pub(crate) fn middle<F, R>(next: Wire, handler: F) -> Wire
where
    F: Fn(Bytes, Wire) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Option<Bytes>, Failure>> + Send + 'static,
{
    Wire::new(service_fn(move |frame| handler(frame, next.clone())))
}

pub(crate) async fn send(wire: &Wire, frame: impl Into<Bytes>) -> Option<Bytes> {
    wire.clone().oneshot(frame.into()).await.unwrap()
}

pub(crate) async fn ask(rpc: &Rpc, message: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
    rpc.clone().oneshot(message.into()).await.inspect_err(|error| recorder::look_at_error(error))
}

pub(crate) fn is_hello(frame: &[u8]) -> bool {
    frame.starts_with(b"{\"type\":\"key_exchange\"")
}

/// How many hellos and how many sealed messages went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) hellos: Count,
    pub(crate) messages: Count,
}

impl Traffic {
    pub(crate) fn through(wire: Wire) -> (Wire, Self) {
        let traffic = Traffic::default();
        let counted = traffic.clone();
        let wire = middle(wire, move |frame, next| {
            let count = if is_hello(&frame) { &counted.hellos } else { &counted.messages };
            count.add();
            next.oneshot(frame)
        });
        (wire, traffic)
    }

    pub(crate) fn values(&self) -> (usize, usize) {
        (self.hellos.value(), self.messages.value())
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    /// The value before.
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn sub(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
        Wire::new(service_fn(move |frame: Bytes| {
            let wire = switch.0.lock().unwrap().clone();
            wire.oneshot(frame)
        }))
    }
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

/// Lets every other task of this thread come as far as it can.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
