//! Section 2.3: how many sessions there are, and for how long.

use std::{sync::Arc, time::Duration};

use tower_seal::{
    Error, Identity,
    config::{Hybrid, Limits},
    error::Code,
    protocol::{Final, Responder, Session},
    telemetry::Metric,
    trust::AnyIdentity,
};

use crate::support::{
    Duplex, MILLI, Pair, SECOND, code, config,
    hand::{Hello, Peer},
    open,
};

const HOUR: Duration = Duration::from_secs(3600);

fn is_alive(pair: &mut Pair, session: &Arc<Session>) -> bool {
    match pair.exchange(session) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), Some(Code::UnknownSession));
            false
        }
    }
}

/// A pair whose server takes anybody, within `limits`.
fn public(change: impl FnOnce(&mut Limits)) -> Pair {
    let mut pair = Pair::new();
    let mut limits = Limits::default();
    change(&mut limits);
    let config = config(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off).limits(limits);
    pair.client_trust.add(config.node_id());
    pair.server = Responder::new(config);
    pair
}

/// A provisional session of the node with this number.
fn stranger(pair: &mut Pair, node: u8) -> Peer {
    pair.hand = [node; 32];
    pair.by_hand()
}

fn serve(pair: &mut Pair, peer: &Peer, id: u64) -> Result<(), Error> {
    pair.serve(&peer.request(id, b"x").seal().binary()).map(drop)
}

fn live(pair: &Pair) -> u64 {
    pair.server_metric(Metric::SessionsLive)
}

#[test]
fn a_provisional_session_is_kept_for_60_seconds() {
    let mut pair = Pair::new();
    let (at, after) = (pair.session(), pair.session());
    pair.turn(60 * SECOND);
    assert!(is_alive(&mut pair, &at));
    pair.turn(MILLI);
    assert!(!is_alive(&mut pair, &after));
    assert!(is_alive(&mut pair, &at), "confirmed in time");
}

#[test]
fn an_initiator_makes_a_new_session_before_the_responder_gives_up_waiting() {
    let mut pair = Pair::new();
    let (unused, used) = (pair.session(), pair.session());
    assert!(!unused.is_stale(pair.now) && !used.is_stale(pair.now));
    pair.exchange(&used).unwrap();
    pair.turn(60 * SECOND);
    assert!(unused.is_stale(pair.now) && !used.is_stale(pair.now));
}

#[test]
fn a_node_has_at_most_8_provisional_sessions_and_the_oldest_goes_first() {
    let mut pair = Pair::new();
    let sessions: Vec<_> = (0..10).map(|_| pair.session()).collect();
    assert_eq!(live(&pair), 8);
    assert!(!is_alive(&mut pair, &sessions[0]) && !is_alive(&mut pair, &sessions[1]));
    assert!(sessions[2..].iter().all(|session| is_alive(&mut pair, session)));
}

#[test]
fn a_confirmed_session_makes_room_for_a_provisional_one() {
    let mut pair = Pair::new();
    let sessions: Vec<_> = (0..20).map(|_| pair.confirmed()).collect();
    assert!(sessions.iter().all(|session| is_alive(&mut pair, session)));
}

#[test]
fn a_node_evicts_its_own_provisional_sessions_and_no_others() {
    let mut pair = public(|_| {});
    let other = stranger(&mut pair, 1);
    let flood: Vec<_> = (0..9).map(|_| stranger(&mut pair, 2)).collect();
    serve(&mut pair, &other, 1).unwrap();
    assert_eq!(code(serve(&mut pair, &flood[0], 1)), Code::UnknownSession);
    serve(&mut pair, &flood[1], 1).unwrap();
}

#[test]
fn a_flood_of_hellos_evicts_no_confirmed_session() {
    let mut pair = public(|limits| (limits.provisional, limits.sessions) = (4, 4));
    let confirmed: Vec<_> = (0..4).map(|_| pair.confirmed()).collect();
    let flood: Vec<_> = (0..30).map(|node| stranger(&mut pair, node)).collect();
    assert_eq!(live(&pair), 4 + 4);
    assert!(confirmed.iter().all(|session| is_alive(&mut pair, session)));
    assert_eq!(code(serve(&mut pair, &flood[25], 1)), Code::UnknownSession);
    serve(&mut pair, &flood[26], 1).unwrap();
}

#[test]
fn of_too_many_confirmed_sessions_of_a_peer_its_least_recently_used_goes() {
    let mut pair = public(|limits| limits.sessions_per_peer = 2);
    let other = stranger(&mut pair, 1);
    serve(&mut pair, &other, 1).unwrap();
    pair.turn(SECOND);
    let first = pair.confirmed();
    pair.turn(SECOND);
    let second = pair.confirmed();
    pair.turn(SECOND);
    assert!(is_alive(&mut pair, &first));
    pair.turn(SECOND);
    let third = pair.confirmed();
    assert!(!is_alive(&mut pair, &second));
    assert!(is_alive(&mut pair, &first) && is_alive(&mut pair, &third));
    serve(&mut pair, &other, 2).unwrap();
}

