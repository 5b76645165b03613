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
    duplex::Sealed,
    duplex::pipe::{self, Pipe},
    error::Code,
    protocol::Destination,
};

use crate::support::*;

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
