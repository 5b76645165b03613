//! The key schedule (PROTOCOL section 3), and every label of the protocol.
//!
//! ```text
//! X25519 || kem || psk --Extract(th)--> prk -+-> dir_0 -+                       what the initiator sends
//!                                            +-> dir_1 -+                       what the responder sends
//!                                            +-> exporter                       keys for the application
//!                 dir_d --Expand(id)--> base --Extract(opening)--> K_0 -> K_1 -> K_2 ...   one stream
//!                                                                   +> key_0, iv_0         one epoch
//! ```

use zeroize::Zeroizing;

use crate::{
    error::Result,
    suite::{
        self, Aead, Backend, NONCE, SuiteId, TAG,
        hash::{Expander, Secret},
    },
};

/// Labels that stand in `lp(..)`: of what is signed or hashed.
pub(super) const HELLO: &[u8] = b"tower-seal/1 hello";
pub(super) const REPLY: &[u8] = b"tower-seal/1 reply";
pub(super) const RECORD: &[u8] = b"tower-seal/1 record";
pub(super) const BATCH: &[u8] = b"tower-seal/1 batch";
pub(super) const REJECT: &[u8] = b"tower-seal/1 reject";

/// Labels that stand bare: of key derivation.
const INITIATOR: &[u8] = b"tower-seal/1 initiator";
const RESPONDER: &[u8] = b"tower-seal/1 responder";
const EXPORTER: &[u8] = b"tower-seal/1 exporter";
const STREAM: &[u8] = b"tower-seal/1 stream";
const KEY: &[u8] = b"tower-seal/1 key";
const IV: &[u8] = b"tower-seal/1 iv";
const REKEY: &[u8] = b"tower-seal/1 rekey";

/// Which way a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the initiator to the responder.
    Initiator = 0,
    /// From the responder to the initiator.
    Responder = 1,
}

/// The secrets of a session, wiped on drop.
///
/// Always in a box, as an [`Epoch`] is: a value that is moved stays behind where it was, for instance in a future that
/// is freed later. Of a box only the pointer is moved.
pub(super) struct SessionKeys {
    /// `dir_0` and `dir_1`, ready to expand: that is done for every stream.
    directions: [Expander; 2],
    pub(super) exporter: Secret,
}

impl SessionKeys {
    /// From the final transcript hash and what the two sides agreed on.
    pub(super) fn derive(th: &[u8; 32], x25519: &Secret, kem: &[u8], psk: &[u8]) -> Result<Box<Self>> {
        let (_, prk) = prk(th, x25519, kem, psk);
        let direction = |label| Ok(Expander::new(&*expand(&prk, &[label])?));
        let mut keys = Box::new(SessionKeys {
            directions: [direction(INITIATOR)?, direction(RESPONDER)?],
            exporter: Zeroizing::default(),
        });
        prk.expand(&[EXPORTER], &mut *keys.exporter)?;
        Ok(keys)
    }

    /// The first epoch of a stream. `opening` is empty for stream 0.
    pub(super) fn stream(
        &self,
        backend: Backend,
        suite: SuiteId,
        direction: Direction,
        id: u64,
        opening: &[u8],
    ) -> Result<Box<Epoch>> {
        let base = expand(&self.directions[direction as usize], &[STREAM, &id.to_be_bytes()])?;
        if id == 0 {
            return Epoch::new(backend, suite, &base, &Expander::new(&base));
        }
        let (secret, expander) = suite::hash::extract(opening, &*base);
        Epoch::new(backend, suite, &secret, &expander)
    }
}

pub(super) fn prk(th: &[u8; 32], x25519: &Secret, kem: &[u8], psk: &[u8]) -> (Secret, Expander) {
    let mut ikm = Zeroizing::new(Vec::with_capacity(32 + kem.len() + psk.len()));
    ikm.extend_from_slice(&**x25519);
    ikm.extend_from_slice(kem);
    ikm.extend_from_slice(psk);
    suite::hash::extract(th, &ikm)
}

