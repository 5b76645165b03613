//! Section 2.3: what is checked first, seen from messages that break two rules at once.

use tower_seal::{NodeId, error::Code, protocol::Destination, telemetry::Metric};

use crate::support::{
    Pair, code,
    hand::{self, CHACHA, Hello, Reply, node_id},
};

/// What is wrong, how it is answered, and how to do it.
type Fault<T> = (&'static str, Code, fn(&mut T, &Pair));

const STRANGER: [u8; 32] = [0x5a; 32];

const IN_HELLO: &[Fault<Hello>] = &[
    ("version", Code::UnsupportedVersion, |hello, _| hello.version = 2),
    ("size of a key", Code::Malformed, |hello, _| hello.public_key.truncate(31)),
    ("size of an extension", Code::Malformed, |hello, _| {
        hello.extensions.insert("psk".into(), "00".repeat(15));
    }),
    ("suite", Code::UnsupportedSuite, |hello, _| hello.suites = vec!["x25519-rot13-sha256".into()]),
    ("audience", Code::WrongAudience, |hello, _| hello.audience = Some(node_id(&STRANGER).to_vec())),
    ("target", Code::PathMismatch, |hello, _| {
        hello.extensions.insert("target".into(), "/wrong".into());
    }),
    ("own node id", Code::UntrustedPeer, |hello, pair| {
        hello.node_id = pair.server_id().as_bytes().to_vec();
    }),
    ("trust", Code::UntrustedPeer, |hello, _| {
        hello.seed = STRANGER;
        hello.node_id = node_id(&STRANGER).to_vec();
    }),
    ("signature", Code::InvalidSignature, |hello, _| {
        hello.signature = Some(hand::sign(&STRANGER, b"anything").to_vec());
    }),
    ("X25519", Code::Malformed, |hello, _| hello.public_key = vec![0; 32]),
];

const IN_REPLY: &[Fault<Reply>] = &[
    ("version", Code::UnsupportedVersion, |reply, _| reply.version = 2),
    ("size", Code::Malformed, |reply, _| reply.session.truncate(15)),
    ("own node id", Code::UntrustedPeer, |reply, pair| {
        reply.node_id = pair.client.node_id().as_bytes().to_vec();
    }),
    ("audience, though trusted", Code::UntrustedPeer, |reply, pair| {
        reply.node_id = pair.server_id().as_bytes().to_vec();
    }),
    ("suite", Code::Malformed, |reply, _| reply.suite = CHACHA.replace("20", "21")),
    ("signature policy", Code::Malformed, |reply, _| reply.signatures = "handshake".into()),
    ("extension", Code::Malformed, |reply, _| {
        reply.extensions.insert("x-news".into(), String::new());
    }),
    ("signature", Code::InvalidSignature, |reply, _| {
        reply.signature = Some(hand::sign(&STRANGER, b"anything").to_vec());
    }),
    ("X25519", Code::Malformed, |reply, _| reply.public_key = vec![0; 32]),
];

/// Each fault alone, and each two; the later one is made first, so that the earlier one overrides it.
fn each_two<T>(faults: &[Fault<T>], judge: impl Fn(&mut Pair, &dyn Fn(&mut T, &Pair)) -> (Code, u64)) {
    let signature = faults.iter().position(|fault| fault.0 == "signature").unwrap();
    for (first, (name, expected, early)) in faults.iter().enumerate() {
        for (also, _, late) in &faults[first..] {
            let (code, operations) = judge(&mut Pair::new(), &|message, pair| {
                late(message, pair);
                early(message, pair);
            });
            assert_eq!(code, *expected, "{name} before {also}");
            assert!(first >= signature || operations == 0, "{name}: {operations} public-key operations");
        }
    }
}

#[test]
fn a_responder_answers_the_first_fault_of_the_order_and_pays_nothing_before_the_signature() {
    each_two(IN_HELLO, |pair, spoil| {
        let mut hello = pair.hello();
        spoil(&mut hello, pair);
        let before = pair.server_metric(Metric::HandshakeOperations);
        let right = |target: Option<&str>| target != Some("/wrong");
        let result = pair.server.accept(&hello.message(), right, || true, &mut pair.rng, pair.now);
        (code(result), pair.server_metric(Metric::HandshakeOperations) - before)
    });
}

#[test]
fn an_initiator_sees_the_first_fault_of_the_order_and_pays_nothing_before_the_signature() {
    each_two(IN_REPLY, |pair, spoil| {
        let audience = Some(NodeId::from_bytes(node_id(&pair.hand)));
        let (initiator, mut reply) = pair.reply_to(Destination { audience, ..Destination::default() });
        spoil(&mut reply, pair);
        let before = pair.client_metric(Metric::HandshakeOperations);
        let result = initiator.finish(&reply.message(), pair.now);
        (code(result), pair.client_metric(Metric::HandshakeOperations) - before)
    });
}

#[test]
fn an_initiator_asks_its_trust_policy_before_it_looks_at_what_was_chosen() {
    for (name, _, spoil) in &IN_REPLY[4..] {
        let mut pair = Pair::new();
        let (initiator, mut reply) = pair.reply();
        spoil(&mut reply, &pair);
        pair.client_trust.nodes.lock().unwrap().clear();
        let before = pair.client_metric(Metric::HandshakeOperations);
        assert_eq!(code(initiator.finish(&reply.message(), pair.now)), Code::UntrustedPeer, "{name}");
        assert_eq!(pair.client_metric(Metric::HandshakeOperations), before);
    }
}

#[test]
fn another_version_is_named_as_such_whatever_else_is_in_the_message() {
    let message = br#"{"type":"key_exchange","version":2,"greeting":"hi"}"#;
    let mut pair = Pair::new();
    assert_eq!(code(pair.accept(message)), Code::UnsupportedVersion);
    let (initiator, _) = pair.reply();
    assert_eq!(code(initiator.finish(message, pair.now)), Code::UnsupportedVersion);
}

#[test]
fn a_repeated_hello_is_replayed_before_its_signature_is_looked_at() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    pair.accept(&hello.message()).unwrap();
    let before = pair.server_metric(Metric::HandshakeOperations);
    assert_eq!(code(pair.accept(&hello.message())), Code::Replayed);
    assert_eq!(pair.server_metric(Metric::HandshakeOperations), before);
}

