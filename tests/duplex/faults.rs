//! Who stands in between, and what becomes of what it does; the error is for ever, and for both halves.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tower_seal::{Error, duplex::Frame, error::Code};

use crate::support::*;

/// Three messages as they go on the wire.
async fn three(
    sides: &Sides,
) -> ([Frame; 3], impl AsyncFnOnce([Option<Frame>; 4]) -> (Vec<String>, Code, String) + use<>) {
    let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
    let mut sent = Vec::new();
    for text in ["a", "b", "c"] {
        client.send(text.into()).await.unwrap();
        sent.push(near_client.get().await);
    }
    let deliver = async move |frames: [Option<Frame>; 4]| {
        for frame in frames.into_iter().flatten() {
            near_server.put(frame).await;
        }
        let mut got = Vec::new();
        loop {
            match server.next().await.unwrap() {
                Ok(message) => got.push(String::from_utf8(message.to_vec()).unwrap()),
                Err(error) => {
                    let found = code::<()>(Err(error));
                    assert_failed(&mut server, found).await;
                    let told = near_server.last_words().await;
                    drop(client);
                    return (got, found, told);
                }
            }
        }
    };
    (sent.try_into().unwrap(), deliver)
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_twice() {
    for encoding in BOTH {
        let ([a, b, c], deliver) = three(&Sides::speaking(encoding)).await;
        let outcome = deliver([Some(a.clone()), Some(a), Some(b), Some(c)]).await;
        assert_eq!(outcome, (vec!["a".into()], Code::Replayed, "replayed".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_missing() {
    for encoding in BOTH {
        let ([a, _, c], deliver) = three(&Sides::speaking(encoding)).await;
        let outcome = deliver([Some(a), Some(c), None, None]).await;
        assert_eq!(outcome, (vec!["a".into()], Code::OutOfOrder, "out_of_order".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn two_frames_that_change_places() {
    for encoding in BOTH {
        let ([a, b, c], deliver) = three(&Sides::speaking(encoding)).await;
        let outcome = deliver([Some(b), Some(a), Some(c), None]).await;
        assert_eq!(outcome, (vec![], Code::OutOfOrder, "out_of_order".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_late_is_a_frame_that_comes() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
        for text in ["a", "b"] {
            client.send(text.into()).await.unwrap();
            let held = near_client.get().await;
            assert!(tokio::time::timeout(3600 * SECOND, server.next()).await.is_err());
            near_server.put(held).await;
            assert_eq!(server.next().await.unwrap().unwrap(), text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_changed() {
    let ([a, b, _], deliver) = three(&Sides::new()).await;
    let mut changed = b.into_bytes().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let outcome = deliver([Some(a), Some(Frame::Binary(changed.into())), None, None]).await;
    assert_eq!(outcome, (vec!["a".into()], Code::DecryptionFailed, "decryption_failed".into()));
}

#[tokio::test(start_paused = true)]
async fn a_frame_in_the_other_kind_of_message() {
    for encoding in BOTH {
        let ([a, ..], deliver) = three(&Sides::speaking(encoding)).await;
        let other = match a {
            Frame::Text(bytes) => Frame::Binary(bytes),
            Frame::Binary(bytes) => Frame::Text(bytes),
        };
        let outcome = deliver([Some(other), None, None, None]).await;
        assert_eq!(outcome, (vec![], Code::Malformed, "malformed".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_the_other_direction_comes_back() {
    let sides = Sides::new();
    let (mut client, _server, mut near_client, _near_server) = sides.through_hands().await;
    client.send("hi".into()).await.unwrap();
    let mirrored = near_client.get().await;
    near_client.put(mirrored).await;
    assert_failed(&mut client, Code::DecryptionFailed).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit() {
    let sides = Sides::new();
    let (mut client, _server, mut near_client, _near_server) = sides.through_hands().await;
    near_client.put(Frame::Binary(vec![1; (16 << 20) + 1000].into())).await;
    assert_failed(&mut client, Code::TooLarge).await;
    assert_eq!(near_client.last_words().await, "too_large");
}

#[tokio::test(start_paused = true)]
async fn plaintext_on_an_open_connection_is_never_passed_on() {
    let sides = Sides::new();
    let (mut client, _server, mut near_client, _near_server) = sides.through_hands().await;
    near_client.say(r#"{"jsonrpc":"2.0","method":"x"}"#).await;
    assert_failed(&mut client, Code::Malformed).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_error_stays_whatever_comes_after() {
    let sides = Sides::new();
    let (mut client, server, mut near_client, near_server) = sides.through_hands().await;
    near_client.put(Frame::Binary(vec![1; 100].into())).await;
    let first = client.next().await.unwrap().unwrap_err().to_string();
    drop((server, near_server, near_client));
    for _ in 0..3 {
        assert_eq!(client.next().await.unwrap().unwrap_err().to_string(), first);
        assert_eq!(client.send("x".into()).await.unwrap_err().to_string(), first);
    }
}

#[tokio::test(start_paused = true)]
async fn both_halves_get_it_even_if_one_is_waiting() {
    let sides = Sides::new();
    let (client, _server, mut near_client, _near_server) = sides.through_hands().await;
    let (mut sender, mut receiver) = client.into_split();
    let mut waiting = tokio::spawn(async move { receiver.next().await.unwrap() });
    assert!((&mut waiting).now_or_never().is_none());
    near_client.put(Frame::Text("nonsense".into())).await;
    assert_eq!(code(waiting.await.unwrap()), Code::Malformed);
    assert_eq!(code(sender.send("x".into()).await), Code::Malformed);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_waits_is_woken_by_what_the_sender_finds() {
    let sides = Sides::new();
    let (client, _server, _near_client, _near_server) = sides.through_hands().await;
    let (mut sender, mut receiver) = client.into_split();
    let waiting = tokio::spawn(async move { receiver.next().await.unwrap() });
    tokio::task::yield_now().await;
    sides.servers.remove(sides.server.node_id());
    assert_eq!(code(sender.send("x".into()).await), Code::UnknownSession);
    // Nothing comes over the transport that could wake it, and no time passes.
    let began = tokio::time::Instant::now();
    assert_eq!(code(waiting.await.unwrap()), Code::UnknownSession);
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn misuse_ends_nothing() {
    let sides = Sides::new();
    let (mut client, mut server) = sides.pair().await;
    let long = vec![0; MIB + 1];
    assert!(matches!(client.send(long.into()).await, Err(Error::Misuse { .. })));
    converse(&mut client, &mut server).await;
    client.send(vec![0; MIB].into()).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap().len(), MIB);
}
