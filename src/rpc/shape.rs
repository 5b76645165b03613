//! What kind of message some bytes are, for which `id` and `method` are read, and nothing else.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::id::Id;

/// What kind of message some bytes are. Ids are the JSON text of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    Request {
        id: &'a str,
    },
    Notification,
    Response {
        id: &'a str,
    },
    /// An array with at least one member.
    Batch(Batch<'a>),
    /// JSON, and no JSON-RPC. The id, where there is one.
    Invalid {
        id: Option<&'a str>,
    },
    /// No JSON.
    Garbled,
}

/// Of the members of a batch, which are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch<'a> {
    /// Whether any is a request, or is invalid, which JSON-RPC wants to be answered too.
    pub(super) asks: bool,
    /// Whether all are responses; then the id of the first one.
    pub(super) answers: Option<&'a str>,
}

impl<'a> Shape<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        let batch = message.trim_ascii_start().starts_with(b"[");
        let read = if batch {
            serde_json::from_slice(message).map(|Members(shape)| shape)
        } else {
            serde_json::from_slice(message).map(|head: Head<'_>| head.shape())
        };
        read.unwrap_or_else(
            |error| if error.is_data() { Shape::Invalid { id: None } } else { Shape::Garbled },
        )
    }

    /// Whether its sender may expect an answer. What cannot be understood is answered by an error.
    pub(super) fn wants_answer(&self) -> bool {
        match self {
            Shape::Request { .. } | Shape::Invalid { .. } | Shape::Garbled => true,
            Shape::Notification | Shape::Response { .. } => false,
            Shape::Batch(batch) => batch.asks,
        }
    }
}

/// The ids of the requests in a batch. `None` if one of its members is no JSON-RPC message.
pub(super) fn ids_of_batch(message: &[u8]) -> Option<Vec<Id>> {
    let members: Vec<&RawValue> = serde_json::from_slice(message).ok()?;
    let mut ids = Vec::new();
    for member in members {
        match Shape::of(member.get().as_bytes()) {
            Shape::Request { id } => ids.push(Id::of(id)?),
            Shape::Notification | Shape::Response { .. } => {}
            Shape::Batch(_) | Shape::Invalid { .. } | Shape::Garbled => return None,
        }
    }
    Some(ids)
}

// ---- reading ----

/// The two fields that are read. Each is the text of its value.
#[derive(Default)]
struct Head<'a> {
    id: Option<&'a str>,
    method: Option<&'a str>,
}

impl<'a> Head<'a> {
    fn shape(self) -> Shape<'a> {
        let id_is_well = |id: &str| !id.starts_with(['{', '[', 't', 'f']);
        match self {
            Head { method: Some(method), .. } if !method.starts_with('"') => {
                Shape::Invalid { id: self.id.filter(|id| id_is_well(id)) }
            }
            Head { id: Some(id), .. } if !id_is_well(id) => Shape::Invalid { id: None },
            Head { id: Some(id), method: Some(_) } => Shape::Request { id },
            Head { id: Some(id), method: None } => Shape::Response { id },
            Head { id: None, method: Some(_) } => Shape::Notification,
            Head { id: None, method: None } => Shape::Invalid { id: None },
        }
    }
}

impl<'de> Deserialize<'de> for Head<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Head<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON-RPC message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head<'de>, A::Error> {
                let mut head = Head::default();
                while let Some(Text(name)) = map.next_key()? {
                    let field = match &*name {
                        "id" => &mut head.id,
                        "method" => &mut head.method,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    // Two parsers could read such a message differently.
                    if field.replace(map.next_value::<&RawValue>()?.get()).is_some() {
                        return Err(serde::de::Error::custom("a field twice"));
                    }
                }
                Ok(head)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// A batch, read member by member: nothing is kept of any.
struct Members<'a>(Shape<'a>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;

        impl<'de> Visitor<'de> for Array {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a batch of JSON-RPC messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Members<'de>, A::Error> {
                let (mut batch, mut first, mut only_responses) = (Batch::default(), None, true);
                while let Some(member) = seq.next_element::<&RawValue>()? {
                    let shape = match serde_json::from_str(member.get()) {
                        Ok(head @ Head { .. }) => head.shape(),
                        Err(_) => Shape::Invalid { id: None },
                    };
                    batch.asks |= shape.wants_answer();
                    match shape {
                        Shape::Response { id } => first = first.or(Some(id)),
                        _ => only_responses = false,
                    }
                }
                batch.answers = first.filter(|_| only_responses);
                // An empty array is no batch (JSON-RPC section 6).
                let empty = only_responses && first.is_none();
                Ok(Members(if empty { Shape::Invalid { id: None } } else { Shape::Batch(batch) }))
            }
        }

        deserializer.deserialize_seq(Array)
    }
}

/// A string, borrowed where it has no escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Chars;

        impl<'de> Visitor<'de> for Chars {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(text.to_owned().into()))
            }
        }

        deserializer.deserialize_str(Chars)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rpc::frame::Kind;

    /// Pieces that make something near to JSON-RPC.
    const PIECES: [&str; 20] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"id\"",
        "\"method\"",
        "\"m\"",
        "1",
        "-0.0",
        "1e999",
        "null",
        "true",
        " ",
        "\"\\ud800\"",
        "\"type\"",
        "\"error\"",
        "{\"id\":1,\"method\":\"m\"}",
        "{\"id\":\"a\",\"result\":[]}",
    ];

    fn look(message: &[u8]) {
        let _ = Kind::of(message);
        let is_json = serde_json::from_slice::<IgnoredAny>(message).is_ok();
        let shape = Shape::of(message);
        // A field that stands twice is found before the rest is read.
        assert!(is_json || matches!(shape, Shape::Garbled | Shape::Invalid { .. }), "{shape:?}");
        let is_decoded = message.starts_with(b"{") && !message.windows(5).any(|part| part == b"ud800");
        assert!(!(is_json && is_decoded) || shape != Shape::Garbled, "{shape:?}");
        if let Shape::Request { id } | Shape::Response { id } = shape {
            let _ = Id::of(id);
        }
        if let Some(ids) = ids_of_batch(message) {
            assert!(ids.is_empty() || shape.wants_answer());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_shape(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            look(&message);
        }

        #[test]
        fn near_json_has_a_shape(pieces in proptest::collection::vec(0..PIECES.len(), 0..20)) {
            look(pieces.into_iter().map(|i| PIECES[i]).collect::<String>().as_bytes());
        }
    }
}