#[test]
fn a_repeated_hello_for_another_target_or_of_an_untrusted_node_is_answered_as_such() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    pair.accept(&hello.message()).unwrap();
    let result = pair.server.accept(&hello.message(), |_| false, || true, &mut pair.rng, pair.now);
    assert_eq!(code(result), Code::PathMismatch);
    pair.server_trust.remove(NodeId::from_bytes(node_id(&pair.hand)));
    assert_eq!(code(pair.accept(&hello.message())), Code::UntrustedPeer);
}

#[test]
fn handshakes_over_the_budget_are_busy_and_cost_nothing() {
    let mut pair = Pair::new();
    let hello = pair.hello().message();
    let before = pair.server_metric(Metric::HandshakeOperations);
    let result = pair.server.accept(&hello, |_| true, || false, &mut pair.rng, pair.now);
    assert_eq!(code(result), Code::Busy);
    assert_eq!(pair.server_metric(Metric::HandshakeOperations), before);
    pair.accept(&hello).unwrap();
}

#[test]
fn the_budget_is_not_spent_on_strangers_and_repetitions() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    pair.accept(&hello.message()).unwrap();
    let stranger = Hello::new(STRANGER, [3; 32]);
    for message in [hello.message(), stranger.message()] {
        let mut asked = false;
        let budget = || std::mem::replace(&mut asked, true);
        let _ = pair.server.accept(&message, |_| true, budget, &mut pair.rng, pair.now);
        assert!(!asked);
    }
}
