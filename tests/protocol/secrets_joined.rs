//! Section 8: ML-KEM-768 and pre-shared secrets, which join X25519.

use tower_seal::{
    Identity,
    config::Hybrid,
    error::Code,
    protocol::{Final, Responder},
    trust::AnyIdentity,
};

use crate::support::{
    Pair, code, config, exported,
    hand::{Hello, Reply},
    wire::Wire,
};

const ID: [u8; 16] = [0x1d; 16];
const SECRET: [u8; 16] = [0x5e; 16];

fn hybrid(client: Hybrid, server: Hybrid) -> Pair {
    Pair::with(|config| config.hybrid(client), |config| config.hybrid(server))
}

/// A good hello with an `mlkem768` that is not.
fn with_kem_key(
    pair: &mut Pair,
    value: String,
) -> Result<(bytes::Bytes, tower_seal::protocol::Session), Code> {
    let mut hello = pair.hello();
    hello.extensions.insert("mlkem768".into(), value);
    pair.accept(&hello.message()).map_err(|error| error.code().unwrap())
}

/// Both sides know the same secret.
fn paired() -> Pair {
    let pair = Pair::new();
    pair.client_trust.share(&ID, &SECRET);
    pair.server_trust.share(&ID, &SECRET);
    pair
}

fn with_id(pair: &mut Pair, value: impl Into<String>) -> Hello {
    let mut hello = pair.hello();
    hello.extensions.insert("psk".into(), value.into());
    hello
}

#[test]
fn ml_kem_is_used_where_both_take_part_and_missed_where_one_insists() {
    for client in [Hybrid::Off, Hybrid::Offer, Hybrid::Require] {
        for server in [Hybrid::Off, Hybrid::Offer, Hybrid::Require] {
            let mut pair = hybrid(client, server);
            let (hello, initiator) = pair.start();
            assert_eq!(Hello::read(&hello).extensions.contains_key("mlkem768"), client != Hybrid::Off);
            let accepted = pair.accept(&hello);
            if (client, server) == (Hybrid::Off, Hybrid::Require) {
                assert_eq!(code(accepted), Code::UnsupportedSuite);
                continue;
            }
            let (reply, session) = accepted.unwrap();
            let both = client != Hybrid::Off && server != Hybrid::Off;
            let h1 = Hello::read(&hello).h1();
            assert_eq!(Reply::read(&reply, h1).extensions.contains_key("mlkem768"), both);
            let finished = initiator.finish(&reply, pair.now);
            if (client, server) == (Hybrid::Require, Hybrid::Off) {
                assert_eq!(code(finished), Code::UnsupportedSuite);
                continue;
            }
            let client = finished.unwrap();
            assert_eq!(exported(&client), exported(&session));
            pair.server.admit(session);
            pair.exchange(&client.into()).unwrap();
        }
    }
}

#[test]
fn an_ml_kem_key_has_its_size_and_passes_the_check_of_fips_203() {
    for value in ["", "00", &"00".repeat(1183), &"00".repeat(1185), &"0".repeat(2367), &"0g".repeat(1184)] {
        let mut pair = hybrid(Hybrid::Off, Hybrid::Offer);
        assert_eq!(with_kem_key(&mut pair, value.to_owned()).err(), Some(Code::Malformed));
    }
    let mut pair = hybrid(Hybrid::Off, Hybrid::Offer);
    assert_eq!(with_kem_key(&mut pair, "ff".repeat(1184)).err(), Some(Code::Malformed));
    // Coefficients of 0 are below the modulus.
    with_kem_key(&mut pair, "00".repeat(1184)).unwrap();
}

#[test]
fn a_responder_that_takes_no_part_in_ml_kem_does_not_look_at_the_key() {
    let mut pair = hybrid(Hybrid::Off, Hybrid::Off);
    with_kem_key(&mut pair, "whatever".to_owned()).unwrap();
}

