//! Peers that say nothing, or take nothing.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::Instant;
use tower_seal::{config::Encoding, duplex::pipe, error::Code, protocol::Destination};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_peer_that_connects_and_says_nothing_is_told_to_hurry_and_left() {
    let sides = Sides::new();
    let began = Instant::now();
    let (here, there) = frames();
    assert_eq!(code(sides.accept(there).await), Code::Timeout);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(here.last_words().await, "timeout");
    assert_eq!(sides.server.telemetry().rejections(Code::Timeout), 1);
}

#[tokio::test(start_paused = true)]
async fn so_is_one_that_says_hello_and_nothing_more() {
    let sides = Sides::new();
    let (here, there) = frames();
    let began = Instant::now();
    let by_hand = async {
        let hand = Hand::initiator(&sides.client, here, Encoding::Binary).await;
        hand.end.last_words().await
    };
    let (accepted, told) = tokio::join!(sides.accept(there), by_hand);
    assert_eq!((code(accepted), &told[..]), (Code::Timeout, "timeout"));
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_reply_is_left() {
    let sides = Sides::limited(|limits| limits.handshake = 3 * SECOND);
    let (here, mut there) = frames();
    let began = Instant::now();
    assert_eq!(code(sides.connect(here).await), Code::Timeout);
    assert_eq!(began.elapsed().as_secs(), 3);
    there.text().await;
    assert_eq!(there.last_words().await, "timeout");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_even_take_the_last_words_holds_nobody_up() {
    let sides = Sides::new();
    // Full after one byte, and nobody reads.
    let (here, there) = tokio::io::duplex(1);
    let began = Instant::now();
    assert_eq!(code(pipe::connect(here, &sides.client, Destination::default()).await), Code::Timeout);
    assert_eq!(began.elapsed().as_secs(), 12);
    drop(there);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_too_long_ends() {
    let sides = Sides::limited(|limits| limits.duplex_idle = 60 * SECOND);
    let (mut client, mut server) = sides.pair().await;
    let began = Instant::now();
    // Each message, in either direction, begins the time anew.
    for _ in 0..3 {
        assert!(tokio::time::timeout(50 * SECOND, client.next()).await.is_err());
        client.send("alive".into()).await.unwrap();
        server.next().await.unwrap().unwrap();
    }
    assert_eq!(code(client.next().await.unwrap()), Code::Timeout);
    assert_eq!(began.elapsed().as_secs(), 3 * 50 + 60);
    // To the peer an error on an open connection is no more than its end.
    assert_failed(&mut server, Code::Truncated).await;
    assert_failed(&mut client, Code::Timeout).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_costs_no_memory_and_is_left() {
    let sides = Sides::new();
    let (here, there) = tokio::io::duplex(1024);
    let acceptor = sides.acceptor();
    let (client, server) = tokio::join!(
        pipe::connect(here, &sides.client, Destination::default()),
        pipe::accept(there, &acceptor)
    );
    let (mut client, server) = (client.unwrap(), server.unwrap());
    let mut taken = 0;
    while let Some(sent) = client.feed(vec![b'x'; 1000].into()).now_or_never() {
        sent.unwrap();
        taken += 1;
    }
    assert_eq!(taken, 32, "what waits to be signed together");
    let began = Instant::now();
    assert_eq!(code(client.send("more".into()).await), Code::Timeout);
    assert_eq!(began.elapsed().as_secs(), 300 + 2);
    assert_failed(&mut client, Code::Timeout).await;
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn one_that_reads_slowly_is_waited_for() {
    let sides = Sides::new();
    let (here, there) = tokio::io::duplex(64);
    let acceptor = sides.acceptor();
    let (client, server) = tokio::join!(
        pipe::connect(here, &sides.client, Destination::default()),
        pipe::accept(there, &acceptor)
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    let send = async {
        for _ in 0..20 {
            client.send(vec![b'x'; 5000].into()).await.unwrap();
        }
        client.close().await.unwrap();
    };
    let read = async {
        let mut count = 0;
        while let Some(message) = server.next().await {
            message.unwrap();
            count += 1;
            tokio::time::sleep(100 * SECOND).await;
        }
        count
    };
    let ((), count) = tokio::join!(send, read);
    assert_eq!(count, 20);
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_waited_is_not_held_against_the_peer() {
    let sides = Sides::new();
    let (here, there) = tokio::io::duplex(4096);
    let acceptor = sides.acceptor();
    let (client, server) = tokio::join!(
        pipe::connect(here, &sides.client, Destination::default()),
        pipe::accept(there, &acceptor)
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert!(client.send(vec![1; 100_000].into()).now_or_never().is_none());
    // The peer reads, and this side has other things to do.
    assert!(tokio::time::timeout(1000 * SECOND, server.next()).await.is_err());
    let (sent, got) =
        tokio::join!(client.send("next".into()), async { (server.next().await, server.next().await) });
    sent.unwrap();
    assert_eq!(got.0.unwrap().unwrap().len(), 100_000);
    assert_eq!(got.1.unwrap().unwrap(), "next");
}
