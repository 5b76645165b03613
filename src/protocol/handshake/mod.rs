//! The handshake (PROTOCOL section 2): a hello, a reply, a [`Session`] on either side.
//!
//! Each function checks in the order of section 2.3: what is cheap first, so that a stranger buys no
//! public-key operation.

mod extensions;
mod message;

use bytes::Bytes;
use rand_core::CryptoRng;
use std::{sync::Arc, time::Instant};
use zeroize::Zeroizing;

use super::{
    keys::{Direction, SessionKeys},
    session::{Agreement, Session},
};
use crate::{
    config::{Config, Hybrid, Signatures},
    error::{Code, Error, Result},
    identity::{NodeId, Signature},
    suite::{
        SuiteId,
        ed25519::Verifier,
        hash::Secret,
        key_agreement::{self, Ephemeral, KemSecret},
    },
    telemetry::Metric,
    trust::{Candidate, PreShared, SessionId, Verdict},
};
use message::{Extensions, Reply};

pub(crate) use message::Hello;
pub use message::MAX_HANDSHAKE;

/// Where an initiator wants to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Destination<'a> {
    /// `scheme://authority`, which trust and what it learns belong to.
    pub origin: Option<&'a str>,
    /// The node that has to answer; left out, the trust policy may know it.
    pub audience: Option<NodeId>,
    /// The path or service, for transports that do not name it in each request.
    pub target: Option<&'a str>,
}

/// An initiator that has said hello and waits for the reply.
pub struct Initiator {
    config: Config,
    origin: Option<Arc<str>>,
    hello: Hello,
    h1: [u8; 32],
    ephemeral: Box<dyn Ephemeral>,
    kem: Option<KemSecret>,
    pre_shared: Option<PreShared>,
}

impl Initiator {
    /// Makes a hello, a JSON object of at most 16 KiB, from 32 bytes of `rng`, or 96 with ML-KEM.
    ///
    /// Errors: `Misuse` for a target that is not printable ASCII or too long.
    pub fn start(
        config: &Config,
        destination: Destination<'_>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(Bytes, Self)> {
        let ephemeral = ephemeral(config, rng)?;
        let kem = (config.hybrid_policy() != Hybrid::Off).then(|| {
            count(config);
            KemSecret::generate(rng)
        });
        let pre_shared = config.trust().offers(destination.origin);
        let mut extensions = Extensions::new();
        if let Some(target) = destination.target {
            extensions.insert(extensions::TARGET.into(), target.into());
        }
        if let Some(kem) = &kem {
            extensions.insert(extensions::MLKEM768.into(), const_hex::encode(kem.public_key()));
        }
        if let Some(pre_shared) = &pre_shared {
            extensions.insert(extensions::PSK.into(), const_hex::encode(pre_shared.id()));
        }
        let mut hello = Hello {
            public_key: ephemeral.public_key(),
            node_id: config.node_id(),
            audience: destination.audience.or_else(|| config.trust().expects(destination.origin)),
            suites: config.offered_suites().iter().map(|suite| suite.as_str().to_owned()).collect(),
            signatures: config.signature_policy(),
            extensions,
            signature: Signature([0; 64]),
        };
        let bytes = hello.bytes();
        hello.signature = sign(config, &bytes)?;
        let h1 = hello.hash(&bytes);
        let message = hello.write();
        if Hello::parse(&message).is_err() {
            return Err(Error::Misuse { reason: "a target is printable ASCII, and a hello at most 16 KiB" });
        }
        let origin = destination.origin.map(Into::into);
        Ok((message, Initiator { config: config.clone(), origin, hello, h1, ephemeral, kem, pre_shared }))
    }

    /// Checks the reply and makes the session. `now` is when the reply came: deadlines count from it.
    ///
    /// Errors: as section 2.3 orders them; the hello is spent, whatever the error.
    pub fn finish(self, reply: &[u8], now: Instant) -> Result<Session> {
        let reply = Reply::parse(reply)?;
        let kem_ciphertext = extensions::kem_ciphertext(&reply.extensions)?;
        let trust_revision = self.config.trust().revision();
        self.judge(&reply)?;
        let suite = self.chosen_suite(&reply)?;
        let psk = self.repeated_secret(&reply)?;
        if kem_ciphertext.is_none() && self.config.hybrid_policy() == Hybrid::Require {
            return Err(Error::new(Code::UnsupportedSuite, "the far side does not take part in ML-KEM-768"));
        }

        let bytes = reply.bytes(&self.h1);
        let verifier = verify(&self.config, reply.node_id, &bytes, &reply.signature)?;
        let x25519 = agree(&self.config, self.ephemeral, reply.public_key)?;
        let kem = self.kem.zip(kem_ciphertext).map(|(secret, ciphertext)| {
            count(&self.config);
            secret.decapsulate(&ciphertext)
        });

        let th = reply.hash(&bytes);
        let keys = SessionKeys::derive(&th, &x25519, kem.as_ref().map_or(&[], |kem| &**kem), &psk)?;
        Ok(Session::new(Agreement {
            config: self.config,
            side: Direction::Initiator,
            origin: self.origin,
            pre_shared: self.pre_shared.map(|secret| secret.id().into()),
            id: reply.session,
            peer: reply.node_id,
            verifier,
            suite,
            signatures: reply.signatures,
            th,
            keys,
            began: now,
            lifetime_secs: reply.expires_in,
            trust_revision,
        }))
    }

