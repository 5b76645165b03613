//! The two sides of a handshake that a vector holds, made from its secrets.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{At, Script};
use crate::{
    config::{Config, Encoding, Hybrid, Limits, Signatures},
    identity::{Identity, NodeId},
    protocol::{
        Destination, Initiator, Responder, Session,
        handshake::{Hello, reply_transcript},
        keys::{Direction, SessionKeys},
        session::Agreement,
    },
    suite::{SuiteId, ed25519::Verifier, hash::Secret},
    trust::{Candidate, PreShared, SessionId, Trust, Verdict},
};

const HELLO: &[&str] = &[
    "type",
    "version",
    "public_key",
    "node_id",
    "audience",
    "suites",
    "signatures",
    "extensions",
    "signature",
];
const REPLY: &[&str] = &[
    "type",
    "version",
    "public_key",
    "node_id",
    "suite",
    "signatures",
    "session",
    "expires_in",
    "extensions",
    "signature",
];

/// Accepts everybody, and knows at most one pre-shared secret.
struct Anybody(Option<PreShared>);

impl Trust for Anybody {
    fn judge(&self, _: &Candidate<'_>) -> Verdict {
        Verdict::Accept
    }

    fn conceals(&self) -> bool {
        false
    }

    fn pre_shared(&self, id: &[u8]) -> Option<PreShared> {
        self.0.clone().filter(|secret| secret.id() == id)
    }

    fn offers(&self, _: Option<&str>) -> Option<PreShared> {
        self.0.clone()
    }
}

/// A session that both sides have made, each by its own half of the handshake.
pub(super) struct Sides {
    pub(super) initiator: Arc<Session>,
    pub(super) responder: Arc<Session>,
    pub(super) hello_bytes: Vec<u8>,
    pub(super) h1: [u8; 32],
    pub(super) reply_bytes: Vec<u8>,
    pub(super) th: [u8; 32],
    pub(super) now: Instant,
}

impl Sides {
    /// Panics unless both halves of the crate say what the vector says, and come to the same session.
    #[track_caller]
    pub(super) fn new(vector: &At<'_>, encoding: Encoding) -> Self {
        let now = Instant::now();
        let reply = vector.at("reply");
        let (hello, initiator) = start(vector, encoding);
        let (hello_bytes, h1) = vector.ok(Hello::parse(&hello)).transcript();
        let (reply_bytes, th) = reply.ok(reply_transcript(reply.message().as_bytes(), &h1));
        reply.at("signature").is(&reply.ok(config(vector, "responder", "reply").sign(&reply_bytes)).0);

        let initiator = reply.ok(initiator.finish(reply.message().as_bytes(), now));
        let responder = accept(vector, &hello, &th, encoding, now);
        for (ours, name) in [(&initiator, "initiator"), (&responder, "responder")] {
            let peer = if name == "initiator" { "responder" } else { "initiator" };
            vector.at(peer).at("node_id").is(ours.peer().as_bytes());
            reply.at("session").is(ours.id().as_bytes());
            assert_eq!(ours.suite(), suite(&reply), "{}: suite of the {name}", reply.path);
            assert_eq!(ours.signatures(), policy(&reply), "{}: signatures of the {name}", reply.path);
            assert_eq!(
                ours.agreed.lifetime_secs,
                reply.at("expires_in").number(),
                "{}: expires_in",
                reply.path
            );
            vector.at("th").is(&ours.agreed.th);
        }
        let keys = |session: &Session| session.agreed.keys.reveal();
        assert!(keys(&initiator) == keys(&responder), "{}: the two sides have other keys", vector.path);
        let [initiator, responder] = [initiator, responder].map(Arc::new);
        Sides { initiator, responder, hello_bytes, h1, reply_bytes, th, now }
    }
}

/// Says the vector's hello.
#[track_caller]
pub(super) fn start(vector: &At<'_>, encoding: Encoding) -> (Bytes, Initiator) {
    let hello = vector.at("hello");
    let suites: Vec<_> =
        hello.at("suites").list().iter().map(|name| SuiteId::from_name(name.text())).collect();
    let known: Vec<_> = suites.iter().copied().flatten().collect();
    let seed = vector.at("kem_seed").given().map(|seed| seed.hex()).unwrap_or_default();
    let mut ours = BTreeSet::from(["target"]);
    ours.extend((!seed.is_empty()).then_some("mlkem768"));
    ours.extend(pre_shared(vector, &hello).is_some().then_some("psk"));

    let config = config(vector, "initiator", "hello")
        .signatures(policy(&hello))
        .encoding(encoding)
        .hybrid(if seed.is_empty() { Hybrid::Off } else { Hybrid::Offer });
    let config = hello.ok(config.suites(&known));
    let target = hello.at("extensions").at("target").given().map(|target| target.text());
    let audience = hello.at("audience").given().map(|audience| NodeId::from_bytes(audience.bytes()));
    let mut script = Script::new(&[&ephemeral(vector, "initiator"), &seed]);
    let destination = Destination { origin: None, audience, target };
    let (mut message, mut initiator) = hello.ok(Initiator::start(&config, destination, &mut script));
    script.spent();

    // This crate offers no suites and extensions that it does not know; another initiator may.
    let extensions = hello.at("extensions").names();
    if known.len() < suites.len() || extensions.iter().any(|name| !ours.contains(name)) {
        (message, initiator) = initiator.like(hello.ok(Hello::parse(hello.message().as_bytes())));
    }
    hello.has_fields_of(&message, HELLO);
    (message, initiator)
}

