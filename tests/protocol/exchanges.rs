//! Section 7: ids, the replay window, deadlines.

use std::{sync::Arc, time::Duration};

use tower_seal::{
    error::Code,
    protocol::{Final, Session},
    telemetry::Metric,
};

use crate::support::{
    BOTH, MILLI, Pair, SECOND, Seeded, code,
    hand::Peer,
    open,
    wire::{Draft, OPENING, Wire},
};

const WINDOW: u64 = 4096;

/// Serves the exchange `id`, by hand.
fn exchange(pair: &mut Pair, peer: &Peer, id: u64) -> Result<(), Code> {
    pair.serve(&peer.request(id, b"x").seal().binary()).map(drop).map_err(|error| error.code().unwrap())
}

fn deadline(pair: &mut Pair, session: &Arc<Session>, timeout: Duration) -> u64 {
    let request = session.request(&b"x"[..], Final::Yes, timeout, false, &mut pair.rng, pair.now).unwrap();
    Wire::read(&request.bytes).opening.unwrap().1
}

/// A request by hand whose deadline is so many milliseconds after the reply.
fn until(peer: &Peer, id: u64, deadline: u64) -> Vec<u8> {
    Draft { opening: Some(([7; 16], deadline)), ..peer.request(id, b"x") }.seal().binary()
}

#[test]
fn exchanges_are_numbered_from_1_in_each_session() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        let session = pair.session();
        for id in 1..4 {
            let request = pair.request(&session, b"x", Final::Yes);
            assert_eq!(Wire::read(&request.bytes).stream, id);
        }
    }
}

#[test]
fn the_same_bytes_are_served_once() {
    for encoding in BOTH {
        let mut pair = Pair::encoding(encoding);
        let session = pair.session();
        let request = pair.request(&session, b"pay", Final::Yes);
        pair.serve(&request.bytes).unwrap();
        for _ in 0..2 {
            assert_eq!(code(pair.serve(&request.bytes)), Code::Replayed);
        }
    }
}

#[test]
fn of_two_copies_in_flight_one_is_served() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"pay", Final::Yes);
    let (one, two) = (pair.offer(&request.bytes).unwrap(), pair.offer(&request.bytes).unwrap());
    two.claim(false, &mut pair.rng, pair.now).unwrap();
    assert_eq!(code(one.claim(false, &mut pair.rng, pair.now)), Code::Replayed);
}

#[test]
fn an_id_is_taken_whatever_the_bytes() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    exchange(&mut pair, &peer, 1).unwrap();
    let other = Draft { opening: Some(([8; 16], 60_000)), ..peer.request(1, b"other") };
    assert_eq!(code(pair.serve(&other.seal().binary())), Code::Replayed);
}

#[test]
fn a_forgery_claims_nothing() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let wire = peer.request(1, b"x").seal();
    let mut forged = wire.clone();
    forged.ciphertext[0] ^= 1;
    assert_eq!(code(pair.serve(&forged.binary())), Code::DecryptionFailed);
    assert_eq!(code(pair.serve(&peer.request(1, b"x").unsigned().seal().binary())), Code::InvalidSignature);
    pair.serve(&wire.binary()).unwrap();
}

#[test]
fn a_request_that_is_refused_for_its_path_confirms_the_session_but_claims_no_id() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"/wrong", Final::Yes);
    drop(pair.offer(&request.bytes).unwrap());
    assert_eq!(pair.server_trust.confirmations().len(), 1);
    pair.turn(61 * SECOND);
    let again = pair.request(&session, b"/right", Final::Yes);
    pair.serve(&again.bytes).unwrap();
}

#[test]
fn an_offer_that_is_dropped_does_not_burn_its_id() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"x", Final::Yes);
    drop(pair.offer(&request.bytes).unwrap());
    pair.serve(&request.bytes).unwrap();
}

#[test]
fn ids_may_come_out_of_order_within_the_window() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    for id in [5, 3, WINDOW, 4, 1] {
        exchange(&mut pair, &peer, id).unwrap();
        assert_eq!(exchange(&mut pair, &peer, id), Err(Code::Replayed));
    }
    exchange(&mut pair, &peer, WINDOW + 1).unwrap();
    exchange(&mut pair, &peer, 2).unwrap();
}

