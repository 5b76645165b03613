//! FINAL, each direction for itself; and ends without it.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tower_seal::{
    Error,
    config::{Encoding, Limits},
    error::Code,
    protocol::Final,
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
