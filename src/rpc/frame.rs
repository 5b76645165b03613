//! Frames of the frame binding (PROTOCOL section 7): what each is, by its first byte and its `type`.

use std::{borrow::Cow, fmt};

use bytes::{Bytes, BytesMut};
use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::shape::Text;
use crate::{
    config::{Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    protocol::Record,
};

/// What a frame says that it is. Whether it is so comes out when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A hello or a reply.
    Handshake,
    Record(Encoding),
    Error,
    /// JSON that says nothing of the kind: perhaps a message in plaintext.
    Unsealed,
    /// Neither JSON nor binary.
    Unknown,
}

impl Kind {
    pub(super) fn of(frame: &[u8]) -> Self {
        match frame.first() {
            Some(0x01) => Kind::Record(Encoding::Binary),
            Some(b'{') => match type_of(frame).as_deref() {
                Some("key_exchange") => Kind::Handshake,
                Some("encrypted") => Kind::Record(Encoding::Json),
                Some("error") => Kind::Error,
                _ => Kind::Unsealed,
            },
            // A batch, or JSON with space before it.
            Some(b'[' | b' ' | b'\t' | b'\r' | b'\n') => Kind::Unsealed,
            _ => Kind::Unknown,
        }
    }
}

/// Reads a record of at most `limit` bytes of plaintext, or of the 1 MiB that every receiver takes.
///
/// Errors: `malformed`; `too_large`.
pub(super) fn record(frame: Bytes, encoding: Encoding, limit: usize) -> Result<Record> {
    let limit = limit.max(PORTABLE_RECORD);
    if frame.len() > Record::longest(encoding, limit) {
        return Err(Error::new(Code::TooLarge, "a frame above the configured limit"));
    }
    if encoding == Encoding::Json {
        return Record::parse_json(&frame, limit);
    }
    // A copy only where the transport keeps the frame too.
    let frame = frame.try_into_mut().unwrap_or_else(|frame| BytesMut::from(&frame[..]));
    Record::parse(frame, encoding, limit)
}

/// The `type` of a JSON object, read up to it and no further: whoever reads the rest looks at all of it, and
/// refuses one that has two.
fn type_of(frame: &[u8]) -> Option<Cow<'_, str>> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(frame);
    // An error is not of interest: it comes also of stopping early.
    let _ = deserializer.deserialize_map(Type(&mut found));
    found
}

struct Type<'a, 'de>(&'a mut Option<Cow<'de, str>>);

impl<'de> Visitor<'de> for Type<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a frame")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Text<'_>>()? {
            if name.0 == "type" {
                *self.0 = Some(map.next_value::<Text<'_>>()?.0);
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
