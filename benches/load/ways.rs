//! The ways to carry a request: hyper's client to an axum server that echoes, with different things between.

mod by_hand;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, routing::post};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::{Layer as _, Service, ServiceExt as _};
use tower_seal::{
    Config,
    config::Backend,
    http::{SealLayer, UnsealLayer},
};

use crate::{
    modes::{Mode, Signed},
    tls,
};

type Call = Arc<dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

pub(crate) struct Way {
    pub(crate) name: String,
    call: Call,
    /// A server's and a client's.
    configs: Option<(Config, Config)>,
}

impl Way {
    pub(crate) fn signed(&self) -> Signed {
        Signed::by(self.configs.as_ref())
    }

    /// Requests per second with so many in flight.
    pub(crate) async fn measure(&self, size: usize, in_flight: usize, time: Duration) -> f64 {
        let body = Bytes::from(vec![b'x'; size]);
        let done = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let end = start + time;
        let workers: Vec<_> = (0..in_flight)
            .map(|_| {
                let (call, body, done) = (self.call.clone(), body.clone(), done.clone());
                tokio::spawn(async move {
                    while Instant::now() < end {
                        call(body.clone()).await;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
    }
}

pub(crate) async fn all() -> Vec<Way> {
    let mut ways = vec![plain().await, mtls().await];
    for backend in Backend::ALL.iter().copied() {
        ways.push(by_hand::way(backend).await);
    }
    for mode in Mode::all() {
        ways.push(sealed(mode).await);
    }
    ways
}

fn echo() -> Router {
    Router::new().route("/echo", post(async |body: Bytes| body))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

/// Serves connections, each after `accept` has made something of it.
async fn serve<S, R, A, F, I>(app: S, accept: A) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    A: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = I> + Send + 'static,
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let (stream, app) = (accept(stream), app.clone());
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                // Errors are how clients go away.
                let _ =
                    http.serve_connection(TokioIo::new(stream.await), TowerToHyperService::new(app)).await;
            });
        }
    });
    address
}

fn way<S, R>(name: impl ToString, scheme: &str, address: SocketAddr, service: S) -> Way
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Future: Send, Error: std::fmt::Debug>
        + Clone
        + Send
        + Sync
        + 'static,
    R: http_body::Body<Error: std::fmt::Debug, Data: Send> + Send,
{
    let url = format!("{scheme}://localhost:{}/echo", address.port());
    let call: Call = Arc::new(move |body| {
        let (service, length) = (service.clone(), body.len());
        let request = Request::post(&url).body(Full::new(body)).unwrap();
        Box::pin(async move {
            let response = service.oneshot(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), length);
        })
    });
    Way { name: name.to_string(), call, configs: None }
}

async fn plain() -> Way {
    let address = serve(echo(), std::future::ready).await;
    way("plain", "http", address, Client::builder(TokioExecutor::new()).build(connector()))
}

async fn sealed(mode: Mode) -> Way {
    let configs = mode.configs();
    let (server, client) = configs.clone();
    let address = serve(UnsealLayer::new(server).layer(echo()), std::future::ready).await;
    let http = Client::builder(TokioExecutor::new()).build(connector());
    Way { configs: Some(configs), ..way(mode, "http", address, SealLayer::new(client).layer(http)) }
}

/// TLS 1.3 with certificates on both sides, by rustls and aws-lc-rs.
async fn mtls() -> Way {
    let (server, client) = tls::configs(rustls::crypto::aws_lc_rs::default_provider());
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let address = serve(echo(), move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream).await.unwrap() }
    })
    .await;
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(client)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector());
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(https);
    way("mTLS", "https", address, client)
}
