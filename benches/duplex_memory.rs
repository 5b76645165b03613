//! What a live sealed connection costs each side beyond the WebSocket's own memory, counted by the allocator over
//! 10,000 of them; ends with 1 where that is more than 8 KiB.
//! `cargo bench --bench duplex_memory --features websocket,aws-lc-rs`
//!
//! Each side is a process of its own, so that neither needs more than one descriptor for a connection, and so that
//! resident memory begins anew. That counts what AWS-LC allocates in C too, and is known on Linux only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{BufRead as _, BufReader, Lines},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, ExitCode, Stdio, exit},
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use peak_alloc::PeakAlloc;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_async_with_config, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tower_seal::{
    Config, Identity,
    config::{Backend, Encoding, Limits},
    duplex::{
        Acceptor,
        websocket::{self, Options},
    },
    trust::AnyIdentity,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const CONNECTIONS: usize = 10_000;

/// The most beyond the WebSocket's own, in bytes, by either count.
const MOST: usize = 8 << 10;

/// Bytes for one connection.
#[derive(Clone, Copy, Default)]
struct Cost {
    heap: usize,
    resident: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(end) = arguments.iter().position(|argument| argument == "--end") {
        let way = Way::all()[arguments[end + 2].parse::<usize>().unwrap()];
        run(&arguments[end + 1], way);
        return ExitCode::SUCCESS;
    }
    println!("bytes of heap, and in brackets of resident memory, each of {CONNECTIONS}\n");
    println!("| what | client | server |\n|---|---|---|");
    let (mut own, mut worst) = ([Cost::default(); 2], 0);
    for (index, way) in Way::all().into_iter().enumerate() {
        let mut costs = measure(index);
        if way.is_sealed() {
            costs = [costs[0].beyond(own[0]), costs[1].beyond(own[1])];
            worst = costs.iter().fold(worst, |worst, cost| cost.heap.max(cost.resident).max(worst));
        } else {
            own = costs;
        }
        let [client, server] = costs.map(|cost| format!("{} ({})", cost.heap, cost.resident));
        println!("| {} | {client} | {server} |", way.name());
    }
    if worst > MOST {
        println!("\na sealed connection takes {worst} bytes: that is above {MOST}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

impl Cost {
    fn now() -> Self {
        // Elsewhere than on Linux nothing is known.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Cost { heap: HEAP.current_usage(), resident: resident << 10 }
    }

    fn beyond(self, own: Self) -> Self {
        Cost {
            heap: self.heap.saturating_sub(own.heap),
            resident: self.resident.saturating_sub(own.resident),
        }
    }
}

/// A client and a server, each of which says what its connections cost.
fn measure(way: usize) -> [Cost; 2] {
    let mut server = End::start(&["server", &way.to_string()]);
    let mut client = End::start(&["client", &way.to_string(), &server.line()]);
    // Both live until both have counted.
    let costs = [&mut client, &mut server].map(End::cost);
    client.stop();
    server.stop();
    costs
}

/// This program again, as one side.
struct End {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl End {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("--end")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        End { process, output }
    }

    fn line(&mut self) -> String {
        self.output.next().unwrap().unwrap()
    }

    fn cost(&mut self) -> Cost {
        Cost { heap: self.line().parse().unwrap(), resident: self.line().parse().unwrap() }
    }

    fn stop(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

#[derive(Clone, Copy)]
enum Way {
    /// With the buffers that sealed connections have.
    Plain,
    Sealed(Backend, Encoding),
}

impl Way {
    fn all() -> Vec<Way> {
        let sealed = Backend::ALL.iter().map(|&backend| Way::Sealed(backend, Encoding::Binary));
        let json = Way::Sealed(Backend::default(), Encoding::Json);
        [Way::Plain].into_iter().chain(sealed).chain([json]).collect()
    }

    fn is_sealed(self) -> bool {
        matches!(self, Way::Sealed(..))
    }

    fn name(self) -> String {
        match self {
            Way::Plain => "plain WebSocket with buffers of 8 KiB, idle".to_owned(),
            Way::Sealed(backend, encoding) => {
                let encoding = if encoding == Encoding::Binary { "binary" } else { "json" };
                format!("beyond that a sealed one, {encoding}, {backend:?}")
            }
        }
    }

    fn config(backend: Backend) -> Config {
        let mut limits = Limits::default();
        limits.handshakes_per_second = u32::MAX;
        // Remembering hellos is bounded apart, at 64 bytes and some each.
        limits.hellos = 1;
        Config::new(Identity::generate(), AnyIdentity).backend(backend).limits(limits)
    }
}

/// Says where it listens, as a server; then what its connections cost. Ends when its input does.
#[tokio::main(flavor = "current_thread")]
async fn run(end: &str, way: Way) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        exit(0);
    });
    raise_limit();
    match end {
        "server" => serve(way).await,
        _ => connect(way, std::env::args().next_back().unwrap().parse().unwrap()).await,
    }
}

async fn serve(way: Way) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let accept = async || listener.accept().await.unwrap().0;
    match way {
        Way::Plain => {
            keep(async || echo(accept_async_with_config(accept().await, settings()).await.unwrap()).await)
                .await
        }
        Way::Sealed(backend, _) => {
            let acceptor = Acceptor::new(Way::config(backend));
            keep(async || echo(websocket::accept(accept().await, &acceptor).await.unwrap()).await).await
        }
    }
}

async fn connect(way: Way, address: SocketAddr) {
    let url = format!("ws://{address}/");
    match way {
        Way::Plain => {
            keep(async || {
                let stream = TcpStream::connect(address).await.unwrap();
                ask(client_async_with_config(&url, stream, settings()).await.unwrap().0).await
            })
            .await
        }
        Way::Sealed(backend, encoding) => {
            let (config, options) = (Way::config(backend).encoding(encoding), Options::new());
            keep(async || ask(websocket::connect(&url, &config, &options).await.unwrap()).await).await
        }
    }
}

fn settings() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().read_buffer_size(8 << 10).write_buffer_size(8 << 10))
}

/// Says what it costs to have the connections, from the second on.
async fn keep<C>(connection: impl AsyncFn() -> C) {
    let mut kept = Vec::with_capacity(CONNECTIONS + 1);
    kept.push(connection().await);
    let before = Cost::now();
    for _ in 0..CONNECTIONS {
        kept.push(connection().await);
    }
    let cost = Cost::now().beyond(before);
    println!("{}\n{}", cost.heap / CONNECTIONS, cost.resident / CONNECTIONS);
    std::future::pending::<()>().await;
}

/// A connection, as a task holds it on the heap, after a message of 1 KiB each way.
async fn ask<C, M, E>(mut connection: C) -> Box<C>
where
    C: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: From<Kib>,
    E: std::fmt::Debug,
{
    connection.send(Kib.into()).await.unwrap();
    connection.next().await.unwrap().unwrap();
    Box::new(connection)
}

async fn echo<C, M, E>(mut connection: C) -> Box<C>
where
    C: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    E: std::fmt::Debug,
{
    let message = connection.next().await.unwrap().unwrap();
    connection.send(message).await.unwrap();
    Box::new(connection)
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

/// As many descriptors as may be.
fn raise_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}
