//! A thousand connections, opened and closed, leave nothing behind.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Handle,
};
use tower_seal::{
    duplex::{
        pipe,
        websocket::{self, Options},
    },
    protocol::Destination,
    telemetry::Metric,
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

fn assert_nothing_left(sides: &Sides, sockets: &Arc<()>) {
    assert_eq!(Arc::strong_count(sockets), 1, "sockets are left");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "tasks are left");
    for config in [&sides.client, &sides.server] {
        assert_eq!(config.telemetry().value(Metric::ConnectionsLive), 0);
        assert_eq!(config.telemetry().value(Metric::SessionsLive), 0);
    }
}

#[tokio::test]
async fn a_thousand_pipes_at_once() {
    let sides = Sides::new();
    let (acceptor, sockets) = (sides.acceptor(), Arc::new(()));
    let pairs = join_all((0..1000).map(async |_| {
        let (here, there) = tokio::io::duplex(4096);
        let (here, there) = (Counted(here, sockets.clone()), Counted(there, sockets.clone()));
        let (client, server) = tokio::join!(
            pipe::connect(here, &sides.client, Destination::default()),
            pipe::accept(there, &acceptor)
        );
        (client.unwrap(), server.unwrap())
    }))
    .await;
    assert_eq!(sides.server.telemetry().value(Metric::ConnectionsLive), 1000);
    join_all(pairs.into_iter().enumerate().map(async |(i, (mut client, mut server))| {
        converse(&mut client, &mut server).await;
        // Tidily, or not.
        if i % 2 == 0 {
            part(&mut client, &mut server).await;
        }
    }))
    .await;
    assert_nothing_left(&sides, &sockets);
}

#[tokio::test]
async fn a_thousand_websockets_a_hundred_at_once() {
    let sides = Sides::new();
    let (acceptor, sockets) = (sides.acceptor(), Arc::new(()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/mcp", listener.local_addr().unwrap());
    let options = Options::new();
    for _ in 0..10 {
        join_all((0..100).map(async |i| {
            let serve = async {
                let tcp: TcpStream = listener.accept().await.unwrap().0;
                let mut server = websocket::accept(Counted(tcp, sockets.clone()), &acceptor).await.unwrap();
                while let Some(Ok(message)) = server.next().await {
                    server.send(message).await.unwrap();
                }
                let _ = server.close().await;
            };
            let call = async {
                let mut client = websocket::connect(&url, &sides.client, &options).await.unwrap();
                client.send("hello".into()).await.unwrap();
                assert_eq!(client.next().await.unwrap().unwrap(), "hello");
                if i % 2 == 0 {
                    client.close().await.unwrap();
                    assert!(client.next().await.is_none());
                }
            };
            tokio::join!(serve, call);
        }))
        .await;
    }
    assert_nothing_left(&sides, &sockets);
}
