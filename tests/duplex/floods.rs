//! Floods of connections: what each costs and where it ends, and that an honest client is served meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, future::join_all};
use tokio::{io::AsyncWriteExt as _, task::JoinHandle, time::Instant};
use tokio_tungstenite::tungstenite::Message;
use tower_seal::{
    Config, Error, Identity, NodeId,
    config::{Backend, Hybrid, Limits},
    duplex::{self, Acceptor, Redial, Sealed, pipe},
    error::Code,
    protocol::{Destination, Initiator},
    telemetry::Metric,
    trust::{AnyIdentity, Pinned, Trust},
};

use crate::{
    sockets::{ByHand, by_hand, message},
    support::*,
};

const MANY: usize = 300;

/// Most of these tests stop the clock, which then goes on only where somebody waits for time to pass.
const SOON: Duration = Duration::from_secs(5);

/// A server under a flood, and a connection from before.
struct Flood {
    server: Config,
    acceptor: Acceptor,
    honest: (Sealed<End>, Sealed<End>),
    sides: Sides,
}

fn config(trust: impl Trust, change: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = Limits::default();
    limits.handshakes_per_second = u32::MAX;
    change(&mut limits);
    Config::new(Identity::generate(), trust)
        .hybrid(Hybrid::Off)
        .backend(*Backend::ALL.last().unwrap())
        .limits(limits)
}

impl Flood {
    /// To whom anybody may talk.
    async fn open(change: impl FnOnce(&mut Limits)) -> Self {
        Self::over(config(AnyIdentity, change), |_| ()).await
    }

    /// `know` is told who the honest client is.
    async fn over(server: Config, know: impl FnOnce(NodeId)) -> Self {
        let mut sides = Sides::new();
        (sides.server, sides.client) = (server.clone(), config(Pinned::new([server.node_id()]), |_| ()));
        know(sides.client.node_id());
        let honest = sides.pair().await;
        Flood { acceptor: sides.acceptor(), server, honest, sides }
    }

    /// The honest client is served.
    async fn serves(&mut self) {
        let began = tokio::time::Instant::now();
        converse(&mut self.honest.0, &mut self.honest.1).await;
        assert!(began.elapsed() < SOON);
    }

    async fn serves_between(&mut self, number: usize) {
        if number.is_multiple_of(50) {
            self.serves().await;
        }
    }

    fn value(&self, metric: Metric) -> u64 {
        self.server.telemetry().value(metric)
    }

    fn refused(&self, code: Code) -> usize {
        self.server.telemetry().rejections(code) as usize
    }

    /// One more who talks to the server.
    fn peer(&self) -> Config {
        config(Pinned::new([self.server.node_id()]), |_| ())
    }

    /// A connection that has come, with all that is to become of it.
    fn accept(&self, end: End) -> JoinHandle<Result<Sealed<End>, Error>> {
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move { duplex::accept(end, &acceptor, None).await })
    }

    /// One byte at a time can be said here.
    fn accept_bytes(&self) -> (tokio::io::DuplexStream, JoinHandle<Code>) {
        let ((here, there), acceptor) = (tokio::io::duplex(4096), self.acceptor.clone());
        (here, tokio::spawn(async move { code(pipe::accept(there, &acceptor).await) }))
    }

    /// A connection of somebody new, at the first attempt.
    async fn meets(&self, peer: &Config) -> Result<(), Error> {
        let (here, there) = frames();
        let accepted = self.accept(there);
        let mut client = duplex::connect(here, peer, Destination::default()).await?;
        let mut server = accepted.await.unwrap()?;
        converse(&mut client, &mut server).await;
        Ok(())
    }
}

fn hello(config: &Config) -> Bytes {
    Initiator::start(config, Destination::default(), &mut rng()).unwrap().0
}

