//! Section 2.3: what a trust policy learns and when, and what happens when it changes its mind.

use std::sync::{Arc, atomic::Ordering};

use tower_seal::{
    config::Signatures,
    error::Code,
    protocol::{Destination, Final, Initiator},
    telemetry::Metric,
};

use crate::support::{Duplex, Pair, code, hand::node_id, open, parse};

#[test]
fn a_handshake_alone_confirms_nobody() {
    let mut pair = Pair::new();
    let (client, server) = pair.shake();
    assert!(!client.is_confirmed() && !server.is_confirmed());
    assert!(client.verified().is_none() && server.verified().is_none());
    assert!(pair.client_trust.confirmations().is_empty() && pair.server_trust.confirmations().is_empty());
}

#[test]
fn each_side_is_confirmed_once_by_the_first_record_that_the_other_opens() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"x", Final::Yes);
    assert!(pair.server_trust.confirmations().is_empty());
    let mut claimed = pair.serve(&request.bytes).unwrap();
    assert_eq!(pair.server_trust.confirmations(), [(pair.client.node_id(), None, None)]);
    let response = pair.respond(&mut claimed, b"y", Final::Yes);
    assert!(!session.is_confirmed() && pair.client_trust.confirmations().is_empty());
    pair.receive(&request.response, &response).unwrap();
    assert!(session.is_confirmed());
    let verified = session.verified().unwrap();
    assert_eq!((verified.node_id(), verified.session()), (pair.server_id(), session.id()));
    for _ in 0..3 {
        pair.exchange(&session).unwrap();
    }
    assert_eq!(pair.server_trust.confirmations().len(), 1);
    assert_eq!(pair.client_trust.confirmations(), [(pair.server_id(), None, None)]);
}

#[test]
fn both_sides_of_a_duplex_connection_are_confirmed_once() {
    let mut pair = Pair::new();
    let Duplex { client: (mut up, mut down), server: (mut sealer, mut opener) } = pair.duplex();
    for _ in 0..2 {
        let frame = up.seal(&b""[..], Final::No, pair.now).unwrap();
        open(&mut opener, &frame, pair.now).unwrap();
        let frame = sealer.seal(&b""[..], Final::No, pair.now).unwrap();
        open(&mut down, &frame, pair.now).unwrap();
    }
    assert_eq!(pair.server_trust.confirmations().len(), 1);
    assert_eq!(pair.client_trust.confirmations().len(), 1);
}

#[test]
fn a_record_that_fails_any_check_confirms_nobody() {
    for policy in ["every", "handshake"] {
        let mut pair = Pair::signing(Signatures::Handshake);
        let mut hello = pair.hello();
        hello.signatures = policy.into();
        let (reply, session) = pair.accept(&hello.message()).unwrap();
        pair.server.admit(session);
        let peer = hello.finish(&reply, &[], &[]);
        let mut forged = peer.request(1, b"x").seal();
        forged.ciphertext[0] ^= 1;
        let unsigned = peer.request(1, b"x").unsigned().seal();
        let unpadded = peer.request(1, b"x").flags(3).seal();
        for wire in [forged, unsigned, unpadded] {
            assert!(pair.offer(&wire.binary()).is_err());
        }
        assert!(pair.server_trust.confirmations().is_empty());
        pair.offer(&peer.request(1, b"x").seal().binary()).unwrap();
        assert_eq!(pair.server_trust.confirmations().len(), 1);
    }
}

#[test]
fn an_initiator_learns_a_node_for_the_origin_where_it_answered() {
    let mut pair = Pair::new();
    let origin = Some("https://example.com");
    let destination = Destination { origin, ..Destination::default() };
    let (hello, initiator) = Initiator::start(&pair.client, destination, &mut pair.rng).unwrap();
    let (reply, server) = pair.accept(&hello).unwrap();
    pair.server.admit(server);
    pair.exchange(&Arc::new(initiator.finish(&reply, pair.now).unwrap())).unwrap();
    assert_eq!(pair.client_trust.confirmations(), [(pair.server_id(), origin.map(str::to_owned), None)]);
}

#[test]
fn when_a_responder_withdraws_trust_the_sessions_of_that_node_end() {
    let mut pair = Pair::new();
    let (session, spare) = (pair.confirmed(), pair.session());
    let other = pair.by_hand();
    let mut request = pair.request(&session, b"a", Final::No);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let more = request.rest.as_mut().unwrap().seal(&b"b"[..], Final::Yes, pair.now).unwrap();

    pair.server_trust.remove(pair.client.node_id());
    assert_eq!(code(open(claimed.rest.as_mut().unwrap(), &more, pair.now)), Code::UnknownSession);
    assert_eq!(code(claimed.response.seal(&b"c"[..], Final::Yes, pair.now)), Code::UnknownSession);
    assert_eq!(code(pair.exchange(&session)), Code::UnknownSession);
    assert_eq!(code(pair.exchange(&spare)), Code::UnknownSession);
    let (hello, _) = pair.start();
    assert_eq!(code(pair.accept(&hello)), Code::UntrustedPeer);
    pair.serve(&other.request(1, b"x").seal().binary()).unwrap();
}

