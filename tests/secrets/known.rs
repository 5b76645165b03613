//! Secrets that the test knows: what it hands out as randomness, and what follows from that.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use ml_kem::{Decapsulate as _, ml_kem_768::DecapsulationKey};
use rand_core::{TryCryptoRng, TryRng};
use sha2::block_api::compress256;

use crate::hand::{Hello, Keys, Reply, expand, hmac, sha256};

/// Randomness of which all that can be a secret is remembered. Clones hand out of the same.
#[derive(Clone)]
pub struct Known(Arc<Mutex<Inner>>);

struct Inner {
    count: u64,
    /// With room for all, since a copy of them in freed memory would be found.
    handed: Vec<[u8; 32]>,
}

impl Known {
    pub fn new(seed: u64) -> Self {
        Known(Arc::new(Mutex::new(Inner { count: seed << 32, handed: Vec::with_capacity(64) })))
    }

    /// How many secrets it has handed out.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().handed.len()
    }

    pub fn handed(&self, number: usize) -> [u8; 32] {
        self.0.lock().unwrap().handed[number]
    }

    pub fn hand_out(&mut self) {
        let Ok(()) = self.try_fill_bytes(&mut [0; 32]);
    }
}

impl TryRng for Known {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| number as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        let mut inner = self.0.lock().unwrap();
        for chunk in out.chunks_mut(32) {
            inner.count += 1;
            let block = sha256(&[b"known", &inner.count.to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
            // Session ids and salts are shorter, and go over the wire.
            if chunk.len() == 32 {
                assert!(inner.handed.len() < inner.handed.capacity());
                inner.handed.push(block);
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for Known {}

/// Secrets by name.
#[derive(Default)]
pub struct Secrets(pub Vec<(String, Vec<u8>)>);

impl Secrets {
    pub fn add(&mut self, name: impl Into<String>, secret: &[u8]) {
        self.0.push((name.into(), secret.to_vec()));
    }

    /// A key of HMAC, and what HMAC keeps in its place, which is as good.
    pub fn add_hmac_key(&mut self, name: impl Into<String>, key: &[u8; 32]) {
        let name = name.into();
        self.add(name.clone(), key);
        for (pad, side) in [(0x36, "inner"), (0x5c, "outer")] {
            // FIPS 180-4, section 5.3.3.
            let mut state = [
                0x6a09_e667,
                0xbb67_ae85,
                0x3c6e_f372,
                0xa54f_f53a,
                0x510e_527f,
                0x9b05_688c,
                0x1f83_d9ab,
                0x5be0_cd19,
            ];
            let block = std::array::from_fn(|i| pad ^ key.get(i).copied().unwrap_or(0));
            compress256(&mut state, &[block]);
            self.add(format!("{name}, {side} state"), &state.map(u32::to_ne_bytes).concat());
        }
    }

    pub fn add_handed(&mut self, rng: &Known) {
        for number in 0..rng.count() {
            self.add(format!("randomness {number}"), &rng.handed(number));
        }
    }

    /// All of one session, from an ephemeral secret of either side.
    pub fn add_session(&mut self, hello: &[u8], reply: &[u8], mine: &Mine, psk: &[u8]) -> Keys {
        let mut hello = Hello::read(hello);
        let mut read = Reply::read(reply, hello.h1());
        let (ephemeral, theirs) = match mine {
            Mine::Initiator { ephemeral, .. } => (*ephemeral, &read.public_key),
            Mine::Responder { ephemeral } => (*ephemeral, &hello.public_key),
        };
        let x25519 = x25519_dalek::x25519(ephemeral, theirs[..].try_into().unwrap());
        self.add("X25519 secret", &x25519);
        let mut kem = Vec::new();
        if let Mine::Initiator { kem_seed: Some(seed), .. } = mine {
            let ciphertext = const_hex::decode(&read.extensions["mlkem768"]).unwrap();
            let key = DecapsulationKey::from_seed((*seed).into());
            kem = key.decapsulate(&ciphertext[..].try_into().unwrap()).to_vec();
            self.add("ML-KEM secret", &kem);
        }
        let th = sha256(&[&read.bytes(), &read.signature()]);
        let prk = hmac(&th, &[&x25519, &kem[..], psk].concat());
        let keys = match mine {
            Mine::Initiator { .. } => {
                hello.secret = ephemeral;
                hello.finish(reply, &kem, psk).keys
            }
            Mine::Responder { .. } => {
                read.theirs = hello.public_key;
                read.secret = ephemeral;
                read.finish(&kem, psk).keys
            }
        };
        self.add_hmac_key("prk", &prk);
        self.add_hmac_key("dir_0", &keys.directions[0]);
        self.add_hmac_key("dir_1", &keys.directions[1]);
        self.add_hmac_key("exporter", &keys.exporter);
        keys
    }

    /// The keys of a stream, epoch by epoch.
    pub fn add_stream(&mut self, keys: &Keys, direction: u8, stream: u64, opening: &[u8], epochs: u32) {
        let info = [&b"tower-seal/1 stream"[..], &stream.to_be_bytes()].concat();
        let base = expand(&keys.directions[usize::from(direction)], &info);
        let name = format!("direction {direction}, stream {stream}");
        self.add(format!("{name}, base"), &base);
        for epoch in 0..epochs {
            let secret = keys.secret(direction, stream, opening, epoch);
            self.add_hmac_key(format!("{name}, K_{epoch}"), &secret);
            self.add(format!("{name}, key_{epoch}"), &expand(&secret, b"tower-seal/1 key"));
        }
    }
}

/// What the test handed out to one side.
pub enum Mine {
    Initiator { ephemeral: [u8; 32], kem_seed: Option<[u8; 64]> },
    Responder { ephemeral: [u8; 32] },
}
