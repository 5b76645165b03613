//! Sections 4 and 5 written down a second time: records, sealed and signed as a test likes.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use serde_json::{Value, json};
use tower_seal::config::Encoding;

use super::hand::{self, Keys, Peer, expand, lp, sha256};

pub(crate) const FINAL: u8 = 1;
pub(crate) const PADDED: u8 = 2;

/// Salt and deadline.
pub(crate) type Opening = ([u8; 16], u64);

pub(crate) fn opening_bytes((salt, deadline): Opening) -> Vec<u8> {
    [&salt[..], &deadline.to_be_bytes()].concat()
}

/// A record to be. Change what you like, then [`seal`](Self::seal) it.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) keys: Keys,
    pub(crate) direction: u8,
    pub(crate) session: [u8; 16],
    pub(crate) stream: u64,
    /// What enters key and leaf; none in stream 0.
    pub(crate) opening: Option<Opening>,
    pub(crate) flags: u8,
    pub(crate) epoch: u32,
    pub(crate) counter: u64,
    pub(crate) text: Vec<u8>,
    /// Whose signature it bears, if any.
    pub(crate) signer: Option<[u8; 32]>,
    pub(crate) sender: [u8; 32],
    /// In a response.
    pub(crate) request_leaf: Vec<u8>,
}

/// Any salt will do for a test; a minute will do for a deadline.
pub(crate) const OPENING: Opening = ([7; 16], 60_000);

impl Peer {
    fn draft(&self, stream: u64, opening: Option<Opening>, text: &[u8]) -> Draft {
        Draft {
            keys: self.keys.clone(),
            direction: self.side,
            session: self.session,
            stream,
            opening,
            flags: FINAL,
            epoch: 0,
            counter: 0,
            text: text.to_vec(),
            signer: Some(self.seed),
            sender: hand::node_id(&self.seed),
            request_leaf: Vec::new(),
        }
    }

    /// The only record of a request, signed.
    pub(crate) fn request(&self, stream: u64, text: &[u8]) -> Draft {
        self.draft(stream, Some(OPENING), text)
    }

    /// The only record of the response to a request, signed.
    pub(crate) fn response(&self, request: &Wire, text: &[u8]) -> Draft {
        let (salt, deadline) = request.opening.unwrap();
        let leaf = request.leaf(&self.keys, 0, request.stream, &opening_bytes((salt, deadline)), &[]);
        let draft = self.draft(request.stream, Some(([9; 16], 0)), text);
        Draft { request_leaf: leaf.to_vec(), ..draft }
    }

    /// A record of stream 0, signed, not FINAL.
    pub(crate) fn duplex(&self, counter: u64, text: &[u8]) -> Draft {
        Draft { flags: 0, counter, ..self.draft(0, None, text) }
    }
}

impl Draft {
    pub(crate) fn flags(self, flags: u8) -> Self {
        Draft { flags, ..self }
    }

    pub(crate) fn epoch(self, epoch: u32) -> Self {
        Draft { epoch, ..self }
    }

    pub(crate) fn counter(self, counter: u64) -> Self {
        Draft { counter, ..self }
    }

    pub(crate) fn unsigned(self) -> Self {
        Draft { signer: None, ..self }
    }

    pub(crate) fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.epoch.to_be_bytes());
        nonce[0] = self.flags;
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        nonce
    }

    fn opening(&self) -> Vec<u8> {
        self.opening.map(opening_bytes).unwrap_or_default()
    }

    pub(crate) fn leaf(&self, wire: &Wire) -> [u8; 32] {
        wire.leaf(&self.keys, self.direction, self.stream, &self.opening(), &self.request_leaf)
    }

    /// With a signature of its own.
    pub(crate) fn seal(&self) -> Wire {
        let mut wire = self.encrypt();
        wire.signature = self.signer.map(|seed| {
            let root = self.leaf(&wire);
            Signed { signature: hand::sign(&seed, &batch(&root)), index: 0, siblings: Vec::new() }
        });
        wire
    }

    /// As one of a batch whose other leaves are unknown.
    pub(crate) fn seal_in_batch(&self, index: u64, siblings: &[[u8; 32]]) -> Wire {
        let mut wire = self.encrypt();
        let signature = hand::sign(&self.signer.unwrap(), &batch(&root(self.leaf(&wire), index, siblings)));
        wire.signature = Some(Signed { signature, index, siblings: siblings.to_vec() });
        wire
    }

    fn encrypt(&self) -> Wire {
        let secret = self.keys.secret(self.direction, self.stream, &self.opening(), self.epoch);
        let nonce = self.nonce();
        let mut ciphertext = self.text.clone();
        let tag = aead(self.keys.chacha, &secret, &nonce, |aead, nonce| match aead {
            Aead::Aes(aead) => {
                aead.encrypt_inout_detached(nonce.into(), &[], (&mut ciphertext[..]).into()).unwrap().to_vec()
            }
            Aead::ChaCha(aead) => {
                aead.encrypt_inout_detached(nonce.into(), &[], (&mut ciphertext[..]).into()).unwrap().to_vec()
            }
        });
        ciphertext.extend(tag);
        Wire {
            session: self.session,
            stream: self.stream,
            opening: self.opening.filter(|_| self.counter == 0),
            nonce,
            signature: None,
            sender: self.sender,
            ciphertext,
        }
    }
}

