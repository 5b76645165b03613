//! What a line is, for which a few fields are read; the bytes stay as they are.

use std::hash::{Hash, Hasher};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use tower_seal::mcp::Repeatable;

/// Characters that are kept of a notice.
const NOTICE: usize = 500;

/// A message as it came, in one line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) bytes: Bytes,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Request {
        id: Id,
        method: String,
    },
    Notification {
        method: String,
    },
    /// Errors may name nobody.
    Response {
        id: Option<Id>,
    },
    /// As MCP had them until 2025-03-26.
    Batch {
        asks: Vec<Id>,
        answers: Vec<Id>,
    },
}

/// Why some bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// No JSON.
    Garbled,
    /// JSON, and no JSON-RPC.
    Invalid,
}

impl Line {
    pub(super) fn read(bytes: Bytes) -> Result<Self, Unreadable> {
        // What is in strings that are skipped, nobody else looks at.
        str::from_utf8(&bytes).map_err(|_| Unreadable::Garbled)?;
        let kind = if bytes.trim_ascii_start().starts_with(b"[") {
            let members: Vec<&RawValue> = serde_json::from_slice(&bytes).map_err(unreadable)?;
            if members.is_empty() {
                return Err(Unreadable::Invalid);
            }
            let (mut asks, mut answers) = (Vec::new(), Vec::new());
            for member in members {
                match Kind::of(member.get().as_bytes())? {
                    Kind::Request { id, .. } => asks.push(id),
                    Kind::Response { id } => answers.extend(id),
                    Kind::Notification { .. } => {}
                    Kind::Batch { .. } => return Err(Unreadable::Invalid),
                }
            }
            Kind::Batch { asks, answers }
        } else {
            Kind::of(&bytes)?
        };
        Ok(Line { bytes: in_one_line(bytes), kind })
    }

    pub(super) fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Response { .. } | Kind::Batch { .. } => None,
        }
    }

    pub(super) fn is_notification(&self, name: &str) -> bool {
        matches!(&self.kind, Kind::Notification { method } if method == name)
    }

    pub(super) fn is_initialize(&self) -> bool {
        matches!(&self.kind, Kind::Request { method, .. } if method == "initialize")
    }

    /// Whether it may be sent once more, whatever has become of it.
    pub(super) fn is_harmless(&self) -> bool {
        // Its method decides, as no tool is known to be harmless.
        let body = |method: &str| serde_json::json!({ "method": method }).to_string();
        self.method().is_some_and(|method| Repeatable::new().is_repeatable(body(method).as_bytes()))
    }

    /// The requests that it holds, each of which is to be answered.
    pub(super) fn asks(&self) -> &[Id] {
        match &self.kind {
            Kind::Request { id, .. } => std::slice::from_ref(id),
            Kind::Batch { asks, .. } => asks,
            Kind::Notification { .. } | Kind::Response { .. } => &[],
        }
    }

    /// The requests that it answers.
    pub(super) fn answers(&self) -> &[Id] {
        match &self.kind {
            Kind::Response { id } => id.as_slice(),
            Kind::Batch { answers, .. } => answers,
            Kind::Request { .. } | Kind::Notification { .. } => &[],
        }
    }

    /// The request that a `notifications/cancelled` is about.
    pub(super) fn cancels(&self) -> Option<Id> {
        #[derive(Deserialize)]
        struct Cancelled<'a> {
            #[serde(borrow)]
            params: Params<'a>,
        }
        #[derive(Deserialize)]
        struct Params<'a> {
            #[serde(borrow, rename = "requestId")]
            request_id: &'a RawValue,
        }
        if !self.is_notification("notifications/cancelled") {
            return None;
        }
        let cancelled: Cancelled<'_> = serde_json::from_slice(&self.bytes).ok()?;
        Id::of(cancelled.params.request_id.get())
    }

    /// What `tower-seal serve` says itself, as a rule why the connection is about to end.
    pub(super) fn notice(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Notice {
            params: Params,
        }
        #[derive(Deserialize)]
        struct Params {
            logger: String,
            data: String,
        }
        if !self.is_notification("notifications/message") {
            return None;
        }
        let Notice { params } = serde_json::from_slice(&self.bytes).ok()?;
        // It goes into errors and the log, and is anybody's who answers there.
        let words = || params.data.chars().filter(|c| !c.is_control()).take(NOTICE).collect();
        (params.logger == "tower-seal").then(words)
    }
}

impl Kind {
    pub(super) fn of(object: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            method: Option<String>,
            #[serde(default, deserialize_with = "is_there")]
            result: bool,
            #[serde(default, deserialize_with = "is_there")]
            error: bool,
        }
        // Derived code would take an array of the fields.
        let object = object.trim_ascii_start();
        let head: Head<'_> = serde_json::from_slice(object).map_err(unreadable)?;
        if !object.starts_with(b"{") {
            return Err(Unreadable::Invalid);
        }
        let id = head.id.map(|id| Id::of(id.get()).ok_or(Unreadable::Invalid)).transpose()?;
        match (head.method, id) {
            (Some(method), Some(id)) => Ok(Kind::Request { id, method }),
            (Some(method), None) => Ok(Kind::Notification { method }),
            (None, id) if head.result || head.error => Ok(Kind::Response { id }),
            (None, _) => Err(Unreadable::Invalid),
        }
    }
}

