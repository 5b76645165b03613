//! The load, and what is left of it: the same code is a bench and a test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinSet};
use tower::{Layer as _, ServiceExt as _};
use tower_seal::{
    Config, Error, Identity,
    config::{Backend, Limits},
    duplex::{
        Acceptor,
        websocket::{self, Options},
    },
    http::{SealLayer, UnsealLayer},
    telemetry::Metric,
    trust::{AnyIdentity, Pinned},
};

use crate::marks::{Mark, Marks};

/// Nodes that call over HTTP, and as many over WebSocket; each with so many calls or connections at once.
const NODES: usize = 4;
const AT_ONCE: usize = 4;
const PIECES: usize = 20;

/// So that sessions are made all the time, and everything that is bounded is full soon.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.session = Duration::from_secs(4);
    // It is not the speed that is tested here.
    limits.handshake = Duration::from_secs(60);
    (limits.sessions, limits.sessions_per_peer, limits.provisional, limits.hellos) = (64, 4, 16, 256);
    limits.rekey_records = 1000;
    limits
}

fn config(trust: impl tower_seal::trust::Trust) -> Config {
    Config::new(Identity::generate(), trust).backend(*Backend::ALL.last().unwrap()).limits(limits())
}

/// What lives from the beginning to the end.
struct Stage {
    server: Config,
    http: String,
    websocket: String,
    layers: Vec<SealLayer>,
    nodes: Vec<Config>,
    over: AtomicBool,
    calls: AtomicU64,
    messages: AtomicU64,
    unknown: AtomicU64,
}

/// Loads a server for `duration`, and compares what is left after the first sixth of that with what is left at the
/// end. `heap` says how many bytes are allocated.
pub(crate) async fn soak(duration: Duration, heap: fn() -> usize) -> Marks {
    let server = config(AnyIdentity);
    let (http, websocket) = (serve_http(&server).await, serve_websocket(&server).await);
    let node = || config(Pinned::new([server.node_id()]));
    let stage = Arc::new(Stage {
        layers: (0..NODES).map(|_| SealLayer::new(node())).collect(),
        nodes: (0..NODES).map(|_| node()).collect(),
        server,
        http,
        websocket,
        over: AtomicBool::new(false),
        calls: AtomicU64::new(0),
        messages: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
    });
    let warm_up = duration / 6;
    let early = stage.clone().go(warm_up, heap).await;
    let late = stage.clone().go(duration - warm_up, heap).await;
    let [calls, messages, unknown] =
        [&stage.calls, &stage.messages, &stage.unknown].map(|count| count.load(Ordering::Relaxed));
    let sessions = stage.server.telemetry().value(Metric::Handshakes);
    println!("{calls} calls, {messages} messages, {sessions} sessions made, in {duration:?}");
    println!("{unknown} calls came just when their session ended");
    assert!(unknown <= calls / 20, "calls fail");
    Marks { early, late }
}

impl Stage {
    /// Full load for so long, and then none: what is left.
    async fn go(self: Arc<Self>, time: Duration, heap: fn() -> usize) -> Mark {
        self.over.store(false, Ordering::SeqCst);
        let mut load = JoinSet::new();
        for number in 0..NODES {
            // Its connections end with it, and the sessions of the layer stay.
            let client = Client::builder(TokioExecutor::new()).build_http();
            let http = self.layers[number].layer(client);
            for _ in 0..AT_ONCE {
                load.spawn(self.clone().call(http.clone()));
                load.spawn(self.clone().converse(number));
            }
        }
        let end = Instant::now() + time;
        tokio::time::sleep_until(end.into()).await;
        self.over.store(true, Ordering::SeqCst);
        while let Some(ended) = load.join_next().await {
            ended.unwrap();
        }
        // Until there are the two that listen and the sweepers, of the server and of each layer, or it is clear that
        // something hangs.
        let (metrics, telemetry) = (Handle::current().metrics(), self.server.telemetry());
        let is_left =
            || metrics.num_alive_tasks() > 3 + NODES || telemetry.value(Metric::ConnectionsLive) > 0;
        let patience = Instant::now() + Duration::from_secs(10);
        while is_left() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Mark::now(heap(), metrics.num_alive_tasks(), telemetry)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// One HTTP call after the other.
    async fn call<S>(self: Arc<Self>, http: S)
    where
        S: tower::Service<
                Request<Full<Bytes>>,
                Response = http::Response<tower_seal::http::OpenBody<hyper::body::Incoming>>,
                Error = Error,
            > + Clone,
    {
        let mut number = 0_usize;
        while !self.is_over() {
            number += 1;
            let (path, size) = [("echo", 1000), ("echo", 10), ("stream", 0), ("echo", 100_000)][number % 4];
            let content = Bytes::from(vec![b'x'; size]);
            let request = match path {
                "echo" => Request::post(format!("{}/echo", self.http)).body(Full::new(content.clone())),
                _ => Request::get(format!("{}/stream", self.http)).body(Full::default()),
            };
            let response = match http.clone().oneshot(request.unwrap()).await {
                // A machine that is too busy to renew a session in the tenth of its time that there is for that.
                Err(Error::OutcomeUnknown) => {
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                response => response.unwrap(),
            };
            if number.is_multiple_of(64) {
                // Not read to its end.
                continue;
            }
            let got = response.into_body().collect().await.unwrap().to_bytes();
            match path {
                "echo" => assert_eq!(got.len(), size),
                _ => assert_eq!(got.len(), PIECES * 100),
            }
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One connection after the other, closed tidily or dropped.
    async fn converse(self: Arc<Self>, node: usize) {
        let options = Options::new();
        let mut number = 0_usize;
        while !self.is_over() {
            number += 1;
            let mut connection =
                websocket::connect(&self.websocket, &self.nodes[node], &options).await.unwrap();
            for message in 0..100 {
                let message = Bytes::from(vec![b'x'; 1 + message * 100]);
                connection.send(message.clone()).await.unwrap();
                assert_eq!(connection.next().await.unwrap().unwrap(), message);
                self.messages.fetch_add(1, Ordering::Relaxed);
            }
            if number.is_multiple_of(2) {
                connection.close().await.unwrap();
                assert!(connection.next().await.is_none());
            }
        }
    }
}

async fn serve_http(config: &Config) -> String {
    let piece = || Bytes::from(vec![b'y'; 100]);
    let pieces = move || stream::iter((0..PIECES).map(move |_| Ok::<_, std::io::Error>(piece())));
    let app = Router::new()
        .route("/echo", post(async |body: Bytes| body))
        .route("/stream", get(async move || Body::from_stream(pieces())));
    let app = UnsealLayer::new(config.clone()).layer(app);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            let app = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                // Errors are how clients go away.
                let _ = http.serve_connection(TokioIo::new(socket), app).await;
            });
        }
    });
    url
}

async fn serve_websocket(config: &Config) -> String {
    let acceptor = Acceptor::new(config.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut connection = websocket::accept(socket, &acceptor).await.unwrap();
                while let Some(Ok(message)) = connection.next().await {
                    if connection.send(message).await.is_err() {
                        return;
                    }
                }
                let _ = connection.close().await;
            });
        }
    });
    url
}