enum Aead {
    Aes(Box<Aes256Gcm>),
    ChaCha(Box<ChaCha20Poly1305>),
}

fn aead<T>(chacha: bool, secret: &[u8], nonce: &[u8; 12], act: impl FnOnce(Aead, &[u8; 12]) -> T) -> T {
    let (key, iv) = (expand(secret, b"tower-seal/1 key"), expand(secret, b"tower-seal/1 iv"));
    let masked = std::array::from_fn(|i| iv[i] ^ nonce[i]);
    let aead = if chacha {
        Aead::ChaCha(Box::new(ChaCha20Poly1305::new(&key.into())))
    } else {
        Aead::Aes(Box::new(Aes256Gcm::new(&key.into())))
    };
    act(aead, &masked)
}

/// What a signature is over.
pub(crate) fn batch(root: &[u8]) -> Vec<u8> {
    [lp(b"tower-seal/1 batch"), root.to_vec()].concat()
}

/// The root above a leaf that has these siblings.
pub(crate) fn root(leaf: [u8; 32], index: u64, siblings: &[[u8; 32]]) -> [u8; 32] {
    siblings.iter().enumerate().fold(leaf, |below, (level, sibling)| {
        let (left, right) = if index >> level & 1 == 1 { (sibling, &below) } else { (&below, sibling) };
        sha256(&[&[1], left, right])
    })
}

/// Signs several records once. Returns them in order.
pub(crate) fn seal_batch(drafts: &[Draft], seed: &[u8; 32]) -> Vec<Wire> {
    let mut wires: Vec<Wire> = drafts.iter().map(Draft::encrypt).collect();
    let mut level: Vec<[u8; 32]> = drafts.iter().zip(&wires).map(|(draft, wire)| draft.leaf(wire)).collect();
    level.resize(level.len().next_power_of_two(), *level.last().unwrap());
    let mut paths = vec![Vec::new(); wires.len()];
    for depth in 0.. {
        if level.len() == 1 {
            break;
        }
        for (index, path) in paths.iter_mut().enumerate() {
            path.push(level[(index >> depth) ^ 1]);
        }
        level = level.chunks(2).map(|pair| sha256(&[&[1], &pair[0], &pair[1]])).collect();
    }
    let signature = hand::sign(seed, &batch(&level[0]));
    for (index, (wire, siblings)) in wires.iter_mut().zip(paths).enumerate() {
        wire.signature = Some(Signed { signature, index: index as u64, siblings });
    }
    wires
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signed {
    pub(crate) signature: [u8; 64],
    pub(crate) index: u64,
    pub(crate) siblings: Vec<[u8; 32]>,
}

/// A record as it stands on the wire, in neither encoding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wire {
    pub(crate) session: [u8; 16],
    pub(crate) stream: u64,
    pub(crate) opening: Option<Opening>,
    pub(crate) nonce: [u8; 12],
    pub(crate) signature: Option<Signed>,
    pub(crate) sender: [u8; 32],
    pub(crate) ciphertext: Vec<u8>,
}

impl Wire {
    fn leaf(&self, keys: &Keys, direction: u8, stream: u64, opening: &[u8], request: &[u8]) -> [u8; 32] {
        sha256(&[
            &[0],
            &lp(b"tower-seal/1 record"),
            &keys.th,
            &[direction],
            &stream.to_be_bytes(),
            &lp(opening),
            &lp(request),
            &self.nonce,
            &self.ciphertext,
        ])
    }

    /// The text, padding and all.
    pub(crate) fn open(&self, keys: &Keys, direction: u8, stream: u64, opening: &[u8]) -> Option<Vec<u8>> {
        let epoch = u32::from_be_bytes([0, self.nonce[1], self.nonce[2], self.nonce[3]]);
        let secret = keys.secret(direction, stream, opening, epoch);
        let (text, tag) = self.ciphertext.split_last_chunk::<16>()?;
        let mut text = text.to_vec();
        aead(keys.chacha, &secret, &self.nonce, |aead, nonce| match aead {
            Aead::Aes(aead) => {
                aead.decrypt_inout_detached(nonce.into(), &[], (&mut text[..]).into(), tag.into()).is_ok()
            }
            Aead::ChaCha(aead) => {
                aead.decrypt_inout_detached(nonce.into(), &[], (&mut text[..]).into(), tag.into()).is_ok()
            }
        })
        .then_some(text)
    }