/// Replies to the hello, as far as the vector knows the responder's randomness: but for ML-KEM, whose
/// session is then made from the secret that the vector gives.
#[track_caller]
fn accept(vector: &At<'_>, hello: &[u8], th: &[u8; 32], encoding: Encoding, now: Instant) -> Session {
    let reply = vector.at("reply");
    let extensions = reply.at("extensions");
    let hybrid = extensions.at("mlkem768").given().is_some();
    let session: [u8; 16] = reply.at("session").bytes();
    let config = responder_config(vector, encoding);

    let mut script =
        Script::new(&[&ephemeral(vector, "responder"), &[7; 32][..if hybrid { 32 } else { 0 }], &session]);
    let responder = Responder::new(config.clone());
    let (message, accepted) = reply.ok(responder.accept(hello, |_| true, || true, &mut script, now));
    script.spent();
    if extensions.names().iter().all(|name| *name == "psk") {
        reply.has_fields_of(&message, REPLY);
        return accepted;
    }
    let unknown = |field: &&str| !["extensions", "signature"].contains(field);
    reply.has_fields_of(&message, &REPLY.iter().copied().filter(unknown).collect::<Vec<_>>());
    let (_, again) = start(vector, encoding);
    let again = reply.ok(again.finish(&message, now));
    assert!(again.agreed.keys.exporter == accepted.agreed.keys.exporter, "{}: our own reply", vector.path);

    let peer = NodeId::from_bytes(vector.at("initiator").at("node_id").bytes());
    let kem = vector.at("kem").given().map(|kem| kem.hex()).unwrap_or_default();
    let psk = pre_shared(vector, &reply);
    let x25519 = shared(vector, "responder", "hello");
    Session::new(Agreement {
        side: Direction::Responder,
        origin: None,
        id: SessionId::from_bytes(session),
        peer,
        verifier: vector.ok(Verifier::from_bytes(vector.backend, peer.as_bytes())),
        suite: suite(&reply),
        signatures: policy(&reply),
        th: *th,
        keys: vector.ok(SessionKeys::derive(th, &x25519, &kem, psk.as_ref().map_or(&[], PreShared::secret))),
        began: now,
        lifetime_secs: reply.at("expires_in").number(),
        pre_shared: psk.map(|psk| psk.id().into()),
        config,
        trust_revision: 0,
    })
}

/// Accepts everybody, and knows the pre-shared secret that the side's `message` names.
#[track_caller]
pub(super) fn config(vector: &At<'_>, side: &str, message: &str) -> Config {
    let trust = Anybody(pre_shared(vector, &vector.at(message)));
    Config::new(identity(vector, side), trust).backend(vector.backend)
}

#[track_caller]
fn responder_config(vector: &At<'_>, encoding: Encoding) -> Config {
    let reply = vector.at("reply");
    let session = Duration::from_secs(reply.at("expires_in").number());
    let hybrid = reply.at("extensions").at("mlkem768").given().is_some();
    let config = config(vector, "responder", "reply")
        .signatures(policy(&reply))
        .encoding(encoding)
        .hybrid(if hybrid { Hybrid::Require } else { Hybrid::Off })
        .limits(Limits { session, ..Limits::default() });
    reply.ok(config.suites(&[suite(&reply)]))
}

/// What X25519 gives `side` with the key in the other's `message`.
#[track_caller]
pub(super) fn shared(vector: &At<'_>, side: &str, message: &str) -> Secret {
    let mut script = Script::new(&[&ephemeral(vector, side)]);
    let ephemeral = vector.ok(vector.backend.ephemeral(&mut script));
    vector.ok(ephemeral.agree(vector.at(message).at("public_key").bytes()))
}

#[track_caller]
pub(super) fn identity(vector: &At<'_>, side: &str) -> Identity {
    let side = vector.at(side);
    let identity = Identity::from_seed(&side.at("identity_secret").bytes());
    side.at("node_id").is(identity.node_id().as_bytes());
    identity
}

#[track_caller]
fn ephemeral(vector: &At<'_>, side: &str) -> [u8; 32] {
    vector.at(side).at("ephemeral_secret").bytes()
}

/// The secret of the vector, if it gives one and `message` names it.
#[track_caller]
fn pre_shared(vector: &At<'_>, message: &At<'_>) -> Option<PreShared> {
    let secret = vector.at("psk").given()?;
    let id = message.at("extensions").at("psk").given()?;
    Some(secret.ok(PreShared::new(&id.hex(), &secret.hex())))
}

#[track_caller]
fn suite(reply: &At<'_>) -> SuiteId {
    let suite = reply.at("suite");
    SuiteId::from_name(suite.text()).unwrap_or_else(|| suite.fail("is not a suite of this crate"))
}

#[track_caller]
fn policy(message: &At<'_>) -> Signatures {
    match message.at("signatures").text() {
        "every" => Signatures::Every,
        "handshake" => Signatures::Handshake,
        other => message.fail(format_args!("no signature policy: {other}")),
    }
}
