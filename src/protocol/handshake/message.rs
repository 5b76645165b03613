//! Hello and reply: their fields, their JSON, and the bytes of them that are signed (PROTOCOL section 2).

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    config::Signatures,
    error::{Code, Error, Result},
    identity::{NodeId, Signature},
    protocol::{
        json::{
            hex_field, integer_field, put_name,
            reader::{Object, Value, write_string},
            text_field,
        },
        keys,
        transcript::Transcript,
    },
    suite::hash::sha256,
    trust::SessionId,
};

/// The most bytes of a hello or a reply.
pub const MAX_HANDSHAKE: usize = 16 << 10;

const VERSION: u64 = 1;

/// Sorted by name, as they enter the transcript.
pub(super) type Extensions = BTreeMap<String, String>;

/// The initiator's message.
pub(crate) struct Hello {
    pub(super) public_key: [u8; 32],
    pub(super) node_id: NodeId,
    pub(super) audience: Option<NodeId>,
    pub(super) suites: Vec<String>,
    pub(super) signatures: Signatures,
    pub(super) extensions: Extensions,
    pub(super) signature: Signature,
}

impl Hello {
    pub(crate) fn parse(message: &[u8]) -> Result<Self> {
        let object = parse(message)?;
        let suites = object.required("suites")?.strings(MAX_HANDSHAKE)?;
        if suites.is_empty() {
            return Err(Error::malformed("a hello without cipher suites"));
        }
        Ok(Hello {
            public_key: object.required("public_key")?.hex()?,
            node_id: NodeId::from_bytes(object.required("node_id")?.hex()?),
            audience: object
                .optional("audience")
                .map(|value| value.hex().map(NodeId::from_bytes))
                .transpose()?,
            suites: suites.into_iter().map(Into::into).collect(),
            signatures: parse_signatures(&object)?,
            extensions: parse_extensions(&object)?,
            signature: Signature(object.required("signature")?.hex()?),
        })
    }

    pub(super) fn write(&self) -> Bytes {
        let mut out = begin(&self.public_key, self.node_id);
        if let Some(audience) = self.audience {
            hex_field(&mut out, "audience", audience.as_bytes());
        }
        put_name(&mut out, "suites");
        for (i, suite) in self.suites.iter().enumerate() {
            out.put_u8(if i == 0 { b'[' } else { b',' });
            write_string(&mut out, suite);
        }
        out.put_u8(b']');
        end(out, self.signatures, &self.extensions, &self.signature)
    }

    /// `hello_bytes`.
    pub(super) fn bytes(&self) -> Vec<u8> {
        Transcript::new(keys::HELLO)
            .lp(&self.public_key)
            .lp(self.node_id.as_bytes())
            .lp(self.audience.as_ref().map_or(&[], |audience| audience.as_bytes()))
            .list(self.suites.iter().map(String::as_str))
            .lp(name(self.signatures).as_bytes())
            .map(&self.extensions)
            .bytes()
    }

    /// `h1`, of [`bytes`](Self::bytes).
    pub(super) fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        sha256(&[bytes, &self.signature.0])
    }
}

/// The responder's message.
pub(super) struct Reply {
    pub(super) public_key: [u8; 32],
    pub(super) node_id: NodeId,
    pub(super) suite: String,
    pub(super) signatures: Signatures,
    pub(super) session: SessionId,
    pub(super) expires_in: u64,
    pub(super) extensions: Extensions,
    pub(super) signature: Signature,
}

impl Reply {
    pub(super) fn parse(message: &[u8]) -> Result<Self> {
        let object = parse(message)?;
        Ok(Reply {
            public_key: object.required("public_key")?.hex()?,
            node_id: NodeId::from_bytes(object.required("node_id")?.hex()?),
            suite: object.required("suite")?.string()?.into_owned(),
            signatures: parse_signatures(&object)?,
            session: SessionId::from_bytes(object.required("session")?.hex()?),
            expires_in: object.required("expires_in")?.integer()?,
            extensions: parse_extensions(&object)?,
            signature: Signature(object.required("signature")?.hex()?),
        })
    }

    pub(super) fn write(&self) -> Bytes {
        let mut out = begin(&self.public_key, self.node_id);
        text_field(&mut out, "suite", &self.suite);
        hex_field(&mut out, "session", self.session.as_bytes());
        integer_field(&mut out, "expires_in", self.expires_in);
        end(out, self.signatures, &self.extensions, &self.signature)
    }

    /// `reply_bytes`, after the hello with hash `h1`.
    pub(super) fn bytes(&self, h1: &[u8; 32]) -> Vec<u8> {
        Transcript::new(keys::REPLY)
            .lp(h1)
            .lp(&self.public_key)
            .lp(self.node_id.as_bytes())
            .lp(self.suite.as_bytes())
            .lp(name(self.signatures).as_bytes())
            .lp(self.session.as_bytes())
            .u64(self.expires_in)
            .map(&self.extensions)
            .bytes()
    }

    /// `th`, of [`bytes`](Self::bytes).
    pub(super) fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        sha256(&[bytes, &self.signature.0])
    }
}

/// Size, JSON, type, version: in this order, so that another version is named as such whatever else it has.
fn parse(message: &[u8]) -> Result<Object<'_>> {
    if message.len() > MAX_HANDSHAKE {
        return Err(Error::new(Code::TooLarge, "a handshake message above 16 KiB"));
    }
    let object = Object::parse(message)?;
    if object.required("type")?.string()? != "key_exchange" {
        return Err(Error::malformed("not a handshake: its type is not \"key_exchange\""));
    }
    if object.required("version")?.integer()? != VERSION {
        return Err(Error::new(Code::UnsupportedVersion, "this side speaks version 1 only"));
    }
    Ok(object)
}

fn parse_signatures(object: &Object<'_>) -> Result<Signatures> {
    match &*object.required("signatures")?.string()? {
        "every" => Ok(Signatures::Every),
        "handshake" => Ok(Signatures::Handshake),
        _ => Err(Error::malformed("an unknown signature policy")),
    }
}

fn parse_extensions(object: &Object<'_>) -> Result<Extensions> {
    let Some(extensions) = object.optional("extensions").map(Value::object).transpose()? else {
        return Ok(Extensions::new());
    };
    extensions
        .fields()
        .map(|(name, value)| {
            let value = value.string()?;
            if !is_printable(name) || !is_printable(&value) {
                return Err(Error::malformed("an extension that is not printable ASCII"));
            }
            Ok((name.to_owned(), value.into_owned()))
        })
        .collect()
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

fn name(signatures: Signatures) -> &'static str {
    match signatures {
        Signatures::Every => "every",
        Signatures::Handshake => "handshake",
    }
}

fn begin(public_key: &[u8; 32], node_id: NodeId) -> BytesMut {
    let mut out = BytesMut::with_capacity(1024);
    out.put_slice(b"{\"type\":\"key_exchange\"");
    integer_field(&mut out, "version", VERSION);
    hex_field(&mut out, "public_key", public_key);
    hex_field(&mut out, "node_id", node_id.as_bytes());
    out
}

fn end(mut out: BytesMut, signatures: Signatures, extensions: &Extensions, signature: &Signature) -> Bytes {
    text_field(&mut out, "signatures", name(signatures));
    put_name(&mut out, "extensions");
    out.put_u8(b'{');
    for (i, (name, value)) in extensions.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        write_string(&mut out, name);
        out.put_u8(b':');
        write_string(&mut out, value);
    }
    out.put_u8(b'}');
    hex_field(&mut out, "signature", &signature.0);
    out.put_u8(b'}');
    out.freeze()
}
