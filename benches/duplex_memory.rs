//! What a sealed connection costs beyond the WebSocket's own memory, counted by the allocator.
//! `cargo bench --bench duplex_memory --features websocket`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_async_with_config, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tower_seal::{
    Config, Identity,
    config::{Encoding, Limits},
    duplex::{
        Acceptor,
        websocket::{self, Options},
    },
    trust::Pinned,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const CONNECTIONS: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let settings = WebSocketConfig::default().read_buffer_size(8 << 10).write_buffer_size(8 << 10);
    let plain = measure(async move |listener: &TcpListener| {
        let url = "ws://localhost/";
        let client = async {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client_async_with_config(url, stream, Some(settings)).await.unwrap().0
        };
        let server = async {
            accept_async_with_config(listener.accept().await.unwrap().0, Some(settings)).await.unwrap()
        };
        tokio::join!(client, server)
    })
    .await;
    println!("{plain} bytes of heap for an end of a plain WebSocket with buffers of 8 KiB");
    for encoding in [Encoding::Binary, Encoding::Json] {
        let (server, client) = (Identity::generate(), Identity::generate());
        let (server_id, client_id) = (server.node_id(), client.node_id());
        let mut limits = Limits::default();
        // Remembering hellos is bounded apart, at 64 bytes and some each.
        limits.hellos = 1;
        let acceptor = Acceptor::new(Config::new(server, Pinned::new([client_id])).limits(limits));
        let config = Config::new(client, Pinned::new([server_id])).encoding(encoding);
        let sealed = measure(async move |listener: &TcpListener| {
            let url = format!("ws://{}/", listener.local_addr().unwrap());
            let options = Options::new();
            let client = websocket::connect(&url, &config, &options);
            let server = async { websocket::accept(listener.accept().await.unwrap().0, &acceptor).await };
            tokio::try_join!(client, server).unwrap()
        })
        .await;
        println!("{} bytes beyond that for a sealed one, {encoding:?}", sealed.saturating_sub(plain));
    }
}

/// Bytes of heap for one end, after a message of 1 KiB each way.
async fn measure<A, B, M, E>(connect: impl AsyncFn(&TcpListener) -> (A, B)) -> usize
where
    A: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    B: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: From<Kib>,
    E: std::fmt::Debug,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let used = async || {
        let (mut client, mut server) = connect(&listener).await;
        client.send(Kib.into()).await.unwrap();
        server.next().await.unwrap().unwrap();
        server.send(Kib.into()).await.unwrap();
        client.next().await.unwrap().unwrap();
        (client, server)
    };
    let mut kept = Vec::with_capacity(CONNECTIONS + 1);
    kept.push(used().await);
    let before = dhat::HeapStats::get().curr_bytes;
    for _ in 0..CONNECTIONS {
        kept.push(used().await);
    }
    let after = dhat::HeapStats::get().curr_bytes;
    let inline = size_of::<A>() + size_of::<B>();
    println!("  (of which the connection itself, which may be on a stack: {} bytes)", inline / 2);
    (after - before) / CONNECTIONS / 2
}

/// A message of 1 KiB.
struct Kib;

impl From<Kib> for Bytes {
    fn from(_: Kib) -> Bytes {
        vec![b'x'; 1024].into()
    }
}

impl From<Kib> for Message {
    fn from(_: Kib) -> Message {
        Message::Binary(Kib.into())
    }
}
