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
    /// Whether all are responses; then the id of one: the first that can tell calls apart, which `null`, in an
    /// error about what could not be read, cannot.
    pub(super) answers: Option<&'a str>,
}

impl<'a> Shape<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        let read = if message.trim_ascii_start().starts_with(b"[") {
            batch(message)
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
    let mut ids = Vec::new();
    members(message, |shape| match shape {
        Shape::Request { id } => ids.push(Id::of(id)),
        Shape::Notification | Shape::Response { .. } => {}
        Shape::Batch(_) | Shape::Invalid { .. } | Shape::Garbled => ids.push(None),
    })
    .ok()?;
    ids.into_iter().collect()
}

/// Looks at each member of a batch. Nothing is kept of any.
pub(super) fn members<'a>(batch: &'a [u8], look: impl FnMut(Shape<'a>)) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(batch);
    deserializer.deserialize_seq(Members(look))?;
    deserializer.end()
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
        // Some write all fields of a response, those too that it does not have.
        match (Head { method: self.method.filter(|method| *method != "null"), ..self }) {
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

/// A batch, member by member.
struct Members<F>(F);

impl<'de, F: FnMut(Shape<'de>)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch of JSON-RPC messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(member) = seq.next_element::<&RawValue>()? {
            let head = serde_json::from_str(member.get());
            (self.0)(head.map_or(Shape::Invalid { id: None }, |head: Head<'_>| head.shape()));
        }
        Ok(())
    }
}

fn batch(message: &[u8]) -> serde_json::Result<Shape<'_>> {
    let (mut batch, mut answers, mut is_usable) = (Batch::default(), None, false);
    let (mut is_empty, mut only_responses) = (true, true);
    members(message, |shape| {
        is_empty = false;
        batch.asks |= shape.wants_answer();
        match shape {
            Shape::Response { id } if !is_usable => {
                answers = Some(id);
                is_usable = Id::of(id).is_some();
            }
            Shape::Response { .. } => {}
            _ => only_responses = false,
        }
    })?;
    batch.answers = answers.filter(|_| only_responses);
    // An empty array is no batch (JSON-RPC section 6).
    Ok(if is_empty { Shape::Invalid { id: None } } else { Shape::Batch(batch) })
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