#[test]
fn an_ml_kem_ciphertext_has_its_size() {
    for value in ["", "00", &"00".repeat(1087), &"00".repeat(1089), &"0g".repeat(1088)] {
        let mut pair = hybrid(Hybrid::Offer, Hybrid::Offer);
        let (initiator, mut reply) = pair.reply();
        reply.extensions.insert("mlkem768".into(), value.to_owned());
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::Malformed);
    }
}

#[test]
fn an_ml_kem_ciphertext_is_signed() {
    let mut pair = hybrid(Hybrid::Offer, Hybrid::Offer);
    let (hello, initiator) = pair.start();
    let (reply, _) = pair.accept(&hello).unwrap();
    let mut reply = Reply::read(&reply, Hello::read(&hello).h1());
    let value = reply.extensions.get_mut("mlkem768").unwrap();
    let other = if value.ends_with('0') { "1" } else { "0" };
    value.replace_range(2175.., other);
    assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::InvalidSignature);
}

#[test]
fn a_wrong_ml_kem_ciphertext_shows_at_the_first_record() {
    let mut pair = hybrid(Hybrid::Require, Hybrid::Off);
    let (initiator, mut reply) = pair.reply();
    reply.extensions.insert("mlkem768".into(), "00".repeat(1088));
    let session = initiator.finish(&reply.message(), pair.now).unwrap().into();
    // X25519 alone, which both sides know, opens nothing and seals nothing.
    let peer = reply.finish(&[], &[]);
    let request = pair.request(&session, b"for the holder of both secrets", Final::Yes);
    let wire = Wire::read(&request.bytes);
    let opening = crate::support::wire::opening_bytes(wire.opening.unwrap());
    assert_eq!(wire.open(&peer.keys, 0, wire.stream, &opening), None);
    let response = peer.response(&wire, b"a guess").seal().binary();
    assert_eq!(code(pair.receive(&request.response, &response)), Code::DecryptionFailed);
    assert!(!session.is_confirmed());
}

#[test]
fn extensions_enter_as_the_text_they_are_even_where_it_is_hex() {
    let mut pair = paired();
    let mut hello = with_id(&mut pair, const_hex::encode_upper(ID));
    hello.signature = Some(hello.signature());
    hello.extensions.insert("psk".into(), const_hex::encode(ID));
    assert_eq!(code(pair.accept(&hello.message())), Code::InvalidSignature);
    let hello = with_id(&mut pair, const_hex::encode_upper(ID));
    let (reply, session) = pair.accept(&hello.message()).unwrap();
    assert_eq!(Reply::read(&reply, hello.h1()).extensions["psk"], const_hex::encode_upper(ID));
    pair.server.admit(session);
    let peer = hello.finish(&reply, &[], &SECRET);
    pair.serve(&peer.request(1, b"paired").seal().binary()).unwrap();
}

#[test]
fn a_known_pre_shared_secret_is_repeated_and_joins_the_keys() {
    let mut pair = paired();
    let (hello, initiator) = pair.start();
    assert_eq!(Hello::read(&hello).extensions["psk"], const_hex::encode(ID));
    let (reply, server) = pair.accept(&hello).unwrap();
    assert_eq!(Reply::read(&reply, [0; 32]).extensions["psk"], const_hex::encode(ID));
    let client = initiator.finish(&reply, pair.now).unwrap();
    assert_eq!(exported(&client), exported(&server));
    pair.server.admit(server);
    pair.exchange(&client.into()).unwrap();
}

#[test]
fn the_secret_itself_is_in_the_keys() {
    let mut pair = paired();
    let hello = with_id(&mut pair, const_hex::encode(ID));
    let (reply, session) = pair.accept(&hello.message()).unwrap();
    pair.server.admit(session);
    for wrong in [&[][..], &[0x5e; 15], &[0x5e; 17]] {
        let request = hello.finish(&reply, &[], wrong).request(1, b"guess").seal().binary();
        assert_eq!(code(pair.offer(&request)), Code::DecryptionFailed);
    }
    pair.serve(&hello.finish(&reply, &[], &SECRET).request(1, b"known").seal().binary()).unwrap();
}