    pub(crate) fn flags(&self) -> u8 {
        self.nonce[0]
    }

    pub(crate) fn epoch(&self) -> u32 {
        u32::from_be_bytes([0, self.nonce[1], self.nonce[2], self.nonce[3]])
    }

    pub(crate) fn counter(&self) -> u64 {
        u64::from_be_bytes(self.nonce[4..].try_into().unwrap())
    }

    pub(crate) fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Binary => self.binary(),
            Encoding::Json => self.json().to_string().into_bytes(),
        }
    }

    pub(crate) fn binary(&self) -> Vec<u8> {
        let flags = u8::from(self.opening.is_some()) | u8::from(self.signature.is_some()) << 1;
        let mut out = vec![1, flags];
        if let Some(opening) = self.opening {
            out.extend(self.session);
            out.extend(self.stream.to_be_bytes());
            out.extend(opening_bytes(opening));
        }
        out.extend(self.nonce);
        if let Some(signed) = &self.signature {
            out.extend(signed.signature);
            out.push(signed.siblings.len() as u8);
            out.extend((signed.index as u32).to_be_bytes());
            out.extend(signed.siblings.concat());
        }
        out.extend(&self.ciphertext);
        out
    }

    pub(crate) fn json(&self) -> Value {
        let mut json = json!({
            "type": "encrypted",
            "nonce": const_hex::encode(self.nonce),
            "ciphertext": const_hex::encode(&self.ciphertext),
            "sender": const_hex::encode(self.sender),
        });
        if let Some((salt, deadline)) = self.opening {
            json["session"] = const_hex::encode(self.session).into();
            json["stream"] = self.stream.into();
            json["salt"] = const_hex::encode(salt).into();
            if deadline != 0 {
                json["deadline"] = deadline.into();
            }
        }
        if let Some(signed) = &self.signature {
            json["signature"] = const_hex::encode(signed.signature).into();
            if !signed.siblings.is_empty() {
                let siblings: Vec<String> = signed.siblings.iter().map(const_hex::encode).collect();
                json["path"] = json!({"index": signed.index, "siblings": siblings});
            }
        }
        json
    }

    /// Reads either encoding. A binary record has no sender; session and stream are 0 without an opening.
    pub(crate) fn read(frame: &[u8]) -> Self {
        if frame[0] == b'{' { Wire::read_json(frame) } else { Wire::read_binary(frame) }
    }

    fn read_json(frame: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(frame).unwrap();
        let hex = |name: &str| json.get(name).map(|text| const_hex::decode(text.as_str().unwrap()).unwrap());
        let salt = hex("salt").map(|salt| salt[..].try_into().unwrap());
        Wire {
            session: hex("session").map_or([0; 16], |session| session[..].try_into().unwrap()),
            stream: json.get("stream").map_or(0, |stream| stream.as_u64().unwrap()),
            opening: salt.map(|salt| (salt, json.get("deadline").map_or(0, |time| time.as_u64().unwrap()))),
            nonce: hex("nonce").unwrap()[..].try_into().unwrap(),
            signature: hex("signature").map(|signature| Signed {
                signature: signature[..].try_into().unwrap(),
                index: 0,
                siblings: Vec::new(),
            }),
            sender: hex("sender").unwrap()[..].try_into().unwrap(),
            ciphertext: hex("ciphertext").unwrap(),
        }
    }

    fn read_binary(frame: &[u8]) -> Self {
        let (head, mut rest) = frame.split_at(2);
        let mut take = |count: usize| {
            let (taken, tail) = rest.split_at(count);
            rest = tail;
            taken
        };
        assert_eq!(head[0], 1);
        let (mut session, mut stream, mut opening) = ([0; 16], 0, None);
        if head[1] & 1 != 0 {
            session = take(16).try_into().unwrap();
            stream = u64::from_be_bytes(take(8).try_into().unwrap());
            let salt = take(16).try_into().unwrap();
            opening = Some((salt, u64::from_be_bytes(take(8).try_into().unwrap())));
        }
        let nonce = take(12).try_into().unwrap();
        let signature = (head[1] & 2 != 0).then(|| {
            let signature = take(64).try_into().unwrap();
            let count = usize::from(take(1)[0]);
            let index = u32::from_be_bytes(take(4).try_into().unwrap()).into();
            let siblings = take(count * 32).chunks(32).map(|node| node.try_into().unwrap()).collect();
            Signed { signature, index, siblings }
        });
        Wire { session, stream, opening, nonce, signature, sender: [0; 32], ciphertext: rest.to_vec() }
    }
}
