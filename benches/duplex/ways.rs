//! The ways to carry messages: one WebSocket connection each, with different things around it.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::{self, Handle},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config, client_async_with_config,
    tungstenite::{Error as WsError, Message, protocol::WebSocketConfig},
};
use tower_seal::{
    Config,
    duplex::{
        Acceptor,
        websocket::{self, Options},
    },
};

use crate::{
    echo::{Flush, Measure, echo},
    modes::{Mode, Signed},
    tls,
};

/// Plain with the buffers that sealed connections have.
pub(crate) const SMALL: &str = "plain, small buffers";

pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) client: Box<dyn Measure>,
    /// A server's and a client's.
    configs: Option<(Config, Config)>,
}

impl Way {
    pub(crate) fn signed(&self) -> Signed {
        Signed::by(self.configs.as_ref())
    }
}

pub(crate) async fn all(flush: Flush) -> Vec<Way> {
    // What sealed connections read at once.
    let small = WebSocketConfig::default().read_buffer_size(8 << 10).write_buffer_size(8 << 10);
    let mut ways = vec![
        plain("plain", flush, WebSocketConfig::default()).await,
        plain(SMALL, flush, small).await,
        mtls(flush).await,
    ];
    for mode in Mode::all() {
        ways.push(sealed(mode, flush).await);
    }
    ways
}

/// The thread of all servers.
fn server() -> &'static Handle {
    static SERVER: OnceLock<Handle> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

/// Serves one connection with what `serve` makes of it.
async fn serve<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    server().spawn(async move {
        let (stream, _) = TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        serve(stream).await;
    });
    address
}

async fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Binary messages, as bytes.
struct Raw<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Raw<S> {
    type Item = Result<Bytes, WsError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, WsError>>> {
        self.0.poll_next_unpin(cx).map_ok(Message::into_data)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Bytes> for Raw<S> {
    type Error = WsError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.0.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), WsError> {
        self.0.start_send_unpin(Message::Binary(message))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.0.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.0.poll_close_unpin(cx)
    }
}

async fn plain(name: &'static str, flush: Flush, settings: WebSocketConfig) -> Way {
    let address = serve(async move |stream| {
        echo(Raw(accept_async_with_config(stream, Some(settings)).await.unwrap()), flush).await;
    })
    .await;
    let (client, _) =
        client_async_with_config("ws://localhost/", dial(address).await, Some(settings)).await.unwrap();
    Way { name: name.to_owned(), client: Box::new(Raw(client)), configs: None }
}

/// TLS 1.3 with certificates on both sides, by rustls and aws-lc-rs.
async fn mtls(flush: Flush) -> Way {
    let (server, client) = tls::configs(rustls::crypto::aws_lc_rs::default_provider());
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let address = serve(async move |stream| {
        let stream = acceptor.accept(stream).await.unwrap();
        echo(Raw(accept_async_with_config(stream, None).await.unwrap()), flush).await;
    })
    .await;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client)).connect(name, dial(address).await).await.unwrap();
    let (client, _) = client_async_with_config("wss://localhost/", stream, None).await.unwrap();
    Way { name: "mTLS".to_owned(), client: Box::new(Raw(client)), configs: None }
}

async fn sealed(mode: Mode, flush: Flush) -> Way {
    let configs = mode.configs();
    let (server, client) = configs.clone();
    let acceptor = Acceptor::new(server);
    let address = serve(async move |stream| {
        echo(websocket::accept(stream, &acceptor).await.unwrap(), flush).await;
    })
    .await;
    let url = format!("ws://{address}/");
    let client = websocket::connect(&url, &client, &Options::new()).await.unwrap();
    Way { name: mode.to_string(), client: Box::new(client), configs: Some(configs) }
}
