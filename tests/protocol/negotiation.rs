//! Sections 2.1 to 2.3: what two sides agree on, and what an initiator takes for an answer.

use tower_seal::{
    Identity, NodeId, SuiteId,
    config::Signatures,
    error::Code,
    protocol::{Destination, Initiator, Responder},
    trust::{AnyIdentity, Pinned},
};

use crate::support::{
    BOTH, Pair, SECOND, code, config, exported,
    hand::{self, AES, CHACHA, Hello, Reply},
};

const SUITES: [SuiteId; 2] = [SuiteId::Aes256Gcm, SuiteId::ChaCha20Poly1305];

fn suites(client: &[SuiteId], server: &[SuiteId]) -> Pair {
    Pair::with(|config| config.suites(client).unwrap(), |config| config.suites(server).unwrap())
}

#[test]
fn the_initiators_most_preferred_common_suite_is_chosen() {
    let [aes, chacha] = SUITES;
    for (client, server, chosen) in [
        (&[aes, chacha][..], &[chacha, aes][..], aes),
        (&[chacha, aes], &[aes, chacha], chacha),
        (&[aes, chacha], &[chacha], chacha),
        (&[chacha], &[aes, chacha], chacha),
        (&[aes], &[aes], aes),
    ] {
        let mut pair = suites(client, server);
        let (client, server) = pair.shake();
        assert_eq!((client.suite(), server.suite()), (chosen, chosen));
    }
}

#[test]
fn both_suites_carry_exchanges_of_both_implementations() {
    for (suite, name) in SUITES.into_iter().zip([AES, CHACHA]) {
        let mut pair = suites(&[suite], &SUITES);
        let session = pair.session();
        pair.exchange(&session).unwrap();
        for encoding in BOTH {
            let mut hello = pair.hello();
            hello.suites = vec![name.into()];
            let (reply, session) = pair.accept(&hello.message()).unwrap();
            pair.server.admit(session);
            let request = hello.finish(&reply, &[], &[]).request(1, b"by hand").seal();
            assert_eq!(&pair.serve(&request.encode(encoding)).unwrap().plaintext[..], b"by hand");
        }
    }
}

#[test]
fn unknown_suites_are_skipped() {
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello.suites = vec!["x448-aegis-sha3".into(), "".into(), CHACHA.into(), AES.into()];
    let (_, session) = pair.accept(&hello.message()).unwrap();
    assert_eq!(session.suite(), SuiteId::ChaCha20Poly1305);
}

#[test]
fn without_a_suite_in_common_there_is_no_session() {
    let mut pair = suites(&[SuiteId::ChaCha20Poly1305], &[SuiteId::Aes256Gcm]);
    let (hello, _) = pair.start();
    assert_eq!(code(pair.accept(&hello)), Code::UnsupportedSuite);
    let mut hello = pair.hello();
    hello.suites = vec![AES.to_uppercase()];
    assert_eq!(code(pair.accept(&hello.message())), Code::UnsupportedSuite);
}

#[test]
fn a_reply_with_a_suite_that_was_not_offered_is_malformed() {
    for suite in [CHACHA, "x25519-rot13-sha256", ""] {
        let mut pair = suites(&[SuiteId::Aes256Gcm], &SUITES);
        let (initiator, mut reply) = pair.reply();
        reply.suite = suite.into();
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::Malformed);
    }
}

#[test]
fn the_stricter_signature_policy_wins() {
    let (every, handshake) = (Signatures::Every, Signatures::Handshake);
    for (client, server, both) in [
        (every, every, every),
        (every, handshake, every),
        (handshake, every, every),
        (handshake, handshake, handshake),
    ] {
        let mut pair = Pair::with(|config| config.signatures(client), |config| config.signatures(server));
        let (client, server) = pair.shake();
        assert_eq!((client.signatures(), server.signatures()), (both, both));
    }
}

#[test]
fn an_initiator_that_offered_every_takes_no_less_and_one_that_offered_handshake_takes_more() {
    for (offered, answered, taken) in [
        (Signatures::Every, "handshake", Err(Code::Malformed)),
        (Signatures::Every, "every", Ok(Signatures::Every)),
        (Signatures::Handshake, "every", Ok(Signatures::Every)),
        (Signatures::Handshake, "handshake", Ok(Signatures::Handshake)),
    ] {
        let mut pair = Pair::signing(offered);
        let (initiator, mut reply) = pair.reply();
        reply.signatures = answered.into();
        let result = initiator.finish(&reply.message(), pair.now);
        assert_eq!(result.map(|session| session.signatures()).map_err(|error| error.code().unwrap()), taken);
    }
}

