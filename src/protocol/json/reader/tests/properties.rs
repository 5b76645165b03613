//! What holds for documents that dice made: they are judged as serde_json judges them, with the stricter rules on top.

use std::{collections::BTreeMap, fmt, iter};

use proptest::{collection::vec, prelude::*, sample::select};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::*;

#[test]
fn every_change_of_one_byte_is_judged_as_serde_json_judges_it() {
    for at in 0..RECORD.len() {
        for byte in 0..=255 {
            let mut bytes = RECORD.as_bytes().to_vec();
            bytes[at] = byte;
            if let Err(difference) = compare(&bytes) {
                panic!("{difference}: {}", bytes.escape_ascii());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn documents_are_judged_as_serde_json_judges_them(text in document()) {
        prop_assert_eq!(compare(text.as_bytes()), Ok(()));
    }

    #[test]
    fn tokens_are_judged_as_serde_json_judges_them(tokens in vec(prop_oneof![token(), leaf()], 0..8)) {
        prop_assert_eq!(compare(tokens.concat().as_bytes()), Ok(()));
        prop_assert_eq!(compare(format!("{{\"a\":{}}}", tokens.concat()).as_bytes()), Ok(()));
    }

    #[test]
    fn bytes_are_judged_as_serde_json_judges_them(
        text in document(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = text.into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(compare(&bytes), Ok(()));
    }

    #[test]
    fn what_is_written_is_read(text in any::<String>(), control in "[\0-\u{7f}]{0,200}") {
        for text in [text, control] {
            let mut document = b"{\"a\":".to_vec();
            write_string(&mut document, &text);
            document.push(b'}');
            prop_assert!(document.iter().all(|&byte| byte >= 0x20));
            let read = Object::parse(&document).and_then(|object| object.required("a")?.string().map(Cow::into_owned));
            prop_assert_eq!(read.ok(), Some(text.clone()));
            prop_assert_eq!(serde_json::from_slice(&document).ok(), Some(BTreeMap::from([("a".to_owned(), text)])));
        }
    }
}

/// Whether the reader and serde_json, with the stricter rules laid on top, agree on `bytes` and what is in them.
fn compare(bytes: &[u8]) -> Result<(), &'static str> {
    match (Object::parse(bytes), serde_json::from_slice::<Strict>(bytes)) {
        (Err(error), _) if error.code() != Some(Code::Malformed) => Err("not the error that it should be"),
        (Ok(object), Ok(strict)) if same_object(&object, &strict.0) => Ok(()),
        (Ok(_), Ok(_)) => Err("values differ"),
        (Err(_), Ok(strict)) if strict.0.is_object() && depth(&strict.0) <= MAX_DEPTH => {
            Err("only the reader refuses")
        }
        // It refuses what overflows an f64, which RFC 8259 section 6 leaves to it.
        (Ok(_), Err(error)) if !error.to_string().contains("out of range") => Err("only serde_json refuses"),
        _ => Ok(()),
    }
}

fn same_object(object: &Object<'_>, other: &serde_json::Value) -> bool {
    other.as_object().is_some_and(|other| {
        object.fields().len() == other.len()
            && object.fields().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
    })
}

fn same(value: Value<'_>, other: &serde_json::Value) -> bool {
    let plain = other.as_u64().filter(|&number| number <= MAX_INTEGER);
    match value {
        Value::String(_) => value.string().ok().as_deref() == other.as_str() && other.is_string(),
        Value::Integer(number) => plain == Some(number),
        Value::Other => other.is_boolean() || (other.is_number() && plain.is_none()),
        Value::Object(_) => value.object().is_ok_and(|object| same_object(&object, other)),
        Value::Array(text) => {
            let mut elements = Vec::new();
            let read = Reader::new(text).array(|element| {
                elements.push(element);
                Ok(())
            });
            other.as_array().is_some_and(|other| {
                read.is_ok()
                    && elements.len() == other.len()
                    && iter::zip(elements, other).all(|(element, other)| same(element, other))
            })
        }
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(array) => 1 + array.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A value that serde_json has read, with no null and no name twice in it.
struct Strict(serde_json::Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = serde_json::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything but null")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(value)) = elements.next_element()? {
            array.push(value);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(object.into())
    }
}

/// A document that is good more often than not.
fn document() -> impl Strategy<Value = String> {
    let value = leaf().prop_recursive(4, 24, 4, |value| {
        prop_oneof![
            vec(value.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
            object(value),
        ]
    });
    let end = prop_oneof![40 => space(), 1 => token()];
    (space(), object(value), end).prop_map(|(start, object, end)| start + &object + &end)
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let name = prop_oneof![
        20 => "\"[a-z]{2,4}\"",
        4 => select(vec!["\"a\"", "\"\\u0061\"", "\"b\"", "\"é\"", "\"\\u00e9\"", "\"\""]).prop_map(str::to_owned),
        2 => string(),
    ];
    let field = (space(), name, space(), space(), value, space())
        .prop_map(|(a, name, b, c, value, d)| format!("{a}{name}{b}:{c}{value}{d}"));
    vec(field, 0..4).prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![20 => Just(""), 4 => select(vec![" ", "\n", "\r\n\t "])].prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => string(),
        8 => "-?(0|[1-9][0-9]{0,20})",
        4 => "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        4 => select(vec!["9007199254740991", "9007199254740992", "-0", "0.0", "true", "false"]).prop_map(str::to_owned),
        1 => token(),
    ]
}

fn string() -> impl Strategy<Value = String> {
    let escapes =
        vec!["\\n", "\\\\", "\\\"", "\\/", "\\u0000", "\\u0061", "\\uD83D\\ude00", "\u{7f}", "é", "😀"];
    let bad = vec![
        "\\x",
        "\\u12",
        "\\ud800",
        "\\udc00",
        "\\ud800\\u0041",
        "\\ud800\\ud800\\udc00",
        "\n",
        "\0",
        "\\",
    ];
    let piece = prop_oneof![
        60 => "[ -!#-\\[\\]-~]{0,40}",
        20 => select(escapes).prop_map(str::to_owned),
        1 => select(bad).prop_map(str::to_owned),
    ];
    vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn token() -> impl Strategy<Value = String> {
    select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "NaN",
        "0",
        "1",
        "-",
        "+",
        ".",
        "e",
        "E",
        "01",
        "1.",
        ".5",
        "+1",
        " ",
        "\n",
        "\u{c}",
        "\u{feff}",
        "\0",
        "{}",
        "[]",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\":1,\"a\":1}",
        "/",
        "'",
    ])
    .prop_map(str::to_owned)
}
