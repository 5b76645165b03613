//! The same for connections over a pipe.

use std::time::Instant;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tower_seal::{
    config::Backend,
    duplex::{Acceptor, pipe},
    protocol::{Destination, Final, Initiator, Opener, Responder, Sealer, Session},
};

use crate::{
    known::Known,
    shells::{Said, WORDS, config, initiator, parse, responder, show, test},
};

async fn put(pipe: &mut DuplexStream, message: &[u8]) {
    pipe.write_u32(message.len() as u32).await.unwrap();
    pipe.write_all(message).await.unwrap();
}

async fn get(pipe: &mut DuplexStream) -> Bytes {
    let length = pipe.read_u32().await.unwrap();
    let mut message = vec![0; length as usize];
    pipe.read_exact(&mut message).await.unwrap();
    message.into()
}

/// The streams of a duplex connection, until both have ended.
async fn converse(mut pipe: DuplexStream, session: Session) {
    let (mut sealer, mut opener): (Sealer, Opener) = session.into_duplex(true, Instant::now()).unwrap();
    pipe.write_all(&sealer.seal(&b""[..], Final::No, Instant::now()).unwrap()).await.unwrap();
    opener.open(parse(&get(&mut pipe).await), Instant::now()).unwrap();
    for last in [Final::No, Final::No, Final::Yes] {
        pipe.write_all(&sealer.seal(WORDS.as_bytes(), last, Instant::now()).unwrap()).await.unwrap();
    }
    while !opener.is_finished() {
        opener.open(parse(&get(&mut pipe).await), Instant::now()).unwrap();
    }
}

/// Sends back what comes, until it ends, from a task of its own, whose memory is given back too.
async fn echo(
    sealed: Result<tower_seal::duplex::Sealed<pipe::Pipe<DuplexStream>>, tower_seal::Error>,
) -> String {
    let mut sealed = sealed.unwrap();
    while let Some(message) = sealed.next().await {
        sealed.send(message.unwrap()).await.unwrap();
    }
    sealed.close().await.unwrap();
    show(&sealed)
}

const BOTH_STREAMS: [(u8, u64, Vec<u8>); 2] = [(0, 0, Vec::new()), (1, 0, Vec::new())];

async fn connect_duplex(rng: &mut Known, backend: Backend) -> Said {
    let (server, client) = (config(rng, backend), config(rng, backend));
    let (mut near, far) = tokio::io::duplex(4096);
    let end = tokio::spawn(async move { echo(pipe::accept(far, &Acceptor::new(server)).await).await });
    let at = rng.count();
    let (hello, initiator) = Initiator::start(&client, Destination::default(), rng).unwrap();
    put(&mut near, &hello).await;
    let reply = get(&mut near).await;
    converse(near, initiator.finish(&reply, Instant::now()).unwrap()).await;
    let shown = end.await.unwrap();
    Said { hello, reply, at, streams: BOTH_STREAMS.into(), shown }
}

async fn accept_duplex(rng: &mut Known, backend: Backend) -> Said {
    let (server, client) = (config(rng, backend), config(rng, backend));
    let (near, mut far) = tokio::io::duplex(4096);
    let end =
        tokio::spawn(async move { echo(pipe::connect(near, &client, Destination::default()).await).await });
    let hello = get(&mut far).await;
    let at = rng.count();
    let responder = Responder::new(server);
    let (reply, session) = responder.accept(&hello, |_| true, || true, rng, Instant::now()).unwrap();
    put(&mut far, &reply).await;
    converse(far, session).await;
    let shown = end.await.unwrap();
    Said { hello, reply, at, streams: BOTH_STREAMS.into(), shown }
}

#[test]
fn duplex_acceptors_leave_no_secret() {
    test(14, initiator, connect_duplex);
}

#[test]
fn duplex_connectors_leave_no_secret() {
    test(15, responder, accept_duplex);
}
