//! Messages that are ready together are signed together, of one connection and of many.

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, future::join_all};
use tower_seal::{Config, config::Encoding, config::Signatures, duplex::Frame, telemetry::Metric};

use crate::support::*;

fn batches(config: &Config) -> Vec<u64> {
    config.telemetry().batches().to_vec()
}

/// The two of the handshake: each side's record 0.
const HANDSHAKE: u64 = 1;

fn message(i: usize) -> Bytes {
    format!("message {i}").into()
}

#[tokio::test]
async fn what_is_fed_before_a_flush_is_signed_once_and_comes_in_order() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (mut client, mut server) = sides.pair().await;
        for i in 0..100 {
            client.feed(message(i)).await.unwrap();
        }
        client.flush().await.unwrap();
        assert_eq!(batches(&sides.client), [HANDSHAKE, 0, 0, 0, 0, 0, 0, 1, 0]);
        let before = sides.server.telemetry().value(Metric::SignaturesVerified);
        for i in 0..100 {
            assert_eq!(server.next().await.unwrap().unwrap(), message(i));
        }
        assert_eq!(sides.server.telemetry().value(Metric::SignaturesVerified) - before, 1);
    }
}

#[tokio::test]
async fn a_message_that_is_sent_alone_is_signed_alone() {
    let sides = Sides::new();
    let (mut client, mut server) = sides.pair().await;
    for i in 0..3 {
        client.send(message(i)).await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), message(i));
    }
    assert_eq!(batches(&sides.client), [HANDSHAKE + 3, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn connections_of_one_identity_are_signed_together() {
    let sides = Sides::new();
    let mut pairs = Vec::new();
    for _ in 0..6 {
        pairs.push(sides.pair().await);
    }
    let sent = join_all(pairs.iter_mut().map(|(client, _)| client.send("hello".into()))).await;
    assert!(sent.into_iter().all(|sent| sent.is_ok()));
    assert_eq!(batches(&sides.client), [6 * HANDSHAKE, 0, 0, 1, 0, 0, 0, 0, 0]);
    let before = sides.server.telemetry().value(Metric::SignaturesVerified);
    for (_, server) in &mut pairs {
        assert_eq!(server.next().await.unwrap().unwrap(), "hello");
    }
    // Their sessions are six, their sender is one.
    assert_eq!(sides.server.telemetry().value(Metric::SignaturesVerified) - before, 1);
}

#[tokio::test]
async fn what_waits_to_be_signed_is_bounded() {
    let sides = Sides::new();
    let (mut client, mut server) = sides.pair().await;
    // By number: the batch that is full leaves before there is room.
    for i in 0..300 {
        client.feed(message(i)).await.unwrap();
    }
    client.flush().await.unwrap();
    for i in 0..300 {
        assert_eq!(server.next().await.unwrap().unwrap(), message(i));
    }
    assert_eq!(sides.client.telemetry().records_signed(), HANDSHAKE + 300);
    // By size: a second mebibyte has to wait for the first.
    let large = Bytes::from(vec![7; MIB]);
    for _ in 0..3 {
        client.feed(large.clone()).await.unwrap();
    }
    client.flush().await.unwrap();
    for _ in 0..3 {
        assert_eq!(server.next().await.unwrap().unwrap().len(), MIB);
    }
    assert_eq!(batches(&sides.client)[0], HANDSHAKE + 3, "none of these waited with another");
}

#[tokio::test]
async fn closing_signs_what_is_left_and_the_end_together() {
    let sides = Sides::new();
    let (mut client, mut server) = sides.pair().await;
    for i in 0..3 {
        client.feed(message(i)).await.unwrap();
    }
    client.close().await.unwrap();
    assert_eq!(batches(&sides.client), [HANDSHAKE, 0, 1, 0, 0, 0, 0, 0, 0], "three messages and FINAL");
    for i in 0..3 {
        assert_eq!(server.next().await.unwrap().unwrap(), message(i));
    }
    assert!(server.next().await.is_none());
}

#[tokio::test]
async fn a_sender_that_is_dropped_holds_up_no_other() {
    let sides = Sides::new();
    let (mut first, _) = sides.pair().await;
    let (mut second, mut server) = sides.pair().await;
    first.feed("lost".into()).await.unwrap();
    // It waits for a turn, and then it is not there any more.
    assert!(first.flush().now_or_never().is_none());
    second.feed("kept".into()).await.unwrap();
    drop(first);
    second.flush().await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "kept");
}

#[tokio::test]
async fn one_that_is_not_polled_holds_up_no_other() {
    let sides = Sides::new();
    let (mut first, mut first_server) = sides.pair().await;
    let (mut second, mut server) = sides.pair().await;
    first.feed("early".into()).await.unwrap();
    assert!(first.flush().now_or_never().is_none());
    second.send("late".into()).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "late");
    first.flush().await.unwrap();
    assert_eq!(first_server.next().await.unwrap().unwrap(), "early");
    assert_eq!(batches(&sides.client), [2 * HANDSHAKE, 1, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn unsigned_messages_wait_for_nobody() {
    let mut sides = Sides::new();
    sides.client = sides.client.signatures(Signatures::Handshake).encoding(Encoding::Binary);
    sides.server = sides.server.signatures(Signatures::Handshake);
    let (client, server) = sides.pair().await;
    let ((mut sender, _), (_, mut receiver)) = (client.into_split(), server.into_split());
    // Without a turn for anybody else.
    for i in 0..5 {
        sender.send(message(i)).now_or_never().unwrap().unwrap();
        assert_eq!(receiver.next().now_or_never().unwrap().unwrap().unwrap(), message(i));
    }
    assert_eq!(batches(&sides.client), [HANDSHAKE, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_record_of_a_batch_that_is_changed_is_refused_and_so_is_its_path() {
    for at in [20, 90, 100, 140] {
        let sides = Sides::new();
        let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
        client.feed("one".into()).await.unwrap();
        client.feed("two".into()).await.unwrap();
        client.flush().await.unwrap();
        let Frame::Binary(record) = near_client.next().await.unwrap().unwrap() else {
            panic!("it is binary")
        };
        let mut bent = record.to_vec();
        let at = at.min(bent.len() - 1);
        bent[at] ^= 1;
        near_server.send(Frame::Binary(bent.into())).await.unwrap();
        assert!(server.next().await.unwrap().is_err(), "byte {at}");
    }
}
