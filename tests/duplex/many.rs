//! A thousand connections, opened and closed, leave nothing behind.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};
use tower_seal::{
    Config, Identity,
    config::{Hybrid, Limits},
    duplex::{
        pipe,
        websocket::{self, Options},
    },
    protocol::Destination,
    telemetry::Metric,
    trust::{AnyIdentity, Pinned},
};

use crate::support::*;

/// A socket that can be counted.
struct Counted<S>(S, #[allow(dead_code)] Arc<()>);

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

const MANY: usize = 1000;

/// A server, and clients of several identities, as one may not have so many handshakes at once.
struct Crowd {
    sides: Sides,
    clients: Vec<Config>,
}

impl Crowd {
    fn new() -> Self {
        let mut limits = Limits::default();
        // It is not the speed that is tested here.
        limits.handshake = 200 * SECOND;
        let mut sides = Sides::new();
        sides.server =
            Config::new(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off).limits(limits.clone());
        let client = |_| {
            let servers = Pinned::new([sides.server.node_id()]);
            Config::new(Identity::generate(), servers).hybrid(Hybrid::Off).limits(limits.clone())
        };
        Crowd { clients: (0..MANY / 8).map(client).collect(), sides }
    }

    fn client(&self, i: usize) -> &Config {
        &self.clients[i / 8]
    }

    fn assert_nothing_left(&self, sockets: &Arc<()>) {
        assert_eq!(Arc::strong_count(sockets), 1, "sockets are left");
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "tasks are left");
        for config in self.clients.iter().chain([&self.sides.server]) {
            assert_eq!(config.telemetry().value(Metric::ConnectionsLive), 0);
            assert_eq!(config.telemetry().value(Metric::SessionsLive), 0);
        }
    }
}

#[tokio::test]
async fn a_thousand_pipes_at_once() {
    let crowd = Crowd::new();
    let (acceptor, sockets) = (crowd.sides.acceptor(), Arc::new(()));
    let pairs = join_all((0..MANY).map(async |i| {
        let (here, there) = tokio::io::duplex(4096);
        let (here, there) = (Counted(here, sockets.clone()), Counted(there, sockets.clone()));
        let (client, server) = tokio::join!(
            pipe::connect(here, crowd.client(i), Destination::default()),
            pipe::accept(there, &acceptor)
        );
        (client.unwrap(), server.unwrap())
    }))
    .await;
    assert_eq!(crowd.sides.server.telemetry().value(Metric::ConnectionsLive), MANY as u64);
    join_all(pairs.into_iter().enumerate().map(async |(i, (mut client, mut server))| {
        converse(&mut client, &mut server).await;
        // Tidily, or not.
        if i % 2 == 0 {
            part(&mut client, &mut server).await;
        }
    }))
    .await;
    crowd.assert_nothing_left(&sockets);
}

/// Sockets of this process. Other tests have some too, so they are told apart by where they lead.
fn descriptors_at(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let ours: std::collections::HashSet<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    table
        .lines()
        .skip(1)
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|fields| {
            (fields[1].ends_with(&port) || fields[2].ends_with(&port)) && ours.contains(fields[9])
        })
        .count()
}

#[tokio::test]
async fn a_thousand_websockets_at_once() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // Two for each, and as many as the other tests may have open.
    let wanted = 2 * MANY as u64 + 1000;
    if limit.current.is_some_and(|now| now < wanted) {
        let raised = rustix::process::Rlimit { current: Some(wanted), ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    }
    let crowd = Crowd::new();
    let (acceptor, sockets) = (crowd.sides.acceptor(), Arc::new(()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("ws://127.0.0.1:{port}/mcp");
    let options = Options::new();
    let pair = async |i| {
        let serve = async {
            let tcp: TcpStream = listener.accept().await.unwrap().0;
            websocket::accept(Counted(tcp, sockets.clone()), &acceptor).await.unwrap()
        };
        tokio::join!(async { websocket::connect(&url, crowd.client(i), &options).await.unwrap() }, serve)
    };
    // No more of them wait to be accepted than a kernel takes.
    let pairs: Vec<_> = stream::iter(0..MANY).map(pair).buffer_unordered(100).collect().await;
    assert_eq!(crowd.sides.server.telemetry().value(Metric::ConnectionsLive), MANY as u64);
    assert_eq!(descriptors_at(port), 2 * MANY + 1);
    // Whom each is connected to is the kernel's choice.
    let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let serve = join_all(servers.into_iter().map(async |mut server| {
        while let Some(Ok(message)) = server.next().await {
            server.send(message).await.unwrap();
        }
        let _ = server.close().await;
    }));
    let call = join_all(clients.into_iter().enumerate().map(async |(i, mut client)| {
        client.send("hello".into()).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), "hello");
        // Tidily, or not.
        if i % 2 == 0 {
            client.close().await.unwrap();
            assert!(client.next().await.is_none());
        }
    }));
    tokio::join!(serve, call);
    crowd.assert_nothing_left(&sockets);
    assert_eq!(descriptors_at(port), 1, "beside the one that listens");
}