#[test]
fn when_an_initiator_withdraws_trust_the_sessions_with_that_node_end() {
    let mut pair = Pair::new();
    let session = pair.confirmed();
    let (other, peer) = pair.with_hand();
    let mut request = pair.request(&session, b"a", Final::No);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let first = pair.respond(&mut claimed, b"c", Final::No);
    let second = pair.respond(&mut claimed, b"d", Final::Yes);
    let (_, mut opener) = pair.receive(&request.response, &first).unwrap();

    pair.client_trust.remove(pair.server_id());
    assert_eq!(
        code(request.rest.as_mut().unwrap().seal(&b"b"[..], Final::Yes, pair.now)),
        Code::UnknownSession
    );
    assert_eq!(code(open(&mut opener, &second, pair.now)), Code::UnknownSession);
    assert_eq!(code(pair.receive(&request.response, &first)), Code::UnknownSession);
    assert_eq!(code(pair.exchange(&session)), Code::UnknownSession);
    assert!(session.is_stale(pair.now));
    let request = pair.request(&other, b"x", Final::Yes);
    let response = peer.response(&crate::support::wire::Wire::read(&request.bytes), b"y").seal().binary();
    pair.receive(&request.response, &response).unwrap();
}

#[test]
fn withdrawn_trust_ends_duplex_connections_at_both_ends() {
    let mut pair = Pair::new();
    let Duplex { client: (mut up, mut down), server: (mut sealer, mut opener) } = pair.duplex();
    let (there, back) = (
        up.seal(&b""[..], Final::No, pair.now).unwrap(),
        sealer.seal(&b""[..], Final::No, pair.now).unwrap(),
    );
    pair.client_trust.remove(pair.server_id());
    pair.server_trust.remove(pair.client.node_id());
    assert_eq!(code(open(&mut opener, &there, pair.now)), Code::UnknownSession);
    assert_eq!(code(open(&mut down, &back, pair.now)), Code::UnknownSession);
    assert_eq!(code(up.seal(&b""[..], Final::No, pair.now)), Code::UnknownSession);
    assert_eq!(code(sealer.seal(&b""[..], Final::No, pair.now)), Code::UnknownSession);
}

#[test]
fn trust_that_returns_revives_no_session_that_has_ended() {
    let mut pair = Pair::new();
    let session = pair.confirmed();
    pair.server_trust.remove(pair.client.node_id());
    assert_eq!(code(pair.exchange(&session)), Code::UnknownSession);
    pair.server_trust.add(pair.client.node_id());
    assert_eq!(code(pair.exchange(&session)), Code::UnknownSession);
    let session = pair.session();
    pair.exchange(&session).unwrap();

    let Duplex { client: (mut up, _), server: (mut sealer, mut opener) } = pair.duplex();
    let frame = up.seal(&b""[..], Final::No, pair.now).unwrap();
    pair.server_trust.remove(pair.client.node_id());
    assert_eq!(code(open(&mut opener, &frame, pair.now)), Code::UnknownSession);
    pair.server_trust.add(pair.client.node_id());
    assert_eq!(code(open(&mut opener, &frame, pair.now)), Code::UnknownSession);
    assert_eq!(code(sealer.seal(&b""[..], Final::No, pair.now)), Code::UnknownSession);
}

#[test]
fn sweeping_drops_the_sessions_of_a_node_that_is_trusted_no_more() {
    let mut pair = Pair::new();
    let _sessions = [pair.confirmed(), pair.session()];
    let _other = pair.by_hand();
    pair.server_trust.remove(pair.client.node_id());
    assert!(pair.server.sweep(pair.now));
    assert_eq!(pair.server_metric(Metric::SessionsLive), 1);
}

/// A policy that changes its mind between its verdict and the end of the handshake, as another thread can.
#[test]
fn trust_that_is_withdrawn_during_a_handshake_ends_its_session_at_the_responder() {
    let mut pair = Pair::new();
    pair.server_trust.fickle.store(true, Ordering::SeqCst);
    let hello = pair.hello();
    let Ok((reply, session)) = pair.accept(&hello.message()) else { return };
    assert!(!pair.server_trust.nodes.lock().unwrap().contains(&session.peer()));
    pair.server.admit(session);
    let frame = hello.finish(&reply, &[], &[]).request(1, b"x").seal().binary();
    assert!(pair.offer(&frame).is_err(), "a node that is not trusted was served");
}

#[test]
fn trust_that_is_withdrawn_during_a_handshake_ends_its_session_at_the_initiator() {
    let mut pair = Pair::new();
    let (initiator, reply) = pair.reply();
    pair.client_trust.fickle.store(true, Ordering::SeqCst);
    let Ok(session) = initiator.finish(&reply.message(), pair.now) else { return };
    assert_eq!(session.peer().as_bytes(), &node_id(&pair.hand));
    let session = Arc::new(session);
    let request =
        session.request(&b"x"[..], Final::Yes, crate::support::SECOND, false, &mut pair.rng, pair.now);
    assert!(request.is_err(), "a request was sealed for a node that is not trusted");
}

#[test]
fn trust_is_asked_again_only_when_it_may_have_changed() {
    let mut pair = Pair::new();
    let session = pair.confirmed();
    // Without a new revision a policy promises that nothing was withdrawn.
    pair.server_trust.nodes.lock().unwrap().clear();
    pair.exchange(&session).unwrap();
    pair.server_trust.revision.fetch_add(1, Ordering::SeqCst);
    let request = pair.request(&session, b"x", Final::Yes);
    let record = parse(&request.bytes).unwrap();
    assert!(pair.server.open(record, pair.now).is_err());
}
