//! Hello, reply, and a first record each way: empty, not FINAL, and verified before anything else is done.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tower_seal::{
    Config, Identity,
    config::{Encoding, Hybrid, Signatures},
    duplex::Frame,
    error::Code,
    protocol::{Destination, Final, Initiator, Responder},
    telemetry::Metric,
    trust::{Candidate, PreShared, Trust, Verdict},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn both_sides_confirm_and_know_each_other() {
    for encoding in BOTH {
        for policy in [Signatures::Every, Signatures::Handshake] {
            let mut sides = Sides::speaking(encoding);
            sides.client = sides.client.signatures(policy);
            sides.server = sides.server.signatures(policy);
            let (mut client, mut server) = sides.pair().await;
            converse(&mut client, &mut server).await;
            let (ours, theirs) = (client.verified().unwrap(), server.verified().unwrap());
            assert_eq!(ours.node_id(), sides.server.node_id());
            assert_eq!(theirs.node_id(), sides.client.node_id());
            assert_eq!(ours.session(), theirs.session());
            let mut keys = [[0; 32]; 2];
            client.export(b"label", b"context", &mut keys[0]).unwrap();
            server.export(b"label", b"context", &mut keys[1]).unwrap();
            assert_eq!(keys[0], keys[1]);
            for config in [&sides.client, &sides.server] {
                assert_eq!(config.telemetry().value(Metric::DuplexHandshakes), 1);
                assert_eq!(config.telemetry().value(Metric::ConnectionsLive), 1);
            }
            part(&mut client, &mut server).await;
            drop((client, server));
            assert_eq!(sides.server.telemetry().value(Metric::ConnectionsLive), 0);
            assert_eq!(sides.server.telemetry().value(Metric::SessionsLive), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn four_frames_and_the_responder_speaks_as_the_initiator_does() {
    for spoken in BOTH {
        let mut sides = Sides::speaking(spoken);
        // The responder's own wish counts for nothing.
        sides.server =
            sides.server.encoding(if spoken == Encoding::Json { Encoding::Binary } else { Encoding::Json });
        let (mut client, mut server, mut near_client, mut near_server) = sides.through_hands().await;
        client.send("up".into()).await.unwrap();
        let up = near_client.get().await;
        assert_eq!(encoding(&up), spoken);
        near_server.put(up).await;
        server.next().await.unwrap().unwrap();
        server.send("down".into()).await.unwrap();
        assert_eq!(encoding(&near_server.get().await), spoken);
    }
}

#[tokio::test(start_paused = true)]
async fn an_initiator_takes_either_encoding() {
    for [spoken, answered] in [[Encoding::Binary, Encoding::Json], [Encoding::Json, Encoding::Binary]] {
        let sides = Sides::speaking(spoken);
        let (here, there) = frames();
        let by_hand = async {
            let mut hand = Hand::responder(&sides.server, there, answered).await;
            hand.open().await;
            hand.send("", Final::No).await;
            hand.send("hello", Final::Yes).await;
            hand
        };
        let (client, _hand) = tokio::join!(sides.connect(here), by_hand);
        let mut client = client.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), "hello");
        assert!(client.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_record_of_the_initiator_that_says_something_or_ends_is_malformed() {
    for encoding in BOTH {
        for (text, last) in [("x", Final::No), ("", Final::Yes), ("x", Final::Yes)] {
            let sides = Sides::new();
            let (here, there) = frames();
            let by_hand = async {
                let mut hand = Hand::initiator(&sides.client, here, encoding).await;
                hand.send(text, last).await;
                hand.end.last_words().await
            };
            let (accepted, told) = tokio::join!(sides.accept(there), by_hand);
            assert_eq!((code(accepted), &told[..]), (Code::Malformed, "malformed"));
            assert_eq!(sides.server.telemetry().rejections(Code::Malformed), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_record_of_the_responder_that_says_something_or_ends_is_malformed() {
    for (text, last) in [("x", Final::No), ("", Final::Yes)] {
        let sides = Sides::new();
        let (here, there) = frames();
        let by_hand = async {
            let mut hand = Hand::responder(&sides.server, there, Encoding::Binary).await;
            hand.open().await;
            hand.send(text, last).await;
            hand.end.last_words().await
        };
        let (connected, told) = tokio::join!(sides.connect(here), by_hand);
        assert_eq!((code(connected), &told[..]), (Code::Malformed, "malformed"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_initiators_first_message_may_come_with_its_confirmation() {
    let sides = Sides::new();
    let (here, there) = frames();
    let by_hand = async {
        let mut hand = Hand::initiator(&sides.client, here, Encoding::Binary).await;
        hand.send("", Final::No).await;
        hand.send("early", Final::No).await;
        assert!(hand.open().await.plaintext.is_empty());
        hand
    };
    let (server, _hand) = tokio::join!(sides.accept(there), by_hand);
    assert_eq!(server.unwrap().next().await.unwrap().unwrap(), "early");
}

#[tokio::test(start_paused = true)]
async fn the_application_gets_no_connection_before_the_confirmation() {
    let sides = Sides::new();
    let (here, there) = frames();
    let mut accept = Box::pin(sides.accept(there));
    let by_hand = Hand::initiator(&sides.client, here, Encoding::Binary);
    let mut hand = tokio::select! {
        _ = &mut accept => panic!("before the confirmation"),
        hand = by_hand => hand,
    };
    assert!((&mut accept).now_or_never().is_none());
    hand.send("", Final::No).await;
    accept.await.unwrap();
}

#[tokio::test]
async fn a_first_record_may_be_padded() {
    use tower_seal::duplex::{pipe, websocket};
    let padding = tower_seal::config::Padding::Multiple(std::num::NonZeroU16::MAX);
    for encoding in BOTH {
        let mut sides = Sides::speaking(encoding);
        sides.client = sides.client.padding(padding);
        sides.server = sides.server.padding(padding);
        let acceptor = sides.acceptor();

        let (here, there) = tokio::io::duplex(1000);
        let (client, server) = tokio::join!(
            pipe::connect(here, &sides.client, Destination::default()),
            pipe::accept(there, &acceptor)
        );
        converse(&mut client.unwrap(), &mut server.unwrap()).await;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let options = websocket::Options::new();
        let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), async {
            websocket::accept(listener.accept().await.unwrap().0, &acceptor).await
        });
        converse(&mut client.unwrap(), &mut server.unwrap()).await;
    }
}

/// Trust by a shared secret.
struct Shared(PreShared);

impl Trust for Shared {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        if candidate.pre_shared.is_some() { Verdict::Accept } else { Verdict::Refuse("no secret") }
    }

    fn pre_shared(&self, id: &[u8]) -> Option<PreShared> {
        Some(self.0.clone()).filter(|secret| secret.id() == id)
    }

    fn offers(&self, _: Option<&str>) -> Option<PreShared> {
        Some(self.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_shared_secret_neither_side_speaks_before_the_other_has_proved_it() {
    let mut sides = Sides::new();
    let secret = || Shared(PreShared::new(&[1; 16], &[2; 16]).unwrap());
    sides.client = Config::new(Identity::generate(), secret()).hybrid(Hybrid::Off);
    sides.server = Config::new(Identity::generate(), secret()).hybrid(Hybrid::Off);

    // The initiator: hello, an empty record, and not a word more.
    let (here, there) = frames();
    let mut connect = Box::pin(sides.connect(here));
    let mut hand = tokio::select! {
        _ = &mut connect => panic!("before the confirmation"),
        hand = Hand::responder(&sides.server, there, Encoding::Binary) => hand,
    };
    assert!((&mut connect).now_or_never().is_none());
    assert!(hand.open().await.plaintext.is_empty());
    assert!((&mut connect).now_or_never().is_none());
    assert!(hand.end.next().now_or_never().is_none());
    hand.send("", Final::No).await;
    connect.await.unwrap();

    // The responder: a reply, and not a word more.
    let (here, there) = frames();
    let mut accept = Box::pin(sides.accept(there));
    let mut hand = tokio::select! {
        _ = &mut accept => panic!("before the confirmation"),
        hand = Hand::initiator(&sides.client, here, Encoding::Binary) => hand,
    };
    assert!((&mut accept).now_or_never().is_none());
    assert!(hand.end.next().now_or_never().is_none());
    hand.send("", Final::No).await;
    accept.await.unwrap();
    assert!(hand.open().await.plaintext.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_first_record_is_refused() {
    // The session is "every" on one side's wish, and the other by hand drops the signature: flags, nonce, rest.
    let sides = Sides::new();
    let (here, there) = frames();
    let by_hand = async {
        let mut hand = Hand::initiator(&sides.client, here, Encoding::Binary).await;
        let record = hand.seal("", Final::No).into_bytes();
        let mut unsigned = vec![1, 0];
        unsigned.extend_from_slice(&record[2..14]);
        unsigned.extend_from_slice(&record[14 + 64 + 1 + 4..]);
        hand.end.put(Frame::Binary(unsigned.into())).await;
        hand.end.last_words().await
    };
    let (accepted, told) = tokio::join!(sides.accept(there), by_hand);
    assert_eq!((code(accepted), &told[..]), (Code::InvalidSignature, "invalid_signature"));
}

/// The same policy as [`an_unsigned_first_record_is_refused`], where later records need no signature.
#[tokio::test(start_paused = true)]
async fn so_it_is_where_only_the_handshake_is_signed() {
    let mut sides = Sides::new();
    sides.client = sides.client.signatures(Signatures::Handshake);
    sides.server = sides.server.signatures(Signatures::Handshake);
    let (here, there) = frames();
    let by_hand = async {
        let mut hand = Hand::initiator(&sides.client, here, Encoding::Binary).await;
        let record = hand.seal("", Final::No).into_bytes();
        let mut unsigned = vec![1, 0];
        unsigned.extend_from_slice(&record[2..14]);
        unsigned.extend_from_slice(&record[14 + 64 + 1 + 4..]);
        hand.end.put(Frame::Binary(unsigned.into())).await;
        hand.end.last_words().await
    };
    let (accepted, told) = tokio::join!(sides.accept(there), by_hand);
    assert_eq!((code(accepted), &told[..]), (Code::InvalidSignature, "invalid_signature"));
}

#[tokio::test(start_paused = true)]
async fn a_first_record_may_be_of_the_second_epoch() {
    let sides = Sides::new();
    let (here, there) = frames();
    let by_hand = async {
        let mut hand = Hand::initiator(&sides.client, here, Encoding::Binary).await;
        hand.sealer.rekey().unwrap();
        hand.send("", Final::No).await;
        hand.send("hello", Final::No).await;
        hand.open().await;
        hand
    };
    let (server, _hand) = tokio::join!(sides.accept(there), by_hand);
    assert_eq!(server.unwrap().next().await.unwrap().unwrap(), "hello");
}

/// What the responder says to an initiator that sends these frames, in this order, after its hello.
async fn told(sides: &Sides, frames_of: impl AsyncFnOnce(&mut Hand) -> Vec<Frame>) -> (Code, String) {
    let (here, there) = frames();
    let by_hand = async {
        let mut hand = Hand::initiator(&sides.client, here, Encoding::Binary).await;
        for frame in frames_of(&mut hand).await {
            hand.end.put(frame).await;
        }
        loop {
            match hand.end.get().await {
                Frame::Text(text) => break error_code(std::str::from_utf8(&text).unwrap()),
                Frame::Binary(_) => {}
            }
        }
    };
    let accept = async {
        match sides.accept(there).await {
            Ok(mut server) => code(server.next().await.unwrap()),
            Err(error) => code::<()>(Err(error)),
        }
    };
    tokio::join!(accept, by_hand)
}

#[tokio::test(start_paused = true)]
async fn what_comes_twice_or_too_early_or_from_elsewhere() {
    let sides = Sides::new();
    let twice = told(&sides, async |hand| vec![hand.seal("", Final::No); 2]).await;
    assert_eq!(twice, (Code::Replayed, "replayed".into()));

    let early = told(&sides, async |hand| {
        let first = hand.seal("", Final::No);
        vec![hand.seal("one", Final::No), first]
    });
    assert_eq!(early.await, (Code::OutOfOrder, "out_of_order".into()));

    let hello = told(&sides, async |_| {
        let (hello, _) = Initiator::start(&sides.client, Destination::default(), &mut rng()).unwrap();
        vec![Frame::Text(hello)]
    });
    assert_eq!(hello.await, (Code::Malformed, "malformed".into()));

    // A record 0 of the same two nodes, in another session.
    let (here, there) = frames();
    let mut other = Box::pin(sides.accept(there));
    let mut stolen = tokio::select! {
        _ = &mut other => panic!("before the confirmation"),
        hand = Hand::initiator(&sides.client, here, Encoding::Binary) => hand,
    };
    let elsewhere = told(&sides, async |_| vec![stolen.seal("", Final::No)]).await;
    assert_eq!(elsewhere, (Code::DecryptionFailed, "decryption_failed".into()));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_twice() {
    let sides = Sides::new();
    let (here, mut there) = frames();
    let by_hand = async {
        let hello = there.text().await;
        let responder = Responder::new(sides.server.clone());
        let (reply, _session) =
            responder.accept(hello.as_bytes(), |_| true, || true, &mut rng(), now()).unwrap();
        there.say(reply.clone()).await;
        there.say(reply).await;
        there.get().await;
        there.last_words().await
    };
    let (connected, told) = tokio::join!(sides.connect(here), by_hand);
    assert_eq!((code(connected), &told[..]), (Code::Malformed, "malformed"));
}