#[test]
fn of_too_many_confirmed_sessions_the_least_recently_used_goes() {
    let mut pair = public(|limits| limits.sessions = 3);
    let peers: Vec<_> = (1..4)
        .map(|node| {
            let peer = stranger(&mut pair, node);
            serve(&mut pair, &peer, 1).unwrap();
            pair.turn(SECOND);
            peer
        })
        .collect();
    serve(&mut pair, &peers[0], 2).unwrap();
    let newest = stranger(&mut pair, 9);
    serve(&mut pair, &newest, 1).unwrap();
    assert_eq!(live(&pair), 3);
    assert_eq!(code(serve(&mut pair, &peers[1], 2)), Code::UnknownSession);
    serve(&mut pair, &peers[0], 3).unwrap();
    serve(&mut pair, &peers[2], 2).unwrap();
}

#[test]
fn a_forged_record_confirms_nothing_and_so_evicts_nothing() {
    let mut pair = public(|limits| limits.sessions = 1);
    let session = pair.confirmed();
    let peer = stranger(&mut pair, 1);
    let mut forged = peer.request(1, b"x").seal();
    forged.ciphertext[0] ^= 1;
    assert_eq!(code(pair.offer(&forged.binary())), Code::DecryptionFailed);
    assert!(is_alive(&mut pair, &session));
}

#[test]
fn a_hello_is_remembered_for_an_hour() {
    let mut pair = Pair::new();
    let hello = pair.hello().message();
    pair.accept(&hello).unwrap();
    pair.turn(HOUR - MILLI);
    assert_eq!(code(pair.accept(&hello)), Code::Replayed);
    pair.turn(2 * MILLI);
    pair.accept(&hello).unwrap();
    assert_eq!(code(pair.accept(&hello)), Code::Replayed);
}

#[test]
fn only_so_many_hellos_are_remembered_and_only_accepted_ones() {
    let mut pair = Pair::server_limits(|limits| limits.hellos = 2);
    let hellos: Vec<_> = (0..3).map(|_| pair.hello().message()).collect();
    pair.accept(&hellos[0]).unwrap();
    pair.accept(&hellos[1]).unwrap();
    for _ in 0..5 {
        let bad = Hello { signature: Some(vec![1; 64]), ..pair.hello() };
        assert_eq!(code(pair.accept(&bad.message())), Code::InvalidSignature);
    }
    assert_eq!(code(pair.accept(&hellos[0])), Code::Replayed);
    pair.accept(&hellos[2]).unwrap();
    assert_eq!(code(pair.accept(&hellos[1])), Code::Replayed);
    pair.accept(&hellos[0]).unwrap();
}

#[test]
fn a_hello_with_a_bad_key_is_not_remembered() {
    let mut pair = Pair::new();
    let hello = Hello { public_key: vec![0; 32], ..pair.hello() }.message();
    for _ in 0..2 {
        assert_eq!(code(pair.accept(&hello)), Code::Malformed);
    }
}

#[test]
fn after_its_time_no_stream_begins_on_either_side() {
    let mut pair = Pair::server_limits(|limits| limits.session = 100 * SECOND);
    let session = pair.confirmed();
    let peer = pair.by_hand();
    serve(&mut pair, &peer, 1).unwrap();
    pair.turn(100 * SECOND);
    assert!(session.takes_streams(pair.now) && is_alive(&mut pair, &session));
    pair.turn(MILLI);
    assert!(!session.takes_streams(pair.now));
    let late = session.request(&b"x"[..], Final::Yes, SECOND, false, &mut pair.rng, pair.now);
    assert_eq!(code(late), Code::UnknownSession);
    let request = crate::support::wire::Draft { opening: Some(([7; 16], 1 << 40)), ..peer.request(2, b"x") };
    assert_eq!(code(pair.offer(&request.seal().binary())), Code::UnknownSession);
}

#[test]
fn an_initiator_renews_a_session_before_its_time_is_up_or_it_has_rested_too_long() {
    let mut pair = Pair::server_limits(|limits| limits.session = 100 * SECOND);
    let session = pair.confirmed();
    pair.turn(89 * SECOND);
    assert!(!session.is_stale(pair.now));
    pair.turn(SECOND);
    assert!(session.is_stale(pair.now));

    let mut pair = Pair::client_limits(|limits| limits.idle = 100 * SECOND);
    let session = pair.confirmed();
    pair.turn(50 * SECOND);
    assert!(!session.is_stale(pair.now));
    pair.turn(MILLI);
    assert!(session.is_stale(pair.now));
}

