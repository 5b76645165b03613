//! The JSON encoding of a record (PROTOCOL section 4.1), by a borrowed reader and a plain writer: a generic
//! parser and a general `hex` cost 25 times as much.

pub(super) mod reader;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::record::{Nonce, Opening, Outgoing, Record, Signed};
use crate::{
    config::Encoding,
    error::{Error, Result},
    identity::{NodeId, Proof, Signature},
    suite::tree,
};
use reader::Object;

pub(super) fn parse_record(frame: &[u8]) -> Result<Record> {
    let object = Object::parse(frame)?;
    if object.required("type")?.string()? != "encrypted" {
        return Err(Error::malformed("not a record: its type is not \"encrypted\""));
    }
    let opening = parse_opening(&object)?;
    let nonce = Nonce::parse(object.required("nonce")?.hex()?)?;
    let signature = object.optional("signature").map(|value| value.hex().map(Signature)).transpose()?;
    let path = object.optional("path").map(|path| path.object()).transpose()?;
    let sender = NodeId::from_bytes(object.required("sender")?.hex()?);

    let mut index = 0;
    let mut siblings = Vec::new();
    if let Some(path) = path {
        index = u32::try_from(path.required("index")?.integer()?)
            .map_err(|_| Error::malformed("a batch index beyond its tree"))?;
        siblings = path.required("siblings")?.strings(tree::MOST_SIBLINGS)?;
        if siblings.is_empty() || signature.is_none() {
            return Err(Error::malformed("a path without siblings, or without a signature"));
        }
    }
    let ciphertext = object.required("ciphertext")?.string()?;
    let ciphertext_at = siblings.len() * 32;
    let mut body = BytesMut::zeroed(ciphertext_at + ciphertext.len() / 2);
    let (tree, text) = body.split_at_mut(ciphertext_at);
    for (bytes, sibling) in tree.chunks_exact_mut(32).zip(&siblings) {
        bytes.copy_from_slice(&reader::fixed_hex::<32>(sibling)?);
    }
    decode_hex(&ciphertext, text)?;
    Ok(Record {
        encoding: Encoding::Json,
        opening,
        nonce,
        signed: signature.map(|signature| Signed { signature, index }),
        sender: Some(sender),
        body,
        siblings: 0..ciphertext_at,
        ciphertext_at,
    })
}

/// `session`, `stream` and `salt` stand together; `deadline` never without them.
fn parse_opening(object: &Object<'_>) -> Result<Option<Opening>> {
    let deadline = object.optional("deadline").map(reader::Value::integer).transpose()?;
    match (object.optional("session"), object.optional("stream"), object.optional("salt")) {
        (Some(session), Some(stream), Some(salt)) => {
            Opening::parse(session.hex()?, stream.integer()?, salt.hex()?, deadline).map(Some)
        }
        (None, None, None) if deadline.is_none() => Ok(None),
        _ => Err(Error::malformed("a part of an opening, but not all of it")),
    }
}

fn decode_hex(text: &str, out: &mut [u8]) -> Result<()> {
    const BAD: Error = Error::malformed("a ciphertext that is not hex");
    if text.len() != out.len() * 2 {
        return Err(BAD);
    }
    const_hex::decode_to_slice(text, out).map_err(|_| BAD)
}

/// Returns the object, ended by LF if `framed`, and the ciphertext in bytes.
pub(super) fn write_record(record: Outgoing, proof: Option<&Proof>, framed: bool) -> (Bytes, Bytes) {
    let (mut buffer, headroom) = record.buffer.into_parts();
    let ciphertext = buffer.split_off(headroom).freeze();
    let mut out = BytesMut::with_capacity(ciphertext.len() * 2 + 512 + proof.map_or(0, Proof::depth) * 68);
    out.put_slice(b"{\"type\":\"encrypted\"");
    if let Some(opening) = &record.opening {
        hex_field(&mut out, "session", opening.session.as_bytes());
        integer_field(&mut out, "stream", opening.stream);
        hex_field(&mut out, "salt", &opening.salt);
        if let Some(deadline) = opening.deadline {
            integer_field(&mut out, "deadline", deadline);
        }
    }
    hex_field(&mut out, "nonce", &record.nonce.0);
    hex_field(&mut out, "ciphertext", &ciphertext);
    if let Some(proof) = proof {
        hex_field(&mut out, "signature", &proof.signature().0);
        if proof.depth() > 0 {
            out.put_slice(b",\"path\":{\"index\":");
            out.put_slice(proof.index().to_string().as_bytes());
            out.put_slice(b",\"siblings\":[");
            for (i, sibling) in proof.siblings().enumerate() {
                out.put_slice(if i == 0 { b"\"" } else { b",\"" });
                put_hex(&mut out, sibling);
                out.put_u8(b'"');
            }
            out.put_slice(b"]}");
        }
    }
    hex_field(&mut out, "sender", record.sender.as_bytes());
    out.put_slice(if framed { b"}\n" } else { b"}" });
    (out.freeze(), ciphertext)
}

/// `,"name":"hex"`; the object has begun with its type.
pub(super) fn hex_field(out: &mut BytesMut, name: &str, bytes: &[u8]) {
    put_name(out, name);
    out.put_u8(b'"');
    put_hex(out, bytes);
    out.put_u8(b'"');
}

/// `,"name":number`.
pub(super) fn integer_field(out: &mut BytesMut, name: &str, number: u64) {
    put_name(out, name);
    out.put_slice(number.to_string().as_bytes());
}

/// `,"name":"text"`, escaped.
pub(super) fn text_field(out: &mut BytesMut, name: &str, text: &str) {
    put_name(out, name);
    reader::write_string(out, text);
}

/// `,"name":`.
pub(super) fn put_name(out: &mut BytesMut, name: &str) {
    out.put_slice(b",\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\":");
}

fn put_hex(out: &mut BytesMut, bytes: &[u8]) {
    let start = out.len();
    out.put_bytes(b'0', bytes.len() * 2);
    // Cannot fail: the space is exactly twice the bytes.
    let _ = const_hex::encode_to_slice(bytes, &mut out[start..]);
}