#[test]
fn unknown_extensions_are_ignored_but_authenticated() {
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello.extensions.extend([("x-a".into(), "1".into()), ("x-b".into(), "2".into())]);
    let changes: [fn(&mut Hello); 5] = [
        |hello| drop(hello.extensions.remove("x-a")),
        |hello| drop(hello.extensions.insert("x-a".into(), "3".into())),
        |hello| drop(hello.extensions.insert("x-c".into(), "".into())),
        |hello| hello.extensions = [("x-a".into(), "2".into()), ("x-b".into(), "1".into())].into(),
        |hello| hello.extensions = [("x-a".into(), "1\u{20}".into()), ("x-b".into(), "2".into())].into(),
    ];
    for change in changes {
        let mut changed = hello.clone();
        changed.signature = Some(hello.signature());
        change(&mut changed);
        assert_eq!(code(pair.accept(&changed.message())), Code::InvalidSignature);
    }
    let (reply, _) = pair.accept(&hello.message()).unwrap();
    assert!(Reply::read(&reply, hello.h1()).extensions.is_empty());
}

#[test]
fn every_offer_and_choice_is_authenticated() {
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello.suites = vec![AES.into(), CHACHA.into()];
    hello.audience = Some(pair.server_id().as_bytes().to_vec());
    let changes: [fn(&mut Hello); 5] = [
        |hello| hello.suites.reverse(),
        |hello| drop(hello.suites.pop()),
        |hello| hello.audience = None,
        |hello| hello.signatures = "handshake".into(),
        |hello| hello.public_key = [9; 32].to_vec(),
    ];
    for change in changes {
        let mut changed = hello.clone();
        changed.signature = Some(hello.signature());
        change(&mut changed);
        assert_eq!(code(pair.accept(&changed.message())), Code::InvalidSignature);
    }
    pair.accept(&hello.message()).unwrap();

    let changes: [fn(&mut Reply); 5] = [
        |reply| reply.suite = CHACHA.into(),
        |reply| reply.session[0] ^= 1,
        |reply| reply.expires_in += 1,
        |reply| reply.public_key = [9; 32].to_vec(),
        |reply| drop(reply.extensions.remove("target")),
    ];
    for change in changes {
        let to = Destination { target: Some("/mcp"), ..Destination::default() };
        let (initiator, mut reply) = pair.reply_to(to);
        reply.extensions.insert("target".into(), "/mcp".into());
        reply.signature = Some(reply.signature());
        change(&mut reply);
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::InvalidSignature);
    }
}

#[test]
fn a_reply_answers_one_hello_only() {
    let mut pair = Pair::new();
    let (hello, _) = pair.start();
    let (_, initiator) = pair.start();
    let (reply, _) = pair.accept(&hello).unwrap();
    assert_eq!(code(initiator.finish(&reply, pair.now)), Code::InvalidSignature);
}

#[test]
fn a_reply_has_no_extension_whose_name_was_not_in_the_hello() {
    for (name, value) in [("x-news", ""), ("mlkem768", &"00".repeat(1088)), ("psk", &"00".repeat(16))] {
        let mut pair = Pair::new();
        let (initiator, mut reply) = pair.reply();
        reply.extensions.insert(name.into(), value.to_owned());
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::Malformed, "{name}");
    }
    let mut pair = Pair::new();
    let (initiator, mut reply) = pair.reply_to(Destination { target: Some("/a"), ..Destination::default() });
    reply.extensions.insert("target".into(), "/b".into());
    initiator.finish(&reply.message(), pair.now).unwrap();
}

#[test]
fn a_hello_goes_to_its_audience_or_to_anybody() {
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    pair.accept(&hello.message()).unwrap();
    hello.audience = Some(pair.server_id().as_bytes().to_vec());
    pair.accept(&hello.message()).unwrap();
    hello.audience = Some(pair.client.node_id().as_bytes().to_vec());
    assert_eq!(code(pair.accept(&hello.message())), Code::WrongAudience);
    hello.audience = Some(vec![0; 32]);
    assert_eq!(code(pair.accept(&hello.message())), Code::WrongAudience);
}

#[test]
fn an_initiator_that_knows_which_node_it_wants_says_so() {
    let mut pair = Pair::new();
    let (one, other) = (pair.rng.identity().node_id(), pair.rng.identity().node_id());
    let mut audience = |trust: Pinned, audience| {
        let config = config(Identity::generate(), trust);
        let to = Destination { audience, ..Destination::default() };
        let (hello, _) = Initiator::start(&config, to, &mut pair.rng).unwrap();
        Hello::read(&hello).audience
    };
    assert_eq!(audience(Pinned::new([one]), None), Some(one.as_bytes().to_vec()));
    assert_eq!(audience(Pinned::new([one, other]), None), None);
    assert_eq!(audience(Pinned::new([one, other]), Some(other)), Some(other.as_bytes().to_vec()));
}

#[test]
fn another_node_than_the_audience_is_untrusted_even_if_it_is_trusted_otherwise() {
    let mut pair = Pair::new();
    let to = Destination { audience: Some(pair.server_id()), ..Destination::default() };
    let (initiator, reply) = pair.reply_to(to);
    assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::UntrustedPeer);
}