    /// Not oneself, the audience, and trusted.
    fn judge(&self, reply: &Reply) -> Result<()> {
        refuse_self(&self.config, reply.node_id)?;
        if self.hello.audience.is_some_and(|audience| audience != reply.node_id) {
            return Err(Error::new(Code::UntrustedPeer, "another node answered than the one expected"));
        }
        let pre_shared = self.pre_shared.as_ref().map(PreShared::id);
        let candidate = Candidate { node_id: reply.node_id, origin: self.origin.as_deref(), pre_shared };
        judge(&self.config, &candidate)
    }

    /// The suite; and nothing else that was not offered.
    fn chosen_suite(&self, reply: &Reply) -> Result<SuiteId> {
        const NOT_OFFERED: Error = Error::malformed("a reply that chose what was not offered");
        if self.hello.signatures == Signatures::Every && reply.signatures != Signatures::Every
            || reply.extensions.keys().any(|name| !self.hello.extensions.contains_key(name))
        {
            return Err(NOT_OFFERED);
        }
        SuiteId::from_name(&reply.suite)
            .filter(|suite| self.config.offered_suites().contains(suite))
            .ok_or(NOT_OFFERED)
    }

    /// The pre-shared secret, if one was offered: then it must have been taken.
    fn repeated_secret(&self, reply: &Reply) -> Result<Zeroizing<Vec<u8>>> {
        let Some(secret) = &self.pre_shared else {
            return Ok(Zeroizing::default());
        };
        if reply.extensions.get(extensions::PSK) != self.hello.extensions.get(extensions::PSK) {
            return Err(Error::new(Code::UntrustedPeer, "the far side does not know the pre-shared secret"));
        }
        Ok(Zeroizing::new(secret.secret().to_vec()))
    }
}

/// Answers a hello with a reply and a session that waits for its first record.
///
/// `target` says whether the hello's `target` is right. `is_new` is asked for the hello's hash before the
/// signature is checked, and `remember` after every check held; either may say that it is a repetition.
pub(super) fn respond(
    config: &Config,
    hello: &Hello,
    target: impl FnOnce(Option<&str>) -> bool,
    is_new: impl FnOnce(&[u8; 32]) -> Result<()>,
    remember: impl FnOnce([u8; 32]) -> Result<()>,
    rng: &mut (impl CryptoRng + ?Sized),
    now: Instant,
) -> Result<(Bytes, Session)> {
    let kem_key = match config.hybrid_policy() {
        Hybrid::Off => None,
        Hybrid::Offer | Hybrid::Require => extensions::kem_key(&hello.extensions)?,
    };
    let psk_id = extensions::psk_id(&hello.extensions)?;
    let suite = common_suite(config, hello)?;
    if kem_key.is_none() && config.hybrid_policy() == Hybrid::Require {
        return Err(Error::new(Code::UnsupportedSuite, "this side insists on ML-KEM-768"));
    }
    if hello.audience.is_some_and(|audience| audience != config.node_id()) {
        return Err(Error::new(Code::WrongAudience, "the hello is for another node"));
    }
    if !target(hello.extensions.get(extensions::TARGET).map(String::as_str)) {
        return Err(Error::new(Code::PathMismatch, "the hello is for another path or service"));
    }
    refuse_self(config, hello.node_id)?;
    let trust_revision = config.trust().revision();
    // One sentence for both, since a closed list could be probed by any difference between them.
    let conceal = |error: Error| {
        let concealed = Error::new(Code::UntrustedPeer, "this side does not talk to that node");
        if config.trust().conceals() { concealed } else { error }
    };
    let candidate = Candidate { node_id: hello.node_id, origin: None, pre_shared: psk_id.as_deref() };
    judge(config, &candidate).map_err(conceal)?;
    let pre_shared = psk_id.as_deref().and_then(|id| config.trust().pre_shared(id));
    let bytes = hello.bytes();
    let h1 = hello.hash(&bytes);
    is_new(&h1)?;

    let verifier = verify(config, hello.node_id, &bytes, &hello.signature).map_err(conceal)?;
    let ephemeral = ephemeral(config, rng)?;
    let public_key = ephemeral.public_key();
    let x25519 = agree(config, ephemeral, hello.public_key)?;
    let kem = kem_key.map(|key| {
        count(config);
        key_agreement::encapsulate(&key, rng)
    });
    let kem = kem.transpose()?;
    remember(h1)?;

    let mut extensions = Extensions::new();
    if let Some((ciphertext, _)) = &kem {
        extensions.insert(extensions::MLKEM768.into(), const_hex::encode(ciphertext));
    }
    if let Some(text) = hello.extensions.get(extensions::PSK).filter(|_| pre_shared.is_some()) {
        extensions.insert(extensions::PSK.into(), text.clone());
    }
    let mut session = [0; 16];
    rng.fill_bytes(&mut session);
    let either_wants_all = [config.signature_policy(), hello.signatures].contains(&Signatures::Every);
    let mut reply = Reply {
        public_key,
        node_id: config.node_id(),
        suite: suite.as_str().to_owned(),
        signatures: if either_wants_all { Signatures::Every } else { Signatures::Handshake },
        session: SessionId::from_bytes(session),
        expires_in: config.bounds().session.as_secs(),
        extensions,
        signature: Signature([0; 64]),
    };
    let bytes = reply.bytes(&h1);
    reply.signature = sign(config, &bytes)?;
    let th = reply.hash(&bytes);
    let kem = kem.as_ref().map_or(&[][..], |(_, secret)| &**secret);
    let psk = pre_shared.as_ref().map_or(&[][..], PreShared::secret);
    let session = Session::new(Agreement {
        config: config.clone(),
        side: Direction::Responder,
        origin: None,
        pre_shared: pre_shared.as_ref().map(|secret| secret.id().into()),
        id: reply.session,
        peer: hello.node_id,
        verifier,
        suite,
        signatures: reply.signatures,
        th,
        keys: SessionKeys::derive(&th, &x25519, kem, psk)?,
        began: now,
        lifetime_secs: reply.expires_in,
        trust_revision,
    });
    Ok((reply.write(), session))
}