/// Also where it is null.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

fn unreadable(error: serde_json::Error) -> Unreadable {
    if error.is_data() { Unreadable::Invalid } else { Unreadable::Garbled }
}

/// Between the tokens of JSON the end of a line is as good as a space; within strings there is none.
fn in_one_line(bytes: Bytes) -> Bytes {
    let bytes = bytes.slice(..bytes.trim_ascii_end().len());
    if !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return bytes;
    }
    let mut bytes = BytesMut::from(&bytes[..]);
    for byte in bytes.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    bytes.freeze()
}

/// An id, equal to those of the same value: `1` and `1.0` are one, `1` and `"1"` are two.
#[derive(Clone, Debug)]
pub(super) struct Id {
    value: Value,
    /// As its request has it.
    text: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Value {
    Integer(i64),
    /// One of more digits.
    Long(Box<str>),
    Float(u64),
    Text(Box<str>),
}

impl Id {
    /// `None` for what cannot tell requests apart.
    pub(super) fn of(json: &str) -> Option<Self> {
        let value = if json.starts_with('"') {
            Value::Text(serde_json::from_str(json).ok()?)
        } else if let Ok(integer) = json.parse() {
            Value::Integer(integer)
        } else if !json.is_empty() && json.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
            Value::Long(json.into())
        } else if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            let float: f64 = json.parse().ok()?;
            // Within these bounds a number without a fraction is exact.
            if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                Value::Integer(float as i64)
            } else {
                Value::Float(float.to_bits())
            }
        } else {
            return None;
        };
        Some(Id { value, text: json.into() })
    }

    /// Its JSON.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Line, Unreadable> {
        Line::read(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn kinds() {
        let line = read(r#"{"jsonrpc":"2.0","id":"a\u0062","method":"tools\/call"}"#).unwrap();
        assert_eq!((line.method(), line.asks()[0].text()), (Some("tools/call"), r#""a\u0062""#));
        assert_eq!(line.asks()[0], Id::of("\"ab\"").unwrap());
        assert!(matches!(read(r#"{"method":"m","id":null}"#).unwrap().kind, Kind::Notification { .. }));
        assert_eq!(read(r#"{"id":1,"result":null}"#).unwrap().answers(), [Id::of("1.0").unwrap()]);
        assert!(read(r#"{"id":null,"error":{}}"#).unwrap().answers().is_empty());
        let batch = read(r#"[{"id":1,"method":"m"},{"id":"1","result":{}},{"method":"n"}]"#).unwrap();
        assert_eq!(
            (batch.asks(), batch.answers()),
            (&[Id::of("1").unwrap()][..], &[Id::of("\"1\"").unwrap()][..])
        );
    }

    #[test]
    fn no_messages() {
        for (text, why) in [
            ("", Unreadable::Garbled),
            ("{", Unreadable::Garbled),
            ("{}{}", Unreadable::Garbled),
            ("7", Unreadable::Invalid),
            ("{}", Unreadable::Invalid),
            ("[]", Unreadable::Invalid),
            ("[[]]", Unreadable::Invalid),
            (r#"["m"]"#, Unreadable::Invalid),
            (r#"{"id":{},"method":"m"}"#, Unreadable::Invalid),
            (r#"{"id":1,"id":2,"method":"m"}"#, Unreadable::Invalid),
            (r#"{"method":7}"#, Unreadable::Invalid),
            (r#"{"id":1}"#, Unreadable::Invalid),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
        for text in [&b"{\"method\":\"\xff\"}"[..], b"{\"method\":\"m\",\"params\":{\"a\":\"\xff\"}}"] {
            assert!(Line::read(Bytes::from_static(text)).is_err());
        }
    }

    #[test]
    fn ids_of_any_length_are_told_apart() {
        let id = |json: &str| Id::of(json).unwrap();
        assert_ne!(id("18446744073709551615"), id("18446744073709551614"));
        assert_eq!(id("18446744073709551615"), id("18446744073709551615"));
        assert_ne!(id("-9223372036854775809"), id("-9223372036854775808"));
    }

    #[test]
    fn every_message_is_one_line() {
        let line = read("{\n  \"id\": 1,\r\n  \"result\": {\"text\": \"a\\nb\"}\n}\r\n").unwrap();
        assert_eq!(line.bytes, "{   \"id\": 1,    \"result\": {\"text\": \"a\\nb\"} }");
    }

    #[test]
    fn who_is_cancelled() {
        let line = r#"{"method":"notifications/cancelled","params":{"reason":"","requestId":7}}"#;
        assert_eq!(read(line).unwrap().cancels(), Id::of("7"));
        assert_eq!(read(r#"{"method":"notifications/cancelled"}"#).unwrap().cancels(), None);
        assert_eq!(read(r#"{"method":"x","params":{"requestId":7}}"#).unwrap().cancels(), None);
    }
}