/// The key of one epoch of one stream, and the secret that the next epoch's comes from.
pub(super) struct Epoch {
    backend: Backend,
    suite: SuiteId,
    secret: Secret,
    key: Secret,
    iv: [u8; NONCE],
    is_used: bool,
    /// The key, expanded, from the second use on. Most streams have one record, for which it is expanded on the
    /// stack: with AES it takes a kilobyte.
    expanded: Option<Box<dyn Aead>>,
}

impl Epoch {
    /// From `K_n`, and the expander that is keyed with it. What is secret is written into the box, not moved there.
    fn new(backend: Backend, suite: SuiteId, secret: &Secret, expander: &Expander) -> Result<Box<Self>> {
        let mut epoch = Box::new(Epoch {
            backend,
            suite,
            secret: Zeroizing::default(),
            key: Zeroizing::default(),
            iv: [0; NONCE],
            is_used: false,
            expanded: None,
        });
        epoch.secret.copy_from_slice(&**secret);
        expander.expand(&[KEY], &mut *epoch.key)?;
        expander.expand(&[IV], &mut epoch.iv)?;
        Ok(epoch)
    }

    /// `K_(n+1)`, from which `K_n` cannot be computed.
    pub(super) fn next(&self) -> Result<Box<Self>> {
        let secret = expand(&Expander::new(&self.secret), &[REKEY])?;
        Epoch::new(self.backend, self.suite, &secret, &Expander::new(&secret))
    }

    pub(super) fn seal(&mut self, nonce: &[u8; NONCE], text: &mut [u8]) -> Result<[u8; TAG]> {
        let nonce = self.mask(nonce);
        let mut tag = [0; TAG];
        self.with_aead(&mut |aead| {
            tag = aead.seal(&nonce, text)?;
            Ok(())
        })?;
        Ok(tag)
    }

    pub(super) fn open(&mut self, nonce: &[u8; NONCE], text: &mut [u8], tag: &[u8; TAG]) -> Result<()> {
        let nonce = self.mask(nonce);
        self.with_aead(&mut |aead| aead.open(&nonce, text, tag))
    }

    /// With a wrong tag the text is as it was, which costs some backends a copy.
    pub(super) fn open_or_leave(
        &mut self,
        nonce: &[u8; NONCE],
        text: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<()> {
        let nonce = self.mask(nonce);
        self.with_aead(&mut |aead| aead.open_or_leave(&nonce, text, tag))
    }

    fn with_aead(&mut self, run: &mut dyn FnMut(&dyn Aead) -> Result<()>) -> Result<()> {
        if !std::mem::replace(&mut self.is_used, true) {
            return self.backend.with_aead(self.suite, &self.key, run);
        }
        match &self.expanded {
            Some(aead) => run(&**aead),
            None => run(&**self.expanded.insert(self.backend.aead(self.suite, &self.key)?)),
        }
    }

    fn mask(&self, nonce: &[u8; NONCE]) -> [u8; NONCE] {
        std::array::from_fn(|i| self.iv[i] ^ nonce[i])
    }
}

fn expand(secret: &Expander, info: &[&[u8]]) -> Result<Secret> {
    let mut out = Zeroizing::new([0; 32]);
    secret.expand(info, &mut *out)?;
    Ok(out)
}

/// For the test vectors.
#[cfg(test)]
impl SessionKeys {
    /// `dir_0` and `dir_1`, which are not kept as such.
    pub(super) fn directions(prk: &Expander) -> [Secret; 2] {
        [INITIATOR, RESPONDER].map(|label| expand(prk, &[label]).unwrap())
    }

    /// The base of stream 1 in each direction, and the exporter.
    pub(super) fn reveal(&self) -> [Secret; 3] {
        let base = |direction| expand(direction, &[STREAM, &1_u64.to_be_bytes()]).unwrap();
        let [initiator, responder] = &self.directions;
        [base(initiator), base(responder), self.exporter.clone()]
    }
}

#[cfg(test)]
impl Epoch {
    /// `K_n`, `key_n` and `iv_n`.
    pub(super) fn reveal(&self) -> (Secret, Secret, [u8; NONCE]) {
        (self.secret.clone(), self.key.clone(), self.iv)
    }
}
