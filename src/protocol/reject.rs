//! Errors as messages (PROTOCOL section 9).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    json::{
        hex_field, integer_field,
        reader::{Object, Value},
        text_field,
    },
    keys,
    record::Record,
    transcript::Transcript,
};
use crate::{
    error::{Code, Error, Result},
    identity::{Identity, NodeId, Signature},
    suite::{ed25519::Verifier, hash::sha256},
    trust::SessionId,
};

/// The most bytes of an error that are read.
pub const MAX_ERROR: usize = 16 << 10;

/// The request that an error is about: a stream whose first record could be parsed.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub(super) session: SessionId,
    pub(super) stream: u64,
    /// SHA-256 of nonce and ciphertext of the first record.
    pub(super) hash: [u8; 32],
}

impl Subject {
    /// Of a record that begins a request. It has to be taken before the record is opened.
    pub(super) fn of(record: &Record) -> Option<Self> {
        record.opening.map(|opening| Subject {
            session: opening.session,
            stream: opening.stream,
            hash: sha256(&[&record.nonce.0, record.ciphertext()]),
        })
    }

    fn signed_bytes(&self, code: &str, node_id: NodeId) -> Vec<u8> {
        Transcript::new(keys::REJECT)
            .lp(code.as_bytes())
            .lp(self.session.as_bytes())
            .u64(self.stream)
            .lp(&self.hash)
            .lp(node_id.as_bytes())
            .bytes()
    }
}

/// The message for `error`: signed where there is a subject.
pub(super) fn write(error: &Error, subject: Option<(&Subject, &Identity)>) -> Bytes {
    let code = error.code().unwrap_or(Code::Malformed).as_str();
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(b"{\"type\":\"error\"");
    text_field(&mut out, "code", code);
    text_field(&mut out, "message", &error.to_string());
    if let Some((subject, identity)) = subject {
        let node_id = identity.node_id();
        hex_field(&mut out, "session", subject.session.as_bytes());
        integer_field(&mut out, "stream", subject.stream);
        hex_field(&mut out, "node_id", node_id.as_bytes());
        hex_field(&mut out, "signature", &identity.sign(&subject.signed_bytes(code, node_id)).0);
    }
    out.put_u8(b'}');
    out.freeze()
}

/// An error that came from the far side, or from anybody in between.
pub(crate) struct Refusal {
    pub(crate) code: Code,
    signature: Option<(SessionId, u64, NodeId, Signature)>,
}

impl Refusal {
    /// Errors: `malformed`; `too_large`.
    pub(crate) fn parse(message: &[u8]) -> Result<Self> {
        if message.len() > MAX_ERROR {
            return Err(Error::new(Code::TooLarge, "an error message above 16 KiB"));
        }
        let object = Object::parse(message)?;
        if object.required("type")?.string()? != "error" {
            return Err(Error::malformed("not an error message"));
        }
        let code = object.required("code")?.string()?.parse()?;
        object.optional("message").map(Value::string).transpose()?;
        let fields = ["session", "stream", "node_id", "signature"].map(|name| object.optional(name));
        let signature = match fields {
            [Some(session), Some(stream), Some(node_id), Some(signature)] => Some((
                SessionId::from_bytes(session.hex()?),
                stream.integer()?,
                NodeId::from_bytes(node_id.hex()?),
                Signature(signature.hex()?),
            )),
            _ => None,
        };
        Ok(Refusal { code, signature })
    }

    /// Whether `node` said this about `subject`.
    pub(crate) fn is_signed_by(&self, verifier: &Verifier, node: NodeId, subject: &Subject) -> bool {
        let Some((session, stream, node_id, signature)) = &self.signature else {
            return false;
        };
        (*session, *stream, *node_id) == (subject.session, subject.stream, node)
            && verifier.verify(&subject.signed_bytes(self.code.as_str(), node), &signature.0).is_ok()
    }
}

/// Reads an error that nothing can have signed, such as that in place of a reply.
#[must_use]
pub fn refusal(message: &[u8]) -> Error {
    Refusal::parse(message)
        .map_or_else(|error| error, |refusal| Error::Refused { code: refusal.code, signed: false })
}