/// The initiator's most preferred suite that this side has too.
fn common_suite(config: &Config, hello: &Hello) -> Result<SuiteId> {
    hello
        .suites
        .iter()
        .filter_map(|name| SuiteId::from_name(name))
        .find(|suite| config.offered_suites().contains(suite))
        .ok_or(Error::new(Code::UnsupportedSuite, "no cipher suite in common"))
}

/// One's own id as peer is a hello or a reply that came back in a mirror.
fn refuse_self(config: &Config, peer: NodeId) -> Result<()> {
    if peer == config.node_id() {
        return Err(Error::new(Code::UntrustedPeer, "the peer has this side's own node id"));
    }
    Ok(())
}

pub(super) fn judge(config: &Config, candidate: &Candidate<'_>) -> Result<()> {
    match config.trust().judge(candidate) {
        Verdict::Accept => Ok(()),
        Verdict::Refuse(reason) => Err(Error::new(Code::UntrustedPeer, reason)),
    }
}

/// Counts a public-key operation.
fn count(config: &Config) {
    config.telemetry().count(Metric::HandshakeOperations);
}

fn ephemeral(config: &Config, rng: &mut (impl CryptoRng + ?Sized)) -> Result<Box<dyn Ephemeral>> {
    count(config);
    config.chosen_backend().ephemeral(rng)
}

fn sign(config: &Config, bytes: &[u8]) -> Result<Signature> {
    count(config);
    config.sign(bytes)
}

fn verify(config: &Config, node: NodeId, bytes: &[u8], signature: &Signature) -> Result<Verifier> {
    count(config);
    let verifier = Verifier::from_bytes(config.chosen_backend(), node.as_bytes())?;
    verifier.verify(bytes, &signature.0)?;
    Ok(verifier)
}

fn agree(config: &Config, ephemeral: Box<dyn Ephemeral>, peer: [u8; 32]) -> Result<Secret> {
    count(config);
    ephemeral.agree(peer)
}

/// For the test vectors.
#[cfg(test)]
impl Hello {
    /// `hello_bytes`, and `h1`.
    pub(super) fn transcript(&self) -> (Vec<u8>, [u8; 32]) {
        let bytes = self.bytes();
        let h1 = self.hash(&bytes);
        (bytes, h1)
    }
}

/// For the test vectors: `reply_bytes` and `th` of the reply to the hello with hash `h1`.
#[cfg(test)]
pub(super) fn reply_transcript(reply: &[u8], h1: &[u8; 32]) -> Result<(Vec<u8>, [u8; 32])> {
    let reply = Reply::parse(reply)?;
    let bytes = reply.bytes(h1);
    let th = reply.hash(&bytes);
    Ok((bytes, th))
}

/// For the test vectors.
#[cfg(test)]
impl Initiator {
    /// Says hello anew, with suites and further extensions of `other` that this crate would not offer.
    pub(super) fn like(mut self, other: Hello) -> (Bytes, Self) {
        self.hello.suites = other.suites;
        for (name, value) in other.extensions {
            self.hello.extensions.entry(name).or_insert(value);
        }
        let bytes = self.hello.bytes();
        self.hello.signature = self.config.sign(&bytes).unwrap();
        self.h1 = self.hello.hash(&bytes);
        (self.hello.write(), self)
    }
}
