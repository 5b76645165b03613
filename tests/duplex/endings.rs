//! FINAL, each direction for itself; and ends without it.

use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::Instant;
use tower_seal::{
    Error,
    config::{Encoding, Limits},
    error::Code,
    protocol::Final,
    telemetry::Metric,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_direction_ends_and_the_other_goes_on() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (mut client, mut server) = sides.pair().await;
        client.send("last".into()).await.unwrap();
        client.close().await.unwrap();
        client.close().await.unwrap();
        assert!(matches!(client.send("later".into()).await, Err(Error::Misuse { .. })));
        assert_eq!(server.next().await.unwrap().unwrap(), "last");
        for _ in 0..3 {
            assert!(server.next().await.is_none());
        }
        for text in ["one", "two", ""] {
            server.send(text.into()).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), text);
        }
        assert!(client.next().now_or_never().is_none());
        server.close().await.unwrap();
        for _ in 0..3 {
            assert!(client.next().await.is_none());
        }
        client.close().await.unwrap();
        server.close().await.unwrap();
        assert!(client.flush().await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn the_transport_is_closed_when_both_have_ended_and_not_before() {
    for first_closes in [true, false] {
        let sides = Sides::new();
        let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
        if !first_closes {
            server.close().await.unwrap();
            near_client.put(near_server.get().await).await;
            assert!(client.next().await.is_none());
        }
        client.close().await.unwrap();
        near_server.put(near_client.get().await).await;
        if first_closes {
            assert!(near_client.next().now_or_never().is_none(), "closed too early");
            assert!(server.next().await.is_none());
            server.close().await.unwrap();
            near_client.put(near_server.get().await).await;
            assert!(client.next().await.is_none());
        }
        assert!(near_client.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn finals_plaintext_is_the_last_message_unless_it_is_empty() {
    for (text, messages) in [("the end", 1), ("", 0)] {
        let sides = Sides::new();
        let (here, there) = frames();
        let by_hand = async {
            let mut hand = Hand::initiator(&sides.client, here, Encoding::Binary).await;
            hand.send("", Final::No).await;
            hand.send(text, Final::Yes).await;
            hand.open().await;
            hand
        };
        let (server, _hand) = tokio::join!(sides.accept(there), by_hand);
        let mut server = server.unwrap();
        for _ in 0..messages {
            assert_eq!(server.next().await.unwrap().unwrap(), text);
        }
        assert!(server.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_final_is_truncated() {
    let sides = Sides::new();
    let (mut client, mut server) = sides.pair().await;
    client.send("said".into()).await.unwrap();
    drop(client);
    assert_eq!(server.next().await.unwrap().unwrap(), "said");
    assert_failed(&mut server, Code::Truncated).await;
    assert_eq!(sides.server.telemetry().rejections(Code::Truncated), 1);
}

#[tokio::test(start_paused = true)]
async fn so_is_an_error_of_the_peer_on_an_open_connection_whatever_it_says() {
    for code in ["untrusted_peer", "busy", "truncated"] {
        let sides = Sides::new();
        let (mut client, _server, mut near_client, _near_server) = sides.through_hands().await;
        near_client.say(format!(r#"{{"type":"error","code":"{code}","message":"x"}}"#)).await;
        assert_failed(&mut client, Code::Truncated).await;
        // And it is not answered.
        assert!(near_client.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_may_follow_final() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
        client.send("one".into()).await.unwrap();
        let one = near_client.get().await;
        near_server.put(one.clone()).await;
        server.next().await.unwrap().unwrap();
        client.close().await.unwrap();
        near_server.put(near_client.get().await).await;
        assert!(server.next().await.is_none());
        // Though its counter is wrong, too.
        near_server.put(one).await;
        assert_eq!(code(server.send("answer".into()).await), Code::Malformed);
        assert_failed(&mut server, Code::Malformed).await;
        assert_eq!(near_server.last_words().await, "malformed");
    }
}

#[tokio::test(start_paused = true)]
async fn when_trust_is_withdrawn_the_connection_ends_with_the_next_message_either_way() {
    for by_server in [true, false] {
        for up in [true, false] {
            let sides = Sides::new();
            let (mut client, mut server) = sides.pair().await;
            converse(&mut client, &mut server).await;
            if by_server {
                sides.clients.remove(sides.client.node_id());
            } else {
                sides.servers.remove(sides.server.node_id());
            }
            let (from, to) = if up { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let sent = from.send("secret".into()).await;
            let got = to.next().await.unwrap();
            assert!(got.is_err());
            // Who withdrew trust is the one who ended it.
            let judge = if by_server { &mut server } else { &mut client };
            assert_failed(judge, Code::UnknownSession).await;
            if up != by_server {
                assert_eq!(code(sent), Code::UnknownSession);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_change_by_themselves() {
    for (records, bytes) in [(2, 1 << 36), (1 << 24, 10)] {
        let mut sides = Sides::new();
        let mut limits = Limits::default();
        (limits.rekey_records, limits.rekey_bytes) = (records, bytes);
        sides.client = sides.client.limits(limits);
        let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
        let mut epochs = Vec::new();
        for _ in 0..6 {
            client.send("12345".into()).await.unwrap();
            let record = near_client.get().await;
            // kind, flags, then the nonce: flags, epoch, counter.
            let bytes = record.clone().into_bytes();
            epochs.push(u32::from_be_bytes([0, bytes[3], bytes[4], bytes[5]]));
            near_server.put(record).await;
            assert_eq!(server.next().await.unwrap().unwrap(), "12345");
        }
        assert!(epochs.is_sorted() && epochs.last() > Some(&1), "{epochs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_trust_is_withdrawn_a_connection_that_rests_ends_too() {
    for half_closed in [false, true] {
        let sides = Sides::new();
        let (mut client, mut server) = sides.pair().await;
        if half_closed {
            client.close().await.unwrap();
            assert!(server.next().await.is_none());
        }
        let waiting = tokio::spawn(async move {
            let ended =
                if half_closed { server.gone().await } else { server.next().await.unwrap().map(drop) };
            (server, ended)
        });
        tokio::task::yield_now().await;
        sides.clients.remove(sides.client.node_id());
        let began = Instant::now();
        let (mut server, ended) = waiting.await.unwrap();
        assert_eq!(code(ended), Code::UnknownSession);
        assert!(began.elapsed() <= 60 * SECOND);
        assert_failed(&mut server, Code::UnknownSession).await;
        // The peer is told, and takes it for an end.
        assert_eq!(code(client.next().await.unwrap()), Code::Truncated);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_after_24_hours_as_it_said() {
    let sides = Sides::limited(|limits| limits.duplex_idle = Duration::MAX);
    let (client, mut server) = sides.pair().await;
    let ends = server.ends_at().unwrap();
    assert_eq!((ends - now()).as_secs(), 24 * 3600);
    assert_eq!(client.ends_at(), Some(ends));
    assert_eq!(code(server.next().await.unwrap()), Code::UnknownSession);
    assert!((now() - ends).as_secs() <= 60);
    assert_eq!(server.ends_at(), None);
}

#[tokio::test(start_paused = true)]
async fn an_application_may_end_a_connection_with_a_code() {
    let sides = Sides::new();
    let (client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
    server.send("before".into()).await.unwrap();
    near_client.put(near_server.get().await).await;
    server.fail(Code::Busy).await;
    assert_eq!(near_server.last_words().await, "busy");

    // Of one half, whatever the other is doing.
    let (mut sender, mut receiver) = client.into_split();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "before");
    let waiting = tokio::spawn(async move { receiver.next().await.unwrap() });
    tokio::task::yield_now().await;
    sender.fail(Code::TooLarge).await;
    assert_eq!(code(waiting.await.unwrap()), Code::TooLarge);
    assert_eq!(code(sender.send("x".into()).await), Code::TooLarge);
    sender.fail(Code::Busy).await;
    assert_eq!(code(sender.ready().await), Code::TooLarge, "the first stays");
    assert_eq!(near_client.last_words().await, "too_large");
}

#[tokio::test(start_paused = true)]
async fn keys_go_with_the_end_and_not_only_with_the_connection() {
    let sides = Sides::new();
    let live = || [&sides.client, &sides.server].map(|config| config.telemetry().value(Metric::SessionsLive));
    let (mut client, mut server) = sides.pair().await;
    assert_eq!(live(), [1, 1]);
    part(&mut client, &mut server).await;
    assert!(server.next().await.is_none());
    assert_eq!(live(), [0, 0]);
    assert!(matches!(client.export(b"", b"", &mut [0; 32]), Err(Error::Misuse { .. })));

    let (mut client, server) = sides.pair().await;
    drop(server);
    assert_failed(&mut client, Code::Truncated).await;
    assert_eq!(live(), [0, 0]);
    // Without a key nothing goes out, and nothing in the clear.
    assert_failed(&mut client, Code::Truncated).await;
}

#[tokio::test(start_paused = true)]
async fn finals_that_cross() {
    let sides = Sides::new();
    let (mut client, mut server) = sides.pair().await;
    client.send("up".into()).await.unwrap();
    server.send("down".into()).await.unwrap();
    client.close().await.unwrap();
    server.close().await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), "down");
    assert_eq!(server.next().await.unwrap().unwrap(), "up");
    assert!(client.next().await.is_none() && server.next().await.is_none());
    client.gone().await.unwrap();
    server.gone().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_responders_keys_change_in_json_too() {
    let mut sides = Sides::speaking(Encoding::Json);
    let mut limits = Limits::default();
    limits.rekey_records = 1;
    sides.server = sides.server.limits(limits);
    let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
    for epoch in 1..5 {
        server.send("12345".into()).await.unwrap();
        let text = near_server.text().await;
        assert!(text.contains(&format!(r#""nonce":"00{epoch:06x}"#)), "{text}");
        near_client.say(text).await;
        assert_eq!(client.next().await.unwrap().unwrap(), "12345");
    }
}
