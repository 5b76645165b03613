//! A pipe that breaks after any number of bytes of the handshake, in either direction.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tower_seal::{
    Error,
    duplex::{
        self, Sealed,
        pipe::{self, Pipe},
        websocket,
    },
    error::Code,
    protocol::Destination,
};

use crate::{
    sockets::{client_side, destination},
    support::*,
};

/// What can be read ends after so many bytes.
struct Cut {
    io: DuplexStream,
    left: usize,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = vec![0; self.left.min(buf.remaining())];
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        self.left -= part.filled().len();
        self.read.fetch_add(part.filled().len(), Ordering::SeqCst);
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

type Outcome = Result<Sealed<Pipe<Cut>>, Error>;

/// Returns how many bytes each side read, too.
async fn shake(sides: &Sides, client_reads: usize, server_reads: usize) -> (Outcome, Outcome, [usize; 2]) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let here = Cut { io: here, left: client_reads, read: counts[0].clone() };
    let there = Cut { io: there, left: server_reads, read: counts[1].clone() };
    let acceptor = sides.acceptor();
    // Whichever fails is dropped, as an application would, so that the other sees the end.
    let (client, server) = tokio::join!(
        pipe::connect(here, &sides.client, Destination::default()),
        pipe::accept(there, &acceptor)
    );
    (client, server, counts.map(|count| count.load(Ordering::SeqCst)))
}

fn ended(error: &Error) -> bool {
    matches!(error.code(), Some(Code::Truncated)) || matches!(error, Error::Transport(_))
}

#[tokio::test(start_paused = true)]
async fn at_every_byte() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (client, server, [to_client, to_server]) = shake(&sides, usize::MAX, usize::MAX).await;
        drop((client.unwrap(), server.unwrap()));
        for cut in 0..to_server {
            let (client, server, _) = shake(&sides, usize::MAX, cut).await;
            assert!(ended(&server.unwrap_err()), "{cut}");
            assert!(ended(&client.unwrap_err()), "{cut}");
        }
        for cut in 0..to_client {
            let (client, server, _) = shake(&sides, cut, usize::MAX).await;
            assert!(ended(&client.unwrap_err()), "{cut}");
            // It may have finished before the client missed something.
            match server {
                Ok(mut server) => assert!(ended(&server.next().await.unwrap().unwrap_err()), "{cut}"),
                Err(error) => assert!(ended(&error), "{cut}"),
            }
        }
        assert_eq!(sides.server.telemetry().value(tower_seal::telemetry::Metric::SessionsLive), 0);
    }
}

/// What the server reads of a WebSocket, whose request to upgrade has been answered.
async fn shake_websocket(
    sides: &Sides,
    server_reads: usize,
) -> (Result<(), Error>, Result<(), Error>, usize) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let count = Arc::new(AtomicUsize::new(0));
    let there = Cut { io: there, left: server_reads, read: count.clone() };
    let acceptor = sides.acceptor();
    let (client, server) = tokio::join!(
        async { duplex::connect(client_side(here).await, &sides.client, destination()).await.map(drop) },
        async { websocket::accept_upgraded(there, &acceptor, "/").await.map(drop) }
    );
    (client, server, count.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn at_every_byte_of_a_websocket() {
    let sides = Sides::new();
    let (client, server, to_server) = shake_websocket(&sides, usize::MAX).await;
    client.unwrap();
    server.unwrap();
    // Closing it is not part of the handshake, and is the rest.
    let mut done = false;
    for cut in 0..to_server {
        let (client, server, _) = shake_websocket(&sides, cut).await;
        match server {
            Err(error) => assert!(!done && ended(&error) && ended(&client.unwrap_err()), "{cut}"),
            Ok(()) => done = true,
        }
    }
    assert_eq!(sides.server.telemetry().value(tower_seal::telemetry::Metric::SessionsLive), 0);
}

#[tokio::test(start_paused = true)]
async fn within_a_message() {
    use futures_util::SinkExt as _;
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (client, server, [_, before]) = shake(&sides, usize::MAX, usize::MAX).await;
        drop((client, server));
        for cut in [0, 1, 3, 4, 5, 20, 100, 160] {
            let (client, server, _) = shake(&sides, usize::MAX, before + cut).await;
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            client.send("x".repeat(100).into()).await.unwrap();
            assert_failed(&mut server, Code::Truncated).await;
        }
    }
}
