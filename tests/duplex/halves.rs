//! Halves on different tasks, futures that are dropped, and back-pressure.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tower_seal::{duplex::pipe, protocol::Destination};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn halves_work_on_different_tasks_at_once() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (here, there) = tokio::io::duplex(700);
        let acceptor = sides.acceptor();
        let (client, server) = tokio::join!(
            pipe::connect(here, &sides.client, Destination::default()),
            pipe::accept(there, &acceptor)
        );
        let mut tasks = tokio::task::JoinSet::new();
        for sealed in [client.unwrap(), server.unwrap()] {
            let (mut sender, mut receiver) = sealed.into_split();
            tasks.spawn(async move {
                for i in 0..300_usize {
                    sender.send(vec![i as u8; i * 7].into()).await.unwrap();
                }
                sender.close().await.unwrap();
            });
            tasks.spawn(async move {
                for i in 0..300_usize {
                    assert_eq!(receiver.next().await.unwrap().unwrap(), vec![i as u8; i * 7]);
                }
                assert!(receiver.next().await.is_none());
            });
        }
        tasks.join_all().await;
    }
}

#[tokio::test]
async fn dropped_futures_lose_nothing() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (here, there) = tokio::io::duplex(16);
        let acceptor = sides.acceptor();
        let (client, server) = tokio::join!(
            pipe::connect(here, &sides.client, Destination::default()),
            pipe::accept(there, &acceptor)
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let mut got = Vec::new();
        for i in 0..20_u8 {
            // Both are polled once and dropped, in the middle of a record.
            let sent = client.send(vec![i; 50].into()).now_or_never();
            assert!(sent.is_none());
            got.extend(server.next().now_or_never());
            // To the end, by polls that are dropped each time.
            while client.flush().now_or_never().is_none() {
                got.extend(server.next().now_or_never());
                tokio::task::yield_now().await;
            }
        }
        client.close().now_or_never();
        while got.len() < 20 {
            client.close().now_or_never();
            got.extend(server.next().now_or_never());
            tokio::task::yield_now().await;
        }
        for (i, message) in got.into_iter().enumerate() {
            assert_eq!(message.unwrap().unwrap(), vec![i as u8; 50]);
        }
    }
}

#[tokio::test]
async fn a_message_is_given_only_once_there_is_room_and_is_neither_lost_nor_doubled() {
    let sides = Sides::new();
    let (here, there) = tokio::io::duplex(16);
    let acceptor = sides.acceptor();
    let (client, server) = tokio::join!(
        pipe::connect(here, &sides.client, Destination::default()),
        pipe::accept(there, &acceptor)
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    // The pipe is full of the first ones: whoever waits for room still has the last one in hand.
    let mut given = 0_u8;
    while client.ready().now_or_never().is_some() {
        client.start_send_unpin(vec![given; 5000].into()).unwrap();
        given += 1;
    }
    assert!(client.ready().now_or_never().is_none());
    let last = b"the last one";
    let mut got = Vec::new();
    loop {
        tokio::select! {
            biased;
            ready = client.ready() => {
                ready.unwrap();
                client.start_send_unpin(last[..].into()).unwrap();
                break;
            }
            message = std::future::poll_fn(|cx| server.poll_next_unpin(cx)) => got.push(message.unwrap().unwrap()),
        }
    }
    // It has been taken: dropping the future that sends it loses nothing.
    assert!(client.flush().now_or_never().is_none());
    let (closed, ()) = tokio::join!(client.close(), async {
        while let Some(message) = server.next().await {
            got.push(message.unwrap());
        }
    });
    closed.unwrap();
    assert_eq!(got.pop().unwrap(), last[..]);
    assert_eq!(got.len(), usize::from(given));
    for (i, message) in got.into_iter().enumerate() {
        assert_eq!(message, vec![i as u8; 5000]);
    }
}

#[tokio::test]
async fn what_was_taken_leaves_with_the_next_call_whichever_it_is() {
    let sides = Sides::new();
    let (mut client, mut server) = sides.pair().await;
    client.feed("one".into()).await.unwrap();
    client.feed("two".into()).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "one");
    assert!(server.next().now_or_never().is_none());
    client.close().await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "two");
    assert!(server.next().await.is_none());
}

#[tokio::test]
async fn the_transport_lives_as_long_as_one_half() {
    let sides = Sides::new();
    let (client, mut server) = sides.pair().await;
    let (sender, mut receiver) = client.into_split();
    drop(sender);
    server.send("still".into()).await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "still");
    drop(receiver);
    assert!(server.next().await.unwrap().is_err());
}

fn is_send<T: Send + 'static>(_: &T) {}

#[tokio::test]
async fn everything_can_be_sent_to_another_task() {
    let sides = Sides::new();
    let (client, _server) = sides.pair().await;
    is_send(&client);
    let (sender, receiver) = client.into_split();
    is_send(&sender);
    is_send(&receiver);
    let (config, acceptor) = (sides.client.clone(), sides.acceptor());
    is_send(&async move {
        let (here, there) = tokio::io::duplex(10);
        let _ = tokio::join!(
            pipe::connect(here, &config, Destination::default()),
            pipe::accept(there, &acceptor)
        );
    });
}
