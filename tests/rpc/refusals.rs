//! What a server refuses, and that it changes nothing by it.

use bytes::{Bytes, BytesMut};
use tower::ServiceExt as _;
use tower_seal::{
    Config, Error, Identity,
    config::{Encoding, Signatures},
    error::Code,
    protocol::Final,
    trust::Pinned,
};

use crate::{
    hand::{Hand, answering, now, refusal, unsigned},
    support::*,
};

#[tokio::test(start_paused = true)]
async fn the_same_bytes_are_served_once() {
    for encoding in BOTH {
        let sides = Sides::new();
        let (app, served) = counted(echo());
        let wire = sides.serve(app);
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        for message in [request(1, "m"), notification("m")] {
            let before = served.value();
            let sent = hand.begin(&message, Final::Yes);
            send(&wire, sent.bytes.clone()).await;
            for _ in 0..3 {
                let answer = send(&wire, sent.bytes.clone()).await.unwrap();
                assert_eq!(refusal(&answer, &sent.response), (Code::Replayed, true));
            }
            assert_eq!(served.value(), before + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_copies_in_flight_one_is_served() {
    for encoding in BOTH {
        let sides = Sides::new();
        let gate = Gate::new();
        let held = gate.clone();
        let (app, served) = counted(app(move |message| {
            let held = held.clone();
            async move {
                held.pass().await;
                Some(message.bytes)
            }
        }));
        let wire = sides.serve(app);
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        let sent = hand.begin(&request(1, "m"), Final::Yes);
        let mut copies: Vec<_> =
            (0..8).map(|_| tokio::spawn(wire.clone().oneshot(sent.bytes.clone()))).collect();
        settle().await;
        gate.open();
        let mut opened = 0;
        for copy in copies.drain(..) {
            let answer = copy.await.unwrap().unwrap().unwrap();
            if answer.windows(7).any(|part| part == b"\"error\"") {
                assert_eq!(refusal(&answer, &sent.response), (Code::Replayed, true));
            } else {
                assert_eq!(hand.open(&answer, &sent.response), request(1, "m"));
                opened += 1;
            }
        }
        assert_eq!((opened, served.value()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_after_its_deadline_is_not_served() {
    for (held, right) in [(59, true), (61, false)] {
        let sides = Sides::new();
        let (app, served) = counted(echo());
        let wire = middle(sides.serve(app), move |frame, next| async move {
            if !is_hello(&frame) && frame.len() > 300 {
                tokio::time::advance(held * SECOND).await;
            }
            next.oneshot(frame).await
        });
        let rpc = sides.seal(wire);
        // So that the session is confirmed, and lasts.
        ask(&rpc, request(1, "m")).await.unwrap();
        let answer = ask(&rpc, request(2, &"m".repeat(300))).await;
        match answer {
            Ok(_) => assert!(right),
            Err(Error::Refused { code: Code::Expired, signed: true }) => assert!(!right),
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(served.value(), 1 + usize::from(right));
    }
}

#[tokio::test(start_paused = true)]
async fn forgeries_change_nothing() {
    for encoding in BOTH {
        let sides = Sides::new();
        let (app, served) = counted(echo());
        let wire = sides.serve(app);
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        // One request that has been begun before the forgeries, and is served after them: its id is not burnt.
        let honest = hand.begin(&request(1, "m"), Final::Yes);
        let step = if encoding == Encoding::Binary { 1 } else { 3 };
        for at in (0..honest.bytes.len()).step_by(step) {
            let mut forged = BytesMut::from(&honest.bytes[..]);
            forged[at] ^= 1;
            let answer = send(&wire, forged.freeze()).await.expect("an error");
            assert_eq!(parse(&answer)["type"], "error", "{at}");
            assert_eq!(served.value(), 0, "{at}");
        }
        for end in [0, 1, 2, 50, honest.bytes.len() - 1] {
            let answer = send(&wire, honest.bytes.slice(..end)).await.expect("an error");
            assert_eq!(parse(&answer)["type"], "error", "{end}");
        }
        let answer = send(&wire, honest.bytes.clone()).await.unwrap();
        assert_eq!(parse(&hand.open(&answer, &honest.response))["result"], "m");
        assert_eq!(served.value(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_of_no_kind_are_refused() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    for (frame, code) in [
        (&b""[..], Code::Malformed),
        (b"\x00", Code::Malformed),
        (b"\x01", Code::Malformed),
        (b"\x02abc", Code::Malformed),
        (b"GET / HTTP/1.1", Code::Malformed),
        (b"\xff\xfe", Code::Malformed),
        (b"{\"type\":\"error\",\"code\":\"busy\",\"message\":\"\"}", Code::Malformed),
        (b"{\"type\":\"encrypted\"}", Code::Malformed),
        (b"{\"type\":\"encrypted\",\"type\":\"encrypted\"}", Code::Malformed),
        (b"{\"type\":\"key_exchange\",\"version\":2}", Code::UnsupportedVersion),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}", Code::EncryptionRequired),
        (b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}]", Code::EncryptionRequired),
        (b" {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}", Code::EncryptionRequired),
    ] {
        let answer = send(&wire, frame.to_vec()).await.unwrap();
        assert_eq!(unsigned(&answer), code, "{}", String::from_utf8_lossy(frame));
    }
    // Deep nesting is read without recursion.
    let deep = [b"{\"a\":".repeat(200_000), b"[".repeat(200_000)].concat();
    assert_eq!(unsigned(&send(&wire, deep).await.unwrap()), Code::EncryptionRequired);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_not_final_is_truncated_and_claims_nothing() {
    for encoding in BOTH {
        let sides = Sides::new();
        let (app, served) = counted(echo());
        let wire = sides.serve(app);
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        let sent = hand.begin(&request(1, "m"), Final::No);
        for _ in 0..2 {
            let answer = send(&wire, sent.bytes.clone()).await.unwrap();
            assert_eq!(refusal(&answer, &sent.response), (Code::Truncated, true));
        }
        assert_eq!(served.value(), 0);
        hand.ask(&request(2, "m")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn records_above_the_limit_are_too_large() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    for encoding in BOTH {
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        let mut frame = hand.begin(&request(1, "m"), Final::Yes).bytes.to_vec();
        match encoding {
            Encoding::Binary => frame.resize(17 * MIB, 0),
            Encoding::Json => {
                frame.pop();
                frame.extend_from_slice(b",\"unknown\":\"");
                frame.resize(34 * MIB, b'a');
                frame.extend_from_slice(b"\"}");
            }
        }
        assert_eq!(unsigned(&send(&wire, frame).await.unwrap()), Code::TooLarge, "{encoding:?}");
    }
}

/// Cuts the signature out: flag, and 64 + 1 + 4 bytes behind kind, flags, opening and nonce.
fn without_signature(record: &[u8]) -> Vec<u8> {
    let mut bytes = record.to_vec();
    bytes[1] &= !2;
    bytes.drain(2 + 48 + 12..2 + 48 + 12 + 69);
    bytes
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_record_is_refused_where_all_are_signed() {
    // A client that follows `handshake` by itself is told `every` by the server.
    let mut sides = Sides::new();
    sides.client = sides.client.signatures(Signatures::Handshake);
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    hand.ask(&request(1, "m")).await.unwrap();
    let sent = hand.begin(&request(2, "m"), Final::Yes);
    let answer = send(&wire, without_signature(&sent.bytes)).await.unwrap();
    assert_eq!(refusal(&answer, &sent.response), (Code::InvalidSignature, true));
}

#[tokio::test(start_paused = true)]
async fn errors_are_signed_up_to_a_rate() {
    let sides = Sides::new().server_limits(|limits| limits.signed_errors_per_second = 2);
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let sent = hand.begin(&request(1, "m"), Final::Yes);
    send(&wire, sent.bytes.clone()).await.unwrap();
    for signed in [true, true, false, false] {
        let answer = send(&wire, sent.bytes.clone()).await.unwrap();
        assert_eq!(refusal(&answer, &sent.response), (Code::Replayed, signed));
    }
    assert_eq!(sides.server.telemetry().rejections(Code::Replayed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_session_of_another_server_is_unknown() {
    let sides = Sides::new();
    let hand = Hand::new(&sides.client, Encoding::Binary, &sides.serve(echo())).await;
    let (app, served) = counted(echo());
    let sent = hand.begin(&request(1, "m"), Final::Yes);
    let answer = send(&sides.serve(app), sent.bytes).await.unwrap();
    assert_eq!(refusal(&answer, &sent.response), (Code::UnknownSession, true));
    assert_eq!(served.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn trust_that_is_withdrawn_ends_the_session_even_during_a_call() {
    let sides = Sides::new();
    let clients = sides.clients.clone();
    let caller = sides.client.node_id();
    let app = app(move |message| {
        if parse(&message.bytes)["method"] == "withdraw" {
            clients.remove(caller);
        }
        async { Some(Bytes::from("secret")) }
    });
    let wire = sides.serve(app);
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    hand.ask(&request(1, "m")).await.unwrap();
    let sent = hand.begin(&request(2, "withdraw"), Final::Yes);
    let answer = send(&wire, sent.bytes).await.unwrap();
    assert_eq!(refusal(&answer, &sent.response).0, Code::UnknownSession);
}

// ---- answers ----

#[tokio::test(start_paused = true)]
async fn a_client_passes_on_nothing_that_is_no_answer_to_its_request() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let kept: std::sync::Arc<std::sync::Mutex<Option<Bytes>>> = std::sync::Arc::default();
        // What the middle makes of the honest answer, and of that to the request before.
        type Forge = fn(Bytes, Bytes) -> Bytes;
        let forgeries: [Forge; 7] = [
            |_, before| before,
            |honest, _| {
                let mut forged = honest.to_vec();
                let last = forged.len() - 5;
                forged[last] ^= 1;
                forged.into()
            },
            |honest, _| honest.slice(..honest.len() - 1),
            |_, _| response(1, "forged"),
            |_, _| "".into(),
            |_, _| "{\"type\":\"error\",\"code\":\"nonsense\",\"message\":\"\"}".into(),
            |_, _| "{\"type\":\"key_exchange\"}".into(),
        ];
        let forge: std::sync::Arc<std::sync::Mutex<Option<Forge>>> = std::sync::Arc::default();
        let (next, keep) = (forge.clone(), kept.clone());
        let wire = middle(sides.serve(echo()), move |frame, server| {
            let (forge, kept) = (next.clone(), keep.clone());
            async move {
                let hello = is_hello(&frame);
                let honest = server.oneshot(frame).await?.unwrap();
                if hello {
                    return Ok(Some(honest));
                }
                let before = kept.lock().unwrap().replace(honest.clone());
                let forge = *forge.lock().unwrap();
                Ok(Some(forge.map_or(honest.clone(), |forge| forge(honest, before.unwrap()))))
            }
        });
        let rpc = sides.seal(wire);
        ask(&rpc, request(1, "m")).await.unwrap();
        for (i, one) in forgeries.into_iter().enumerate() {
            *forge.lock().unwrap() = Some(one);
            for message in [request(1, "m")] {
                let error = ask(&rpc, message).await.unwrap_err();
                assert!(error.code().is_some(), "{i} {error:?}");
            }
            *forge.lock().unwrap() = None;
            ask(&rpc, request(1, "m")).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_in_the_other_encoding() {
    let sides = Sides::new();
    let wire = answering(&sides.server, |sealer| {
        sealer.speak(Encoding::Json);
        sealer.seal(&b"answer"[..], Final::Yes, now()).unwrap()
    });
    assert_eq!(ask(&sides.seal(wire), request(1, "m")).await.unwrap().unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_final_is_truncated() {
    let sides = Sides::new();
    let wire = answering(&sides.server, |sealer| sealer.seal(&b"answer"[..], Final::No, now()).unwrap());
    let error = ask(&sides.seal(wire), request(1, "m")).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Truncated), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn trust_that_is_withdrawn_by_the_client_ends_its_session_before_the_next_call() {
    let mut sides = Sides::new();
    let server = sides.server.node_id();
    let servers = std::sync::Arc::new(Pinned::new([server]));
    let client = Identity::generate();
    sides.clients.insert(client.node_id());
    sides.client = Config::new(client, servers.clone());
    let (app, served) = counted(echo());
    let (wire, traffic) = Traffic::through(sides.serve(app));
    let rpc = sides.seal(wire);
    ask(&rpc, request(1, "m")).await.unwrap();
    servers.remove(server);
    for _ in 0..2 {
        let error = ask(&rpc, request(2, "m")).await.unwrap_err();
        assert!(matches!(error, Error::Untrusted { code: Code::UntrustedPeer, .. }), "{error:?}");
    }
    assert_eq!((traffic.messages.value(), served.value()), (1, 1));
    servers.insert(server);
    ask(&rpc, request(2, "m")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_signed_handshakes_only_the_first_records_are_signed() {
    let mut sides = Sides::new();
    sides.client = sides.client.signatures(Signatures::Handshake);
    sides.server = sides.server.signatures(Signatures::Handshake);
    let frames = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = frames.clone();
    let (app, served) = counted(echo());
    let wire = middle(sides.serve(app), move |frame, next| {
        let seen = seen.clone();
        async move {
            let answer = next.oneshot(frame.clone()).await?.unwrap();
            seen.lock().unwrap().extend([frame, answer.clone()]);
            Ok(Some(answer))
        }
    });
    let rpc = sides.seal(wire.clone());
    for i in 0..3 {
        ask(&rpc, request(i, "m")).await.unwrap();
    }
    // Bit 1 of the flags (PROTOCOL section 4.2); the first two are hello and reply.
    let signed = frames.lock().unwrap()[2..].iter().map(|frame| frame[1] & 2 == 2).collect::<Vec<_>>();
    assert_eq!(signed, [true, false, false, false, false, false]);

    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let sent = hand.begin(&request(9, "m"), Final::Yes);
    let answer = send(&wire, without_signature(&sent.bytes)).await.unwrap();
    assert_eq!(refusal(&answer, &sent.response), (Code::InvalidSignature, true));
    assert_eq!(served.value(), 3);
    hand.ask(&request(9, "m")).await.unwrap();
}
