//! Errors as messages (PROTOCOL section 9).

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    json::{
        hex_field, integer_field,
        reader::{Object, Value},
        text_field,
    },
    keys,
    record::{Nonce, Opening, Record},
    stream::Stream,
    transcript::Transcript,
};
use crate::{
    config::Config,
    error::{Code, Error, Result},
    identity::{NodeId, Signature},
    suite::{ed25519::Verifier, hash::sha256},
    telemetry::Metric,
    trust::SessionId,
};

/// The most bytes of an error that are read.
pub const MAX_ERROR: usize = 16 << 10;

/// The request that an error is about: a stream whose first record could be parsed.
///
/// Small, since every request that goes well has one, too; what an error needs is only made for an error.
pub struct Subject(Box<About>);

struct About {
    session: SessionId,
    stream: u64,
    nonce: Nonce,
    first: First,
}

/// The first record of a request, whose nonce and ciphertext are hashed for an error about it.
enum First {
    Hash([u8; 32]),
    Ciphertext(Bytes),
    /// One that has been opened: what was under its seal. Sealed again it is what it was.
    Opened(Stream, Bytes),
}

impl Subject {
    /// Of a record that begins a request, and has not been opened.
    #[must_use]
    pub fn of(record: Record) -> Option<Self> {
        let Opening { session, stream, .. } = record.opening?;
        let nonce = record.nonce;
        Some(Subject::new(session, stream, nonce, First::Ciphertext(record.into_ciphertext())))
    }

    /// Of a request that was sent. `hash` is of the nonce and ciphertext of its first record.
    pub(super) fn sent(session: SessionId, stream: u64, nonce: Nonce, hash: [u8; 32]) -> Self {
        Subject::new(session, stream, nonce, First::Hash(hash))
    }

    /// Of a record that has been opened. `text` is what was under its seal.
    pub(super) fn opened(stream: Stream, nonce: Nonce, text: Bytes) -> Self {
        Subject::new(stream.session.id(), stream.id(), nonce, First::Opened(stream, text))
    }

    fn new(session: SessionId, stream: u64, nonce: Nonce, first: First) -> Self {
        Subject(Box::new(About { session, stream, nonce, first }))
    }

    /// SHA-256 of nonce and ciphertext of the first record.
    fn hash(&self) -> Result<[u8; 32]> {
        let nonce = self.0.nonce;
        match &self.0.first {
            First::Hash(hash) => Ok(*hash),
            First::Ciphertext(ciphertext) => Ok(sha256(&[&nonce.0, ciphertext])),
            First::Opened(stream, text) => {
                let mut text = BytesMut::from(&text[..]);
                let tag = stream.seal_again(nonce, &mut text)?;
                Ok(sha256(&[&nonce.0, &text, &tag]))
            }
        }
    }

    fn signed_bytes(&self, code: &str, node_id: NodeId) -> Result<Vec<u8>> {
        Ok(Transcript::new(keys::REJECT)
            .lp(code.as_bytes())
            .lp(self.0.session.as_bytes())
            .u64(self.0.stream)
            .lp(&self.hash()?)
            .lp(node_id.as_bytes())
            .bytes())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("session", &self.0.session)
            .field("stream", &self.0.stream)
            .finish_non_exhaustive()
    }
}

/// The message for `error`: signed where there is a subject.
pub(super) fn write(error: &Error, subject: Option<(&Subject, &Config)>) -> Bytes {
    let code = error.code().unwrap_or(Code::Malformed).as_str();
    let mut out = BytesMut::with_capacity(512);
    out.put_slice(b"{\"type\":\"error\"");
    text_field(&mut out, "code", code);
    text_field(&mut out, "message", &error.to_string());
    if let Some((subject, config)) = subject
        && let node_id = config.node_id()
        && let Ok(signature) = subject.signed_bytes(code, node_id).and_then(|bytes| config.sign(&bytes))
    {
        config.telemetry().count(Metric::ErrorsSigned);
        hex_field(&mut out, "session", subject.0.session.as_bytes());
        integer_field(&mut out, "stream", subject.0.stream);
        hex_field(&mut out, "node_id", node_id.as_bytes());
        hex_field(&mut out, "signature", &signature.0);
    }
    out.put_u8(b'}');
    out.freeze()
}

/// The message for `error` that ends a duplex connection, where errors are not signed.
#[must_use]
pub fn error_message(error: &Error) -> Bytes {
    write(error, None)
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
        (*session, *stream, *node_id) == (subject.0.session, subject.0.stream, node)
            && subject
                .signed_bytes(self.code.as_str(), node)
                .is_ok_and(|signed_bytes| verifier.verify(&signed_bytes, &signature.0).is_ok())
    }
}

/// Reads an error that nothing can have signed, such as that in place of a reply.
#[must_use]
pub fn refusal(message: &[u8]) -> Error {
    Refusal::parse(message)
        .map_or_else(|error| error, |refusal| Error::Refused { code: refusal.code, signed: false })
}