#[test]
fn an_id_older_than_the_window_is_replayed_though_it_was_never_seen() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    exchange(&mut pair, &peer, 2 * WINDOW).unwrap();
    assert_eq!(exchange(&mut pair, &peer, WINDOW), Err(Code::Replayed));
    exchange(&mut pair, &peer, WINDOW + 1).unwrap();
    let highest = (1 << 53) - 1;
    exchange(&mut pair, &peer, highest).unwrap();
    assert_eq!(exchange(&mut pair, &peer, 2 * WINDOW + 1), Err(Code::Replayed));
    assert_eq!(exchange(&mut pair, &peer, highest), Err(Code::Replayed));
    exchange(&mut pair, &peer, highest - 1).unwrap();
}

#[test]
fn sessions_do_not_share_a_window() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        let peer = pair.by_hand();
        exchange(&mut pair, &peer, 1).unwrap();
    }
}

#[test]
fn a_deadline_counts_in_milliseconds_from_the_reply() {
    let mut pair = Pair::new();
    let session = pair.session();
    assert_eq!(deadline(&mut pair, &session, 60 * SECOND), 60_000);
    pair.turn(1500 * MILLI);
    assert_eq!(deadline(&mut pair, &session, 60 * SECOND), 61_500);
}

#[test]
fn a_deadline_is_never_0_and_never_beyond_the_greatest_number() {
    let mut pair = Pair::new();
    let session = pair.session();
    assert_eq!(deadline(&mut pair, &session, Duration::ZERO), 1);
    assert_eq!(deadline(&mut pair, &session, Duration::from_secs(1 << 50)), (1 << 53) - 1);
}

#[test]
fn a_timeout_without_end_is_no_panic() {
    let mut pair = Pair::new();
    let session = pair.session();
    assert_eq!(deadline(&mut pair, &session, Duration::MAX), (1 << 53) - 1);
    pair.turn(SECOND);
    assert_eq!(deadline(&mut pair, &session, Duration::MAX), (1 << 53) - 1);
}

#[test]
fn a_request_may_begin_at_its_deadline_and_not_later() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    pair.turn(5 * SECOND);
    pair.serve(&until(&peer, 1, 5000)).unwrap();
    pair.turn(MILLI);
    assert_eq!(code(pair.serve(&until(&peer, 2, 5000))), Code::Expired);
    pair.serve(&until(&peer, 2, 5001)).unwrap();
}

#[test]
fn a_deadline_ends_between_milliseconds_too() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    pair.turn(Duration::from_micros(5_000_999));
    assert_eq!(code(pair.serve(&until(&peer, 1, 5000))), Code::Expired);
}

#[test]
fn a_request_that_was_held_back_is_expired_even_if_it_is_genuine() {
    let mut pair = Pair::new();
    let session = pair.confirmed();
    let request = pair.request(&session, b"pay", Final::Yes);
    pair.turn(60 * SECOND + MILLI);
    assert_eq!(code(pair.serve(&request.bytes)), Code::Expired);
    assert_eq!(code(pair.serve(&request.bytes)), Code::Expired, "and not replayed: nothing was claimed");
}

#[test]
fn a_late_request_is_expired_before_anything_is_decrypted() {
    let mut pair = Pair::new();
    let peer = pair.by_hand();
    let mut garbage = peer.request(1, b"x").counter(0).seal();
    garbage.ciphertext.fill(0);
    garbage.opening = Some((OPENING.0, 1));
    pair.turn(2 * MILLI);
    assert_eq!(code(pair.serve(&garbage.binary())), Code::Expired);
}

#[test]
fn the_deadline_is_for_the_first_record_only() {
    let mut pair = Pair::new();
    let session = pair.session();
    let mut request = pair.request(&session, b"a", Final::No);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    pair.turn(120 * SECOND);
    let last = request.rest.as_mut().unwrap().seal(&b"b"[..], Final::Yes, pair.now).unwrap();
    open(claimed.rest.as_mut().unwrap(), &last, pair.now).unwrap();
    let response = pair.respond(&mut claimed, b"c", Final::Yes);
    pair.receive(&request.response, &response).unwrap();
}

#[test]
fn a_slow_reply_makes_the_responder_stricter_and_never_more_lenient() {
    let mut pair = Pair::new();
    let (hello, initiator) = pair.start();
    let (reply, session) = pair.accept(&hello).unwrap();
    pair.server.admit(session);
    pair.turn(2 * SECOND);
    let session = Arc::new(initiator.finish(&reply, pair.now).unwrap());
    let mut request =
        |timeout| session.request(&b"x"[..], Final::Yes, timeout, false, &mut pair.rng, pair.now);
    let (short, long) = (request(SECOND).unwrap(), request(3 * SECOND).unwrap());
    assert_eq!(code(pair.serve(&short.bytes)), Code::Expired);
    pair.serve(&long.bytes).unwrap();
}