#[test]
fn streams_that_have_begun_run_on_for_24_hours_from_their_beginning() {
    let mut pair = Pair::server_limits(|limits| limits.session = 100 * SECOND);
    let session = pair.session();
    pair.turn(50 * SECOND);
    let mut request = pair.request(&session, b"x", Final::No);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let first = pair.respond(&mut claimed, b"y", Final::No);
    let (_, mut down) = pair.receive(&request.response, &first).unwrap();
    let (mut up, mut rest) = (request.rest.take().unwrap(), claimed.rest.take().unwrap());
    for step in [60 * SECOND, 24 * HOUR - 60 * SECOND] {
        pair.turn(step);
        let frame = up.seal(&b"x"[..], Final::No, pair.now).unwrap();
        open(&mut rest, &frame, pair.now).unwrap();
        let frame = pair.respond(&mut claimed, b"y", Final::No);
        open(&mut down, &frame, pair.now).unwrap();
    }
    let (late_up, late_down) =
        (up.seal(&b"x"[..], Final::No, pair.now).unwrap(), pair.respond(&mut claimed, b"y", Final::No));
    pair.turn(MILLI);
    assert_eq!(code(open(&mut rest, &late_up, pair.now)), Code::UnknownSession);
    assert_eq!(code(open(&mut down, &late_down, pair.now)), Code::UnknownSession);
    assert_eq!(code(up.seal(&b"x"[..], Final::No, pair.now)), Code::UnknownSession);
    assert_eq!(code(claimed.response.seal(&b"y"[..], Final::No, pair.now)), Code::UnknownSession);
}

#[test]
fn a_duplex_connection_runs_on_for_24_hours() {
    let mut pair = Pair::server_limits(|limits| limits.session = 100 * SECOND);
    let Duplex { client: (mut sealer, _), server: (_, mut opener) } = pair.duplex();
    pair.turn(24 * HOUR);
    let frame = sealer.seal(&b"x"[..], Final::No, pair.now).unwrap();
    open(&mut opener, &frame, pair.now).unwrap();
    pair.turn(MILLI);
    assert_eq!(code(sealer.seal(&b"x"[..], Final::No, pair.now)), Code::UnknownSession);
}

#[test]
fn a_session_that_rests_too_long_ends_unless_a_stream_runs() {
    let mut pair = Pair::server_limits(|limits| limits.idle = 100 * SECOND);
    let (resting, running) = (pair.confirmed(), pair.confirmed());
    let request = pair.request(&running, b"events", Final::Yes);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    pair.turn(100 * SECOND);
    assert!(is_alive(&mut pair, &resting));
    pair.turn(100 * SECOND + MILLI);
    assert!(!is_alive(&mut pair, &resting));
    pair.respond(&mut claimed, b"event", Final::No);
    assert!(is_alive(&mut pair, &running));
}

#[test]
fn sweeping_forgets_what_has_rested_too_long_unless_a_stream_runs() {
    let mut pair = Pair::server_limits(|limits| limits.idle = 100 * SECOND);
    let (_resting, running) = (pair.confirmed(), pair.confirmed());
    let request = pair.request(&running, b"events", Final::Yes);
    let claimed = pair.serve(&request.bytes).unwrap();
    pair.turn(100 * SECOND + MILLI);
    assert!(pair.server.sweep(pair.now));
    assert_eq!(live(&pair), 1);
    drop(claimed);
    assert!(!pair.server.sweep(pair.now));
    assert_eq!(live(&pair), 0);
}

#[test]
fn sweeping_forgets_what_has_ended_and_wipes_its_keys() {
    let mut pair = Pair::server_limits(|limits| limits.session = 100 * SECOND);
    assert!(!pair.server.sweep(pair.now));
    let (_provisional, confirmed) = (pair.session(), pair.confirmed());
    assert_eq!(live(&pair), 2);
    pair.turn(60 * SECOND + MILLI);
    assert!(pair.server.sweep(pair.now));
    assert_eq!(live(&pair), 1);
    pair.turn(40 * SECOND);
    assert!(!pair.server.sweep(pair.now));
    assert_eq!(live(&pair), 0);
    drop((_provisional, confirmed));
    assert_eq!(pair.client_metric(Metric::SessionsLive), 0);
}

#[test]
fn the_gauge_of_sessions_falls_when_the_last_stream_of_one_goes() {
    let mut pair = Pair::new();
    let Duplex { client, server } = pair.duplex();
    assert_eq!((pair.client_metric(Metric::SessionsLive), live(&pair)), (1, 1));
    let ((sealer, opener), (up, down)) = (client, server);
    drop((sealer, up));
    assert_eq!((pair.client_metric(Metric::SessionsLive), live(&pair)), (1, 1));
    drop((opener, down));
    assert_eq!((pair.client_metric(Metric::SessionsLive), live(&pair)), (0, 0));
    assert_eq!(pair.server_metric(Metric::Handshakes), 1);
}

#[test]
fn a_session_that_was_ended_carries_no_further_record() {
    let mut pair = Pair::new();
    let session = pair.confirmed();
    let mut request = pair.request(&session, b"x", Final::No);
    session.end();
    assert!(!session.takes_streams(pair.now) && session.is_stale(pair.now));
    assert_eq!(
        code(request.rest.as_mut().unwrap().seal(&b"y"[..], Final::Yes, pair.now)),
        Code::UnknownSession
    );
    assert!(!is_alive(&mut pair, &session));
}
