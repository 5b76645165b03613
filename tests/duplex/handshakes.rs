//! What ends a handshake, and what the other side is told of it.

use futures_util::{FutureExt as _, StreamExt as _};
use tower_seal::{
    Config, Error, Identity,
    config::Encoding,
    duplex::{self, Acceptor, Frame},
    error::Code,
    protocol::{Destination, Final, Initiator},
    telemetry::Metric,
    trust::Pinned,
};

use crate::support::*;

async fn to(sides: &Sides, named: Option<&str>, acceptor: &Acceptor, path: Option<&str>) -> (Code, Code) {
    let (here, there) = frames();
    let destination = Destination { target: named, ..Destination::default() };
    let (client, server) = tokio::join!(
        duplex::connect(here, &sides.client, destination),
        duplex::accept(there, acceptor, path)
    );
    (code(client), code(server))
}

#[tokio::test(start_paused = true)]
async fn a_target_is_compared_byte_for_byte() {
    let sides = Sides::new();
    let acceptor = sides.acceptor();
    for (named, path) in [
        (None, "/mcp"),
        (Some("/mcp/"), "/mcp"),
        (Some("/MCP"), "/mcp"),
        (Some("/%6dcp"), "/mcp"),
        (Some(""), "/mcp"),
        (Some(""), "/"),
        (Some(""), ""),
        (Some("/mcp?x"), "/mcp"),
        (Some("//mcp"), "//mcp"),
    ] {
        let codes = to(&sides, named, &acceptor, Some(path)).await;
        assert_eq!(codes, (Code::PathMismatch, Code::PathMismatch), "{named:?} {path}");
    }
    for (named, path) in
        [(Some("/mcp"), Some("/mcp")), (Some("/"), Some("")), (None, None), (Some("/x"), None)]
    {
        let (here, there) = frames();
        let destination = Destination { target: named, ..Destination::default() };
        let (client, server) = tokio::join!(
            duplex::connect(here, &sides.client, destination),
            duplex::accept(there, &acceptor, path)
        );
        client.unwrap();
        server.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_a_gateway_strips_is_stripped_from_the_target() {
    let sides = Sides::new();
    let acceptor = sides.acceptor().stripped_prefix("/tools").unwrap();
    for (named, path) in [("/tools/mcp", "/mcp"), ("/tools", "/"), ("/tools", ""), ("/tools/", "/")] {
        let (here, there) = frames();
        let destination = Destination { target: Some(named), ..Destination::default() };
        let (client, server) = tokio::join!(
            duplex::connect(here, &sides.client, destination),
            duplex::accept(there, &acceptor, Some(path))
        );
        client.unwrap();
        server.unwrap();
    }
    for (named, path) in
        [("/mcp", "/mcp"), ("/toolsmcp", "mcp"), ("/tools//mcp", "//mcp"), ("/tools/mcp", "/tools/mcp")]
    {
        let codes = to(&sides, Some(named), &acceptor, Some(path)).await;
        assert_eq!(codes, (Code::PathMismatch, Code::PathMismatch), "{named} {path}");
    }
    for bad in ["tools", "/tools/", "/", ""] {
        assert!(matches!(sides.acceptor().stripped_prefix(bad), Err(Error::Misuse { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused_and_told() {
    let mut sides = Sides::new();
    sides.clients.remove(sides.client.node_id());
    let (here, there) = frames();
    let (client, server) = tokio::join!(sides.connect(here), sides.accept(there));
    assert!(matches!(client.unwrap_err(), Error::Refused { code: Code::UntrustedPeer, signed: false }));
    assert!(matches!(server.unwrap_err(), Error::Untrusted { .. }));

    // And a server that the client does not want, though it does not say whom it wants.
    sides.clients.insert(sides.client.node_id());
    let two = [Identity::generate().node_id(), Identity::generate().node_id()];
    let client = Identity::generate();
    sides.clients.insert(client.node_id());
    sides.client = Config::new(client, Pinned::new(two));
    let (here, there) = frames();
    let (client, server) = tokio::join!(sides.connect(here), sides.accept(there));
    assert!(matches!(client.unwrap_err(), Error::Untrusted { code: Code::UntrustedPeer, .. }));
    assert!(matches!(server.unwrap_err(), Error::Refused { code: Code::UntrustedPeer, signed: false }));
}

#[tokio::test(start_paused = true)]
async fn the_audience_is_sent() {
    let sides = Sides::new();
    let (here, there) = frames();
    let other = Destination { audience: Some(sides.client.node_id()), ..Destination::default() };
    let (client, server) = tokio::join!(duplex::connect(here, &sides.client, other), sides.accept(there));
    assert!(matches!(client.unwrap_err(), Error::Refused { code: Code::WrongAudience, .. }));
    assert_eq!(code(server), Code::WrongAudience);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_hello_is_refused() {
    let sides = Sides::new();
    let acceptor = sides.acceptor();
    let (hello, _) = Initiator::start(&sides.client, Destination::default(), &mut rng()).unwrap();
    for expected in [None, Some("replayed")] {
        let (mut here, there) = frames();
        here.say(hello.clone()).await;
        let mut accept = Box::pin(duplex::accept(there, &acceptor, None));
        match expected {
            None => {
                assert!((&mut accept).now_or_never().is_none());
                assert!(here.text().await.contains("key_exchange"));
            }
            Some(expected) => {
                assert_eq!(code(accept.await), Code::Replayed);
                assert_eq!(here.last_words().await, expected);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_hello_is_refused() {
    let sides = Sides::new();
    let long = format!(r#"{{"type":"key_exchange","x":"{}"}}"#, "x".repeat(16 << 10));
    for (frame, expected) in [
        (Frame::Text("{}".into()), "malformed"),
        (Frame::Text(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.into()), "encryption_required"),
        (Frame::Text("hello".into()), "malformed"),
        (Frame::Text("".into()), "malformed"),
        (Frame::Text(r#"{"type":"hello"}"#.into()), "malformed"),
        (Frame::Text(r#"{"type":"key_exchange","version":2}"#.into()), "unsupported_version"),
        (Frame::Text(long.into()), "too_large"),
        (Frame::Binary(r#"{"type":"key_exchange"}"#.into()), "malformed"),
        (Frame::Binary(vec![1; 100].into()), "malformed"),
    ] {
        let (mut here, there) = frames();
        here.put(frame.clone()).await;
        assert_eq!(code(sides.accept(there).await).as_str(), expected, "{frame:?}");
        assert_eq!(here.last_words().await, expected, "{frame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_place_of_a_message_is_a_refusal_and_is_not_answered() {
    let sides = Sides::new();
    const BUSY: &str = r#"{"type":"error","code":"busy","message":""}"#;

    let (here, mut there) = frames();
    there.say(BUSY).await;
    let error = sides.connect(here).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Busy, signed: false }));
    assert!(there.text().await.contains("key_exchange"));
    assert!(there.next().await.is_none());

    // In place of record 0, too.
    let (here, there) = frames();
    let by_hand = async {
        let mut hand = Hand::responder(&sides.server, there, tower_seal::config::Encoding::Binary).await;
        hand.end.say(BUSY).await;
        hand
    };
    let (connected, _) = tokio::join!(sides.connect(here), by_hand);
    assert!(matches!(connected.unwrap_err(), Error::Refused { code: Code::Busy, .. }));

    let (mut here, there) = frames();
    here.say(BUSY).await;
    assert!(matches!(sides.accept(there).await.unwrap_err(), Error::Refused { code: Code::Busy, .. }));
    assert!(here.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn too_many_unfinished_handshakes_and_the_next_is_busy() {
    let sides = Sides::limited(|limits| limits.unfinished = 2);
    let acceptor = sides.acceptor();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (here, there) = frames();
            let acceptor = acceptor.clone();
            let accept = tokio::spawn(async move { duplex::accept(there, &acceptor, None).await.map(drop) });
            (here, accept)
        })
        .collect();
    tokio::task::yield_now().await;
    let (here, there) = frames();
    let (client, server) = tokio::join!(sides.connect(here), duplex::accept(there, &acceptor, None));
    assert!(matches!(client.unwrap_err(), Error::Refused { code: Code::Busy, .. }));
    assert_eq!(code(server), Code::Busy);

    // A place is free again as soon as one is done, well or not.
    for (here, accept) in waiting {
        drop(here);
        assert_eq!(code(accept.await.unwrap()), Code::Truncated);
    }
    let (here, there) = frames();
    let (client, server) = tokio::join!(sides.connect(here), duplex::accept(there, &acceptor, None));
    drop((client.unwrap(), server.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn too_many_handshakes_in_a_second_and_the_next_is_busy() {
    let sides = Sides::limited(|limits| limits.handshakes_per_second = 1);
    let acceptor = sides.acceptor();
    let mut codes = Vec::new();
    for _ in 0..2 {
        let (here, there) = frames();
        let (client, _) = tokio::join!(sides.connect(here), duplex::accept(there, &acceptor, None));
        codes.push(client.map_or_else(|error| error.code(), |_| None));
    }
    assert_eq!(codes, [None, Some(Code::Busy)]);
}

#[tokio::test(start_paused = true)]
async fn far_too_many_are_not_even_told() {
    let sides = Sides::limited(|limits| limits.unfinished = 1);
    let acceptor = sides.acceptor();
    let waiting: Vec<_> = (0..1 + 64)
        .map(|_| {
            let (here, there) = frames();
            let acceptor = acceptor.clone();
            let accept = tokio::spawn(async move { duplex::accept(there, &acceptor, None).await.map(drop) });
            (here, accept)
        })
        .collect();
    // Until each has taken its place: the scheduler comes back to the test now and then.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let (mut here, there) = frames();
    assert_eq!(code(duplex::accept(there, &acceptor, None).now_or_never().unwrap()), Code::Busy);
    assert!(here.next().await.is_none());
    // Those before it are, after a second.
    let began = tokio::time::Instant::now();
    for (i, (here, accept)) in waiting.into_iter().enumerate().rev() {
        let expected = if i == 0 { Code::Timeout } else { Code::Busy };
        assert_eq!(code(accept.await.unwrap()), expected);
        assert_eq!(here.last_words().await, expected.as_str());
        assert_eq!(began.elapsed().as_secs(), if i == 0 { 10 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_dropped_gives_its_place_back() {
    let sides = Sides::limited(|limits| limits.unfinished = 1);
    let acceptor = sides.acceptor();
    for hello in [false, true] {
        let (mut here, there) = frames();
        if hello {
            let (hello, _) = Initiator::start(&sides.client, Destination::default(), &mut rng()).unwrap();
            here.say(hello).await;
        }
        assert!(duplex::accept(there, &acceptor, None).now_or_never().is_none());
        let (here, there) = frames();
        let (client, server) = tokio::join!(sides.connect(here), duplex::accept(there, &acceptor, None));
        drop((client.unwrap(), server.unwrap()));
        let (here, _there) = frames();
        assert!(sides.connect(here).now_or_never().is_none());
    }
    assert_eq!(sides.server.telemetry().value(Metric::SessionsLive), 0);
    assert_eq!(sides.client.telemetry().value(Metric::SessionsLive), 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_does_not_confirm_the_oldest_goes_first() {
    let sides = Sides::new();
    let acceptor = sides.acceptor();
    let mut hands = Vec::new();
    let began = tokio::time::Instant::now();
    for i in 0..9 {
        let (here, there) = frames();
        let acceptor = acceptor.clone();
        let accept = tokio::spawn(async move { duplex::accept(there, &acceptor, None).await.map(drop) });
        hands.push((Hand::initiator(&sides.client, here, Encoding::Binary).await, accept));
        // But not before it has had its time.
        assert_eq!(began.elapsed().as_secs(), if i < 8 { 0 } else { 3 });
    }
    let (oldest, accept) = hands.remove(0);
    assert_eq!(code(accept.await.unwrap()), Code::Busy);
    assert_eq!(oldest.end.last_words().await, "busy");
    // The others still may, and who has confirmed counts no more.
    for (mut hand, accept) in hands {
        hand.send("", Final::No).await;
        accept.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_peer_is_not_counted_as_one_of_this_side() {
    let sides = Sides::new();
    sides.clients.remove(sides.client.node_id());
    let (here, there) = frames();
    let (client, server) = tokio::join!(sides.connect(here), sides.accept(there));
    assert!(client.is_err() && server.is_err());
    assert_eq!(sides.server.telemetry().rejections(Code::UntrustedPeer), 1);
    assert_eq!(sides.client.telemetry().rejections(Code::UntrustedPeer), 0);
}

#[tokio::test(start_paused = true)]
async fn plaintext_is_told_to_be_sealed_even_if_this_protocol_would_not_read_it() {
    let sides = Sides::new();
    for text in [
        r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
        r#" [{"jsonrpc":"2.0","id":1,"method":"x"}]"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1,"a":2}}"#,
    ] {
        let (mut here, there) = frames();
        here.say(text).await;
        assert_eq!(code(sides.accept(there).await), Code::EncryptionRequired);
        assert_eq!(here.last_words().await, "encryption_required");
    }
    // A hello is one, whatever it says beside.
    let (mut here, there) = frames();
    here.say(r#"{"type":"key_exchange","version":1,"jsonrpc":"2.0"}"#).await;
    assert_eq!(code(sides.accept(there).await), Code::Malformed);
}