#[test]
fn a_wrong_secret_under_the_right_id_opens_no_record() {
    let mut pair = paired();
    pair.server_trust.share(&ID, &[0xbd; 16]);
    let session = pair.session();
    let request = pair.request(&session, b"token", Final::Yes);
    assert_eq!(code(pair.offer(&request.bytes)), Code::DecryptionFailed);
    assert!(pair.server_trust.confirmations().is_empty());
}

#[test]
fn an_initiator_whose_secret_is_not_repeated_stops() {
    let mut pair = paired();
    *pair.server_trust.secret.lock().unwrap() = None;
    let (hello, initiator) = pair.start();
    let (reply, _) = pair.accept(&hello).unwrap();
    assert_eq!(code(initiator.finish(&reply, pair.now)), Code::UntrustedPeer);

    for value in [None, Some("2e".repeat(16)), Some(String::new()), Some(const_hex::encode_upper(ID))] {
        let (initiator, mut reply) = pair.reply();
        reply.extensions.extend(value.map(|value| ("psk".to_owned(), value)));
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::UntrustedPeer);
    }
}

#[test]
fn an_unknown_secret_is_no_secret_where_trust_does_not_rest_on_it() {
    let mut pair = Pair::new();
    let hello = with_id(&mut pair, "2e".repeat(16));
    let (reply, session) = pair.accept(&hello.message()).unwrap();
    assert!(Reply::read(&reply, hello.h1()).extensions.is_empty());
    pair.server.admit(session);
    pair.serve(&hello.finish(&reply, &[], &[]).request(1, b"hi").seal().binary()).unwrap();
}

#[test]
fn a_responder_whose_trust_rests_on_the_secret_takes_no_hello_without_a_known_id() {
    let mut pair = paired();
    pair.server_trust.by_secret.store(true, std::sync::atomic::Ordering::SeqCst);
    pair.server_trust.nodes.lock().unwrap().clear();
    let plain = pair.hello();
    assert_eq!(code(pair.accept(&plain.message())), Code::UntrustedPeer);
    let unknown = with_id(&mut pair, "2e".repeat(16));
    assert_eq!(code(pair.accept(&unknown.message())), Code::UntrustedPeer);
    let known = with_id(&mut pair, const_hex::encode(ID));
    pair.accept(&known.message()).unwrap();
}

#[test]
fn the_id_of_a_secret_has_16_to_64_bytes_of_hex() {
    for (value, good) in [
        ("1d".repeat(15), false),
        ("1d".repeat(16), true),
        ("1d".repeat(64), true),
        ("1d".repeat(65), false),
        (String::new(), false),
        ("1".repeat(33), false),
        (format!("0x{}", "1d".repeat(16)), false),
        (format!("0x{}", "1d".repeat(15)), false),
        ("1g".repeat(16), false),
    ] {
        let mut pair = Pair::new();
        pair.server = Responder::new(config(Identity::generate(), AnyIdentity));
        let hello = with_id(&mut pair, value.clone());
        let result = pair.accept(&hello.message()).map(drop).map_err(|error| error.code());
        assert_eq!(result, if good { Ok(()) } else { Err(Some(Code::Malformed)) }, "{value}");
    }
}

#[test]
fn what_a_policy_learns_from_a_secret_it_learns_after_a_record() {
    let mut pair = paired();
    let session = pair.session();
    assert!(pair.server_trust.confirmations().is_empty() && pair.client_trust.confirmations().is_empty());
    let request = pair.request(&session, b"hello", Final::Yes);
    let mut claimed = pair.serve(&request.bytes).unwrap();
    let with_secret = |id| vec![(id, None, Some(ID.to_vec()))];
    assert_eq!(pair.server_trust.confirmations(), with_secret(pair.client.node_id()));
    assert!(pair.client_trust.confirmations().is_empty());
    let response = pair.respond(&mut claimed, b"welcome", Final::Yes);
    pair.receive(&request.response, &response).unwrap();
    assert_eq!(pair.client_trust.confirmations(), with_secret(pair.server_id()));
}