#[test]
fn two_responses_to_one_request_share_no_keys_and_both_open() {
    let (mut pair, mut replica) = (Pair::new(), Pair::new());
    let (session, _) = (pair.session(), replica.session());
    replica.rng = Seeded::new(2);
    let request = pair.request(&session, b"?", Final::Yes);
    let respond = |server: &mut Pair| {
        let mut claimed = server.serve(&request.bytes).unwrap();
        server.respond(&mut claimed, b"the same answer", Final::Yes)
    };
    let (one, two) = (respond(&mut pair), respond(&mut replica));
    assert_ne!(Wire::read(&one).opening, Wire::read(&two).opening);
    assert_ne!(Wire::read(&one).ciphertext, Wire::read(&two).ciphertext);
    for response in [one, two] {
        assert_eq!(&pair.receive(&request.response, &response).unwrap().0.plaintext[..], b"the same answer");
    }
}

#[test]
fn two_requests_with_one_number_share_no_keys() {
    let (mut pair, mut restored) = (Pair::new(), Pair::new());
    let (session, copy) = (pair.session(), restored.session());
    restored.rng = Seeded::new(2);
    let (one, two) = (pair.request(&session, b"a", Final::Yes), restored.request(&copy, b"a", Final::Yes));
    let (one, two) = (Wire::read(&one.bytes), Wire::read(&two.bytes));
    assert_eq!((one.session, one.stream), (two.session, two.stream));
    assert_ne!(one.ciphertext, two.ciphertext);
}

#[test]
fn a_response_may_begin_before_the_request_has_ended() {
    let mut pair = Pair::new();
    let session = pair.session();
    let mut request = pair.request(&session, b"a", Final::No);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let first = pair.respond(&mut claimed, b"1", Final::No);
    let (_, mut opener) = pair.receive(&request.response, &first).unwrap();
    let last = request.rest.as_mut().unwrap().seal(&b"b"[..], Final::Yes, pair.now).unwrap();
    open(claimed.rest.as_mut().unwrap(), &last, pair.now).unwrap();
    let last = pair.respond(&mut claimed, b"2", Final::Yes);
    open(&mut opener, &last, pair.now).unwrap();
}

#[test]
fn the_caller_of_a_request_is_who_signed_it() {
    let mut pair = Pair::new();
    let session = pair.session();
    let made = pair.now;
    pair.turn(SECOND);
    let request = pair.request(&session, b"x", Final::Yes);
    let caller = pair.serve(&request.bytes).unwrap().caller;
    assert_eq!(
        (caller.node_id(), caller.session(), caller.since()),
        (pair.client.node_id(), session.id(), made)
    );
}

#[test]
fn an_unknown_session_is_named_as_such_with_what_a_signed_error_needs() {
    let mut pair = Pair::new();
    let peer = Peer { session: [0xee; 16], ..pair.by_hand() };
    let frame = peer.request(1, b"x").seal().binary();
    let (error, subject) = pair.try_offer(&frame).unwrap_err();
    assert_eq!((error.code(), subject.is_some()), (Some(Code::UnknownSession), true));
    let (error, subject) = pair.try_offer(&frame[..40]).unwrap_err();
    assert_eq!((error.code(), subject.is_some()), (Some(Code::Malformed), false));
    let mut later = peer.request(1, b"x").counter(1).seal();
    later.opening = None;
    assert!(pair.try_offer(&later.binary()).unwrap_err().1.is_none());
}

#[test]
fn records_are_counted_on_both_sides_when_every_check_held() {
    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, b"x", Final::Yes);
    let mut forged = request.bytes.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let _ = pair.offer(&forged);
    assert_eq!(pair.server_metric(Metric::RecordsOpened), 0);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    pair.respond(&mut claimed, b"y", Final::Yes);
    assert_eq!(
        (pair.client_metric(Metric::RecordsSealed), pair.server_metric(Metric::RecordsOpened)),
        (1, 1)
    );
    assert_eq!(
        (pair.server_metric(Metric::RecordsSealed), pair.client_metric(Metric::RecordsOpened)),
        (1, 0)
    );
}