#[test]
fn a_stranger_is_untrusted_on_either_side() {
    let mut pair = Pair::new();
    let hello = Hello::new([1; 32], [2; 32]);
    assert_eq!(code(pair.accept(&hello.message())), Code::UntrustedPeer);
    let (initiator, mut reply) = pair.reply();
    reply.seed = [1; 32];
    reply.node_id = hand::node_id(&reply.seed).to_vec();
    assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::UntrustedPeer);
}

#[test]
fn any_identity_takes_everybody_but_oneself() {
    let seed = [4; 32];
    let mut pair = Pair::new();
    pair.server = Responder::new(config(Identity::from_seed(&seed), AnyIdentity));
    pair.accept(&Hello::new([1; 32], [2; 32]).message()).unwrap();
    let reflected = Hello::new(seed, [2; 32]).message();
    assert_eq!(code(pair.accept(&reflected)), Code::UntrustedPeer);

    let config = config(Identity::from_seed(&seed), AnyIdentity);
    let (hello, initiator) = Initiator::start(&config, Destination::default(), &mut pair.rng).unwrap();
    let reply = Reply::new(&hello, seed, [2; 32], [3; 16]).message();
    assert_eq!(code(initiator.finish(&reply, pair.now)), Code::UntrustedPeer);
}

#[test]
fn a_bad_signature_of_a_listed_id_is_answered_like_a_stranger_where_the_list_is_secret() {
    for (conceals, expected) in [(true, Code::UntrustedPeer), (false, Code::InvalidSignature)] {
        let mut pair = Pair::new();
        pair.server_trust.conceals.store(conceals, std::sync::atomic::Ordering::SeqCst);
        let mut hello = pair.hello();
        hello.signature = Some(hand::sign(&hello.seed, b"something else").to_vec());
        assert_eq!(code(pair.accept(&hello.message())), expected);
    }
    let mut pair = Pair::new();
    let hello = Hello { signature: Some(vec![1; 64]), ..pair.hello() };
    let listed = NodeId::from_bytes(hello.node_id[..].try_into().unwrap());
    let pinned = config(Identity::generate(), Pinned::new([listed]));
    let anybody = config(Identity::generate(), AnyIdentity);
    for (config, expected) in [(pinned, Code::UntrustedPeer), (anybody, Code::InvalidSignature)] {
        pair.server = Responder::new(config);
        assert_eq!(code(pair.accept(&hello.message())), expected);
    }
}

#[test]
fn a_reply_says_how_long_the_session_lasts() {
    let mut pair = Pair::server_limits(|limits| limits.session = 90 * SECOND);
    let hello = pair.hello();
    let (reply, session) = pair.accept(&hello.message()).unwrap();
    let reply = Reply::read(&reply, hello.h1());
    assert_eq!(reply.expires_in, 90);
    assert_eq!(reply.session, session.id().as_bytes());
}

#[test]
fn ephemeral_keys_and_session_ids_are_used_once() {
    let mut pair = Pair::new();
    let (hellos, replies): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (hello, _) = pair.start();
            let (reply, _) = pair.accept(&hello).unwrap();
            let hello = Hello::read(&hello);
            let reply = Reply::read(&reply, hello.h1());
            (hello, reply)
        })
        .unzip();
    assert_ne!(hellos[0].public_key, hellos[1].public_key);
    assert_ne!(replies[0].public_key, replies[1].public_key);
    assert_ne!(replies[0].session, replies[1].session);
}

#[test]
fn exported_keys_are_the_same_on_both_sides_and_differ_by_session_label_and_context() {
    let mut pair = Pair::new();
    let (client, server) = pair.shake();
    let key = |label: &[u8], context: &[u8]| {
        let mut keys = [[0; 40]; 2];
        client.export(label, context, &mut keys[0]).unwrap();
        server.export(label, context, &mut keys[1]).unwrap();
        assert_eq!(keys[0], keys[1]);
        keys[0]
    };
    let keys = [key(b"", b""), key(b"a", b""), key(b"", b"a"), key(b"ab", b"c"), key(b"a", b"bc")];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[..i].contains(key));
    }
    let (other, _) = pair.shake();
    assert_ne!(exported(&client), exported(&other));
    assert!(client.export(b"", b"", &mut [0; 8160]).is_ok());
    crate::support::assert_misuse(client.export(b"", b"", &mut [0; 8161]));
}

#[test]
fn exported_keys_are_those_of_the_key_schedule() {
    let mut pair = Pair::new();
    let (session, peer) = pair.with_hand();
    let info = [hand::lp(b"test"), hand::lp(b"")].concat();
    assert_eq!(exported(&session), hand::expand(&peer.keys.exporter, &info));
}
