//! Sections 2 and 3 written down a second time, from PROTOCOL.md alone, so that a test can say anything.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const AES: &str = "x25519-aes256gcm-sha256";
pub(crate) const CHACHA: &str = "x25519-chacha20poly1305-sha256";

/// The Ed25519 public key of a seed.
pub(crate) fn node_id(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

pub(crate) fn sign(seed: &[u8; 32], message: &[u8]) -> [u8; 64] {
    SigningKey::from_bytes(seed).sign(message).to_bytes()
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

/// HMAC-SHA256 (RFC 2104), which is HKDF-Extract, and HKDF-Expand with 0x01 at the end.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    assert!(key.len() <= 64);
    let pad = |byte: u8| std::array::from_fn::<u8, 64, _>(|i| byte ^ key.get(i).unwrap_or(&0));
    sha256(&[&pad(0x5c), &sha256(&[&pad(0x36), message])])
}

pub(crate) fn expand(key: &[u8], info: &[u8]) -> [u8; 32] {
    hmac(key, &[info, &[1]].concat())
}

pub(crate) fn lp(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn list(items: &[String]) -> Vec<u8> {
    let mut out = (items.len() as u32).to_be_bytes().to_vec();
    items.iter().for_each(|item| out.extend(lp(item.as_bytes())));
    out
}

fn map(map: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = (map.len() as u32).to_be_bytes().to_vec();
    for (name, value) in map {
        out.extend(lp(name.as_bytes()));
        out.extend(lp(value.as_bytes()));
    }
    out
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn hex(value: &Value) -> Vec<u8> {
    const_hex::decode(value.as_str().unwrap()).unwrap()
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn x25519_public(secret: [u8; 32]) -> Vec<u8> {
    x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES).to_vec()
}

/// Section 2.1. Change what you like, then [`json`](Self::json) signs it.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) version: u64,
    pub(crate) seed: [u8; 32],
    pub(crate) secret: [u8; 32],
    pub(crate) public_key: Vec<u8>,
    pub(crate) node_id: Vec<u8>,
    pub(crate) audience: Option<Vec<u8>>,
    pub(crate) suites: Vec<String>,
    pub(crate) signatures: String,
    pub(crate) extensions: BTreeMap<String, String>,
    /// Instead of the right one.
    pub(crate) signature: Option<Vec<u8>>,
}

impl Hello {
    pub(crate) fn new(seed: [u8; 32], secret: [u8; 32]) -> Self {
        Hello {
            version: 1,
            seed,
            secret,
            public_key: x25519_public(secret),
            node_id: node_id(&seed).to_vec(),
            audience: None,
            suites: vec![AES.to_owned()],
            signatures: "every".to_owned(),
            extensions: BTreeMap::new(),
            signature: None,
        }
    }

    /// Somebody else's hello; its secrets are not known.
    pub(crate) fn read(message: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(message).unwrap();
        Hello {
            version: json["version"].as_u64().unwrap(),
            seed: [0; 32],
            secret: [0; 32],
            public_key: hex(&json["public_key"]),
            node_id: hex(&json["node_id"]),
            audience: json.get("audience").map(hex),
            suites: json["suites"].as_array().unwrap().iter().map(text).collect(),
            signatures: text(&json["signatures"]),
            extensions: strings(&json["extensions"]),
            signature: Some(hex(&json["signature"])),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [
            lp(b"tower-seal/1 hello"),
            lp(&self.public_key),
            lp(&self.node_id),
            lp(self.audience.as_deref().unwrap_or_default()),
            list(&self.suites),
            lp(self.signatures.as_bytes()),
            map(&self.extensions),
        ]
        .concat()
    }

    pub(crate) fn signature(&self) -> Vec<u8> {
        self.signature.clone().unwrap_or_else(|| sign(&self.seed, &self.bytes()).to_vec())
    }

    pub(crate) fn h1(&self) -> [u8; 32] {
        sha256(&[&self.bytes(), &self.signature()])
    }

    pub(crate) fn json(&self) -> Value {
        let mut json = json!({
            "type": "key_exchange",
            "version": self.version,
            "public_key": const_hex::encode(&self.public_key),
            "node_id": const_hex::encode(&self.node_id),
            "suites": self.suites,
            "signatures": self.signatures,
            "extensions": self.extensions,
            "signature": const_hex::encode(self.signature()),
        });
        if let Some(audience) = &self.audience {
            json["audience"] = const_hex::encode(audience).into();
        }
        json
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        self.json().to_string().into_bytes()
    }

    /// Checks the reply's signature and derives the session.
    pub(crate) fn finish(&self, reply: &[u8], kem: &[u8], psk: &[u8]) -> Peer {
        let reply = Reply::read(reply, self.h1());
        let peer = ed25519_dalek::VerifyingKey::from_bytes(reply.node_id[..].try_into().unwrap()).unwrap();
        let signature = ed25519_dalek::Signature::from_slice(&reply.signature()).unwrap();
        peer.verify_strict(&reply.bytes(), &signature).unwrap();
        reply.peer(0, self.seed, self.secret, &reply.public_key, kem, psk)
    }
}

/// Section 2.2. Change what you like, then [`json`](Self::json) signs it.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) h1: [u8; 32],
    pub(crate) version: u64,
    pub(crate) seed: [u8; 32],
    pub(crate) secret: [u8; 32],
    pub(crate) theirs: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    pub(crate) node_id: Vec<u8>,
    pub(crate) suite: String,
    pub(crate) signatures: String,
    pub(crate) session: Vec<u8>,
    pub(crate) expires_in: u64,
    pub(crate) extensions: BTreeMap<String, String>,
    /// Instead of the right one.
    pub(crate) signature: Option<Vec<u8>>,
}

impl Reply {
    pub(crate) fn new(hello: &[u8], seed: [u8; 32], secret: [u8; 32], session: [u8; 16]) -> Self {
        let hello = Hello::read(hello);
        Reply {
            h1: hello.h1(),
            version: 1,
            seed,
            secret,
            theirs: hello.public_key.clone(),
            public_key: x25519_public(secret),
            node_id: node_id(&seed).to_vec(),
            suite: AES.to_owned(),
            signatures: "every".to_owned(),
            session: session.to_vec(),
            expires_in: 3600,
            extensions: BTreeMap::new(),
            signature: None,
        }
    }

    pub(crate) fn read(message: &[u8], h1: [u8; 32]) -> Self {
        let json: Value = serde_json::from_slice(message).unwrap();
        Reply {
            h1,
            version: json["version"].as_u64().unwrap(),
            seed: [0; 32],
            secret: [0; 32],
            theirs: Vec::new(),
            public_key: hex(&json["public_key"]),
            node_id: hex(&json["node_id"]),
            suite: text(&json["suite"]),
            signatures: text(&json["signatures"]),
            session: hex(&json["session"]),
            expires_in: json["expires_in"].as_u64().unwrap(),
            extensions: strings(&json["extensions"]),
            signature: Some(hex(&json["signature"])),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [
            lp(b"tower-seal/1 reply"),
            lp(&self.h1),
            lp(&self.public_key),
            lp(&self.node_id),
            lp(self.suite.as_bytes()),
            lp(self.signatures.as_bytes()),
            lp(&self.session),
            self.expires_in.to_be_bytes().to_vec(),
            map(&self.extensions),
        ]
        .concat()
    }

    pub(crate) fn signature(&self) -> Vec<u8> {
        self.signature.clone().unwrap_or_else(|| sign(&self.seed, &self.bytes()).to_vec())
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "type": "key_exchange",
            "version": self.version,
            "public_key": const_hex::encode(&self.public_key),
            "node_id": const_hex::encode(&self.node_id),
            "suite": self.suite,
            "signatures": self.signatures,
            "session": const_hex::encode(&self.session),
            "expires_in": self.expires_in,
            "extensions": self.extensions,
            "signature": const_hex::encode(self.signature()),
        })
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        self.json().to_string().into_bytes()
    }

    /// The responder's side of the session.
    pub(crate) fn finish(&self, kem: &[u8], psk: &[u8]) -> Peer {
        self.peer(1, self.seed, self.secret, &self.theirs, kem, psk)
    }

    fn peer(
        &self,
        side: u8,
        seed: [u8; 32],
        secret: [u8; 32],
        theirs: &[u8],
        kem: &[u8],
        psk: &[u8],
    ) -> Peer {
        let x25519 = x25519_dalek::x25519(secret, theirs.try_into().unwrap());
        let th = sha256(&[&self.bytes(), &self.signature()]);
        let prk = hmac(&th, &[&x25519[..], kem, psk].concat());
        let keys = Keys {
            th,
            directions: [expand(&prk, b"tower-seal/1 initiator"), expand(&prk, b"tower-seal/1 responder")],
            exporter: expand(&prk, b"tower-seal/1 exporter"),
            chacha: self.suite == CHACHA,
        };
        Peer { keys, side, seed, session: self.session[..].try_into().unwrap() }
    }
}

/// Section 3.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) th: [u8; 32],
    pub(crate) directions: [[u8; 32]; 2],
    pub(crate) exporter: [u8; 32],
    pub(crate) chacha: bool,
}

impl Keys {
    /// `K_n`.
    pub(crate) fn secret(&self, direction: u8, stream: u64, opening: &[u8], epoch: u32) -> [u8; 32] {
        let info = [&b"tower-seal/1 stream"[..], &stream.to_be_bytes()].concat();
        let base = expand(&self.directions[usize::from(direction)], &info);
        let first = if stream == 0 { base } else { hmac(opening, &base) };
        (0..epoch).fold(first, |secret, _| expand(&secret, b"tower-seal/1 rekey"))
    }
}

/// One side of a session.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) keys: Keys,
    /// 0 for the initiator.
    pub(crate) side: u8,
    pub(crate) seed: [u8; 32],
    pub(crate) session: [u8; 16],
}
