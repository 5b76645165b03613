//! What strangers, peers that never read, and connections that rest cost in heap, counted by the allocator: in a
//! program of its own, where nothing else allocates meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use futures_util::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config, client_async_with_config,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig, frame::Utf8Bytes},
    },
};
use tower_seal::{
    Config, Identity,
    config::{Encoding, Hybrid, Limits},
    duplex::{
        self, Acceptor, Frame,
        websocket::{self, Options},
    },
    error::Code,
    protocol::Destination,
    trust::Pinned,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn sides(encoding: Encoding) -> (Acceptor, Config) {
    let (server, client) = (Identity::generate(), Identity::generate());
    let (server_id, client_id) = (server.node_id(), client.node_id());
    let mut limits = Limits::default();
    // Remembering hellos is bounded apart, at 64 bytes and some each.
    limits.hellos = 1;
    let server = Config::new(server, Pinned::new([client_id])).hybrid(Hybrid::Off).limits(limits);
    let client = Config::new(client, Pinned::new([server_id])).hybrid(Hybrid::Off).encoding(encoding);
    (Acceptor::new(server), client)
}

async fn client_socket(io: DuplexStream) -> WebSocketStream<DuplexStream> {
    let settings = WebSocketConfig::default().read_buffer_size(8 * KIB).write_buffer_size(8 * KIB);
    WebSocketStream::from_raw_socket(io, Role::Client, Some(settings)).await
}

fn transport(socket: &mut WebSocketStream<DuplexStream>) -> impl duplex::Transport {
    let frame = |message| match message {
        Message::Text(text) => Frame::Text(text.into()),
        message => Frame::Binary(message.into_data()),
    };
    let message = |frame| match frame {
        Frame::Text(text) => Message::Text(Utf8Bytes::try_from(text).unwrap()),
        Frame::Binary(bytes) => Message::Binary(bytes),
    };
    socket
        .map(move |got| got.map(frame))
        .with(move |frame| std::future::ready(Ok::<_, tokio_tungstenite::tungstenite::Error>(message(frame))))
}

const HERE: Destination<'static> = Destination { origin: None, audience: None, target: Some("/") };

/// What is counted is all of the program's heap.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(start_paused = true)]
async fn a_peer_that_pings_and_never_reads() {
    let _alone = ALONE.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let (acceptor, client) = sides(Encoding::Binary);
    let (here, there) = tokio::io::duplex(64 * KIB);
    let mut socket = client_socket(here).await;
    let (connected, accepted) = tokio::join!(
        duplex::connect(transport(&mut socket), &client, HERE),
        websocket::accept_upgraded(there, &acceptor, "/")
    );
    drop(connected.unwrap());
    let mut server = accepted.unwrap();
    let before = dhat::HeapStats::get().curr_bytes;
    let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
    ping.resize(6 + 125, b'x');
    let pings = ping.repeat(500);
    // 12 MiB of them, and as much to be answered.
    for _ in 0..200 {
        let (sent, nothing) = tokio::join!(socket.get_mut().write_all(&pings), async {
            for _ in 0..4 {
                if let Some(got) = server.next().now_or_never() {
                    return Some(got);
                }
                tokio::task::yield_now().await;
            }
            None
        });
        sent.unwrap();
        assert!(nothing.is_none(), "{nothing:?}");
    }
    let grown = dhat::HeapStats::get().curr_bytes - before;
    assert!(grown < 5 * MIB, "{grown} bytes");
    // What this side says still goes out, once the peer reads.
    let mut part = vec![0; 64 * KIB];
    let mut send = std::pin::pin!(server.send(vec![7; MIB].into()));
    loop {
        tokio::select! {
            sent = &mut send => break sent.unwrap(),
            read = socket.get_mut().read(&mut part) => assert!(read.unwrap() > 0),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_announces_a_long_message() {
    let _alone = ALONE.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let (acceptor, _) = sides(Encoding::Binary);
    let (mut here, there) = tokio::io::duplex(64 * KIB);
    here.write_all(&[0x81, 0xff, 0, 0, 0, 0, 0, 0x1f, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let profile = dhat::HeapStats::get();
    let mut accept = Box::pin(websocket::accept_upgraded(there, &acceptor, "/"));
    let outcome = (&mut accept).now_or_never();
    let grown = dhat::HeapStats::get().curr_bytes.saturating_sub(profile.curr_bytes);
    assert!(grown < 256 * KIB, "{grown} bytes");
    assert_eq!(outcome.unwrap().unwrap_err().code(), Some(Code::TooLarge));
}

/// At most 8 KiB for each end beyond the WebSocket's own, after a message of 1 KiB each way.
#[tokio::test]
async fn a_connection_that_rests() {
    let _alone = ALONE.lock().await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let settings = WebSocketConfig::default().read_buffer_size(8 * KIB).write_buffer_size(8 * KIB);
    let plain = measure(async move |listener: &TcpListener| {
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let client = client_async_with_config("ws://localhost/", tcp, Some(settings));
        let server = async {
            accept_async_with_config(listener.accept().await.unwrap().0, Some(settings)).await.unwrap()
        };
        let (client, server) = tokio::join!(client, server);
        (client.unwrap().0, server)
    })
    .await;
    for encoding in [Encoding::Binary, Encoding::Json] {
        let (acceptor, config) = sides(encoding);
        let sealed = measure(async move |listener: &TcpListener| {
            let url = format!("ws://{}/", listener.local_addr().unwrap());
            let options = Options::new();
            let client = websocket::connect(&url, &config, &options);
            let server = async { websocket::accept(listener.accept().await.unwrap().0, &acceptor).await };
            tokio::try_join!(client, server).unwrap()
        })
        .await;
        let beyond = sealed.saturating_sub(plain);
        assert!(beyond <= 8 * KIB, "{beyond} bytes beyond the {plain} of a plain WebSocket, {encoding:?}");
    }
}

/// Bytes of heap for one end.
async fn measure<A, B, M, E>(connect: impl AsyncFn(&TcpListener) -> (A, B)) -> usize
where
    A: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    B: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: From<Kib>,
    E: std::fmt::Debug,
{
    const CONNECTIONS: usize = 20;
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
    (dhat::HeapStats::get().curr_bytes - before) / CONNECTIONS / 2
}

/// A message of 1 KiB.
struct Kib;

impl From<Kib> for Bytes {
    fn from(_: Kib) -> Bytes {
        vec![b'x'; KIB].into()
    }
}

impl From<Kib> for Message {
    fn from(_: Kib) -> Message {
        Message::Binary(Kib.into())
    }
}
