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
        for i in 0..30 {
            client.feed(message(i)).await.unwrap();
        }
        client.flush().await.unwrap();
        assert_eq!(batches(&sides.client), [HANDSHAKE, 0, 0, 0, 0, 1, 0, 0, 0]);
        let before = sides.server.telemetry().value(Metric::SignaturesVerified);
        for i in 0..30 {
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

/// Questions in flight, answered one by one, between a task on each side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_threads_batches_form_on_either_side() {
    for in_flight in [16, 64] {
        let sides = Sides::new();
        let (mut client, mut server) = sides.pair().await;
        let serving = tokio::spawn(async move {
            while let Some(message) = server.next().await {
                server.send(message.unwrap()).await.unwrap();
            }
        });
        let rounds = 20;
        for round in 0..rounds {
            for i in 0..in_flight {
                client.feed(message(round * in_flight + i)).await.unwrap();
            }
            client.flush().await.unwrap();
            for i in 0..in_flight {
                assert_eq!(client.next().await.unwrap().unwrap(), message(round * in_flight + i));
            }
        }
        client.close().await.unwrap();
        assert!(client.next().await.is_none_or(|end| end.is_err()));
        serving.await.unwrap();
        let records = HANDSHAKE + (rounds * in_flight) as u64;
        // FINAL, too.
        assert_eq!(sides.client.telemetry().records_signed(), records + 1);
        assert_eq!(sides.server.telemetry().records_signed(), records);
        let signatures: u64 = batches(&sides.client).iter().sum();
        assert!(signatures * 2 < records, "{signatures} signatures for {records} records");
    }
}

/// A client that is in no worker of the runtime, as in `main`, sends each with a flush of its own.
#[test]
fn beside_the_workers_what_is_flushed_in_one_poll_goes_together() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sides = Sides::new();
    runtime.block_on(async {
        let (mut client, mut server) = sides.pair().await;
        std::future::poll_fn(|cx| {
            for i in 0..10 {
                assert!(client.poll_ready_unpin(cx).is_ready());
                client.start_send_unpin(message(i)).unwrap();
                assert!(client.poll_flush_unpin(cx).is_pending());
            }
            std::task::Poll::Ready(())
        })
        .await;
        client.flush().await.unwrap();
        for i in 0..10 {
            assert_eq!(server.next().await.unwrap().unwrap(), message(i));
        }
    });
    assert_eq!(batches(&sides.client), [HANDSHAKE, 0, 0, 0, 1, 0, 0, 0, 0]);
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
    assert_eq!(batches(&sides.client), [HANDSHAKE, 0, 0, 0, 1, 9, 0, 0, 0], "nine of 32, and 12");
    // By size: 32 KiB go together, and what is longer goes alone.
    for (length, alone, in_pairs) in [(MIB, 3, 0), (MIB / 64, 1, 1)] {
        let before = batches(&sides.client);
        let large = Bytes::from(vec![7; length]);
        for _ in 0..3 {
            client.feed(large.clone()).await.unwrap();
        }
        client.flush().await.unwrap();
        for _ in 0..3 {
            assert_eq!(server.next().await.unwrap().unwrap().len(), length);
        }
        let after = batches(&sides.client);
        assert_eq!((after[0] - before[0], after[1] - before[1]), (alone, in_pairs));
    }
    // A long one between short ones keeps its place, and the end goes with what is before it.
    let before: u64 = batches(&sides.client).iter().sum();
    let lengths = [MIB / 1024, MIB / 16, MIB / 1024];
    for length in lengths {
        client.feed(vec![7; length].into()).await.unwrap();
    }
    client.close().await.unwrap();
    for length in lengths {
        assert_eq!(server.next().await.unwrap().unwrap().len(), length);
    }
    assert!(server.next().await.is_none());
    assert_eq!(batches(&sides.client).iter().sum::<u64>() - before, 3);
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