#[tokio::test(start_paused = true)]
async fn connections_of_strangers_cost_no_public_key_operation() {
    let known = Arc::new(Pinned::default());
    let mut flood = Flood::over(config(known.clone(), |_| ()), |node| known.insert(node)).await;
    let operations = flood.value(Metric::HandshakeOperations);
    let hello = hello(&flood.peer());
    for number in 0..MANY {
        let (mut here, there) = frames();
        let accepted = flood.accept(there);
        here.say(hello.clone()).await;
        assert_eq!(code(accepted.await.unwrap()), Code::UntrustedPeer);
        assert_eq!(here.last_words().await, "untrusted_peer");
        flood.serves_between(number).await;
    }
    assert_eq!(flood.refused(Code::UntrustedPeer), MANY);
    assert_eq!(flood.value(Metric::HandshakeOperations), operations);
    assert_eq!(flood.value(Metric::SessionsLive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_is_replayed_costs_no_public_key_operation() {
    let mut flood = Flood::open(|_| ()).await;
    let hello = hello(&flood.peer());
    let (mut here, there) = frames();
    let first = flood.accept(there);
    here.say(hello.clone()).await;
    here.text().await;
    let operations = flood.value(Metric::HandshakeOperations);
    for number in 0..MANY {
        let (mut here, there) = frames();
        let accepted = flood.accept(there);
        here.say(hello.clone()).await;
        assert_eq!(code(accepted.await.unwrap()), Code::Replayed);
        flood.serves_between(number).await;
    }
    assert_eq!(flood.refused(Code::Replayed), MANY);
    assert_eq!(flood.value(Metric::HandshakeOperations), operations);
    drop(here);
    assert_eq!(code(first.await.unwrap()), Code::Truncated);
}

/// Whoever has no place comes again, and has one when a hostile one's time is up.
#[tokio::test(start_paused = true)]
async fn handshakes_of_one_byte_in_a_second_hold_a_place_for_as_long_as_one_may_take() {
    const PLACES: usize = 64;
    let mut flood = Flood::open(|limits| (limits.unfinished, limits.handshake) = (PLACES, 10 * SECOND)).await;
    let (operations, peer) = (flood.value(Metric::HandshakeOperations), flood.peer());
    let hello = hello(&peer);
    let slow = |flood: &Flood| {
        let ((mut here, accepted), hello) = (flood.accept_bytes(), hello.clone());
        tokio::spawn(async move {
            for byte in hello {
                if here.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(SECOND).await;
            }
        });
        accepted
    };
    let mut hostile: Vec<_> = (0..PLACES - 1).map(|_| slow(&flood)).collect();
    tokio::time::sleep(SECOND).await;
    flood.meets(&peer).await.unwrap();
    let operations_of_one = flood.value(Metric::HandshakeOperations) - operations;

    hostile.push(slow(&flood));
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    assert_eq!(flood.meets(&peer).await.unwrap_err().code(), Some(Code::Busy));
    flood.serves().await;
    let mut redial = Redial::new(|| flood.meets(&peer));
    redial.connect().await.unwrap();
    assert!(began.elapsed() <= 20 * SECOND, "{:?}", began.elapsed());
    for accepted in hostile {
        assert_eq!(accepted.await.unwrap(), Code::Timeout);
    }
    assert_eq!(flood.refused(Code::Timeout), PLACES);
    assert_eq!(flood.value(Metric::HandshakeOperations), operations + 2 * operations_of_one);
    flood.serves().await;
}

#[tokio::test(start_paused = true)]
async fn of_ten_thousand_connections_that_say_nothing_so_many_are_kept() {
    let mut flood = Flood::open(|_| ()).await;
    let silent: Vec<_> = (0..10_000)
        .map(|_| {
            let (here, there) = frames();
            (here, flood.accept(there))
        })
        .collect();
    flood.serves().await;
    // Until each has had a turn: the scheduler comes back to the test now and then.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(flood.refused(Code::Busy), 10_000 - 1024 - 64);
    let kept = silent.iter().filter(|(_, accepted)| !accepted.is_finished()).count();
    assert_eq!(kept, 1024 + 64);
    flood.serves().await;
    // Dropped without a word.
    assert_eq!(flood.meets(&flood.peer()).await.unwrap_err().code(), Some(Code::Truncated));
    tokio::time::sleep(11 * SECOND).await;
    assert!(silent.iter().all(|(_, accepted)| accepted.is_finished()));
    assert_eq!(flood.refused(Code::Timeout), 1024);
    flood.meets(&flood.peer()).await.unwrap();
}

/// All of them with a handshake behind them. What each costs in memory is counted elsewhere.
#[tokio::test]
async fn ten_thousand_connections_rest_and_another_is_served() {
    const CONNECTIONS: usize = 10_000;
    let mut flood = Flood::open(|_| ()).await;
    let peers: Vec<_> = (0..20).map(|_| flood.peer()).collect();
    let mut resting = Vec::with_capacity(CONNECTIONS);
    while resting.len() < CONNECTIONS {
        let pairs = peers.iter().map(async |peer| {
            let ((here, there), destination) = (tokio::io::duplex(1024), Destination::default());
            let (client, server) =
                tokio::join!(pipe::connect(here, peer, destination), pipe::accept(there, &flood.acceptor));
            (client.unwrap(), server.unwrap())
        });
        resting.extend(join_all(pairs).await);
    }
    assert_eq!(flood.value(Metric::ConnectionsLive), CONNECTIONS as u64 + 1);
    flood.serves().await;
    flood.meets(&flood.peer()).await.unwrap();
    for (client, server) in resting.iter_mut().step_by(1000) {
        converse(client, server).await;
    }
    drop(resting);
    assert_eq!(flood.value(Metric::ConnectionsLive), 1);
    assert_eq!(flood.value(Metric::SessionsLive), 1);
}

#[tokio::test(start_paused = true)]
async fn pings_cost_an_answer_at_most_and_no_other_connection_waits() {
    const PINGS: usize = 10_000;
    let mut flood = Flood::open(|_| ()).await;
    let ByHand { mut client, mut near_client, mut socket, mut server } = by_hand(&flood.sides).await;
    let read = tokio::spawn(async move { (server.next().await, server) });
    let mut pongs = 0;
    for number in 0..PINGS {
        socket.send(Message::Ping("are you there".into())).await.unwrap();
        while let Some(pong) = socket.next().now_or_never() {
            assert_eq!(pong.unwrap().unwrap(), Message::Pong("are you there".into()));
            pongs += 1;
        }
        if number.is_multiple_of(1000) {
            flood.serves().await;
        }
    }
    assert!(0 < pongs && pongs <= PINGS, "{pongs}");
    // And it still works.
    client.send("hello".into()).await.unwrap();
    socket.send(message(near_client.get().await)).await.unwrap();
    assert_eq!(read.await.unwrap().0.unwrap().unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn pings_alone_do_not_keep_a_connection() {
    let sides = Sides::limited(|limits| limits.duplex_idle = 60 * SECOND);
    let ByHand { mut socket, mut server, .. } = by_hand(&sides).await;
    let began = Instant::now();
    let ping = async {
        loop {
            let _ = socket.send(Message::Ping("".into())).await;
            let _ = socket.next().now_or_never();
            tokio::time::sleep(SECOND).await;
        }
    };
    tokio::select! {
        end = server.next() => assert_eq!(code(end.unwrap()), Code::Timeout),
        () = ping => {}
    }
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(sides.server.telemetry().rejections(Code::Timeout), 1);
}
