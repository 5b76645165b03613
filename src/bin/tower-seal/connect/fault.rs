//! Answers that the tool gives by itself, where there is none of the far side.

use bytes::Bytes;
use serde_json::value::RawValue;
use tower_seal::{Error, error::Code};

use super::message::{Id, Unreadable};

/// Why there is no answer, and what to do: `message` is for people.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    name: String,
    message: String,
}

impl Fault {
    pub(super) fn new(name: &str, message: impl Into<String>) -> Self {
        Fault { name: name.to_owned(), message: message.into() }
    }

    pub(super) fn busy() -> Self {
        Fault::new(
            "busy",
            "Too many requests are under way: this one was not sent. Try again when others have been answered.",
        )
    }

    pub(super) fn stopped() -> Self {
        Fault::new(
            "stopped",
            "`tower-seal connect` ends before the answer came. Look whether it was done before you repeat it.",
        )
    }

    /// Outside of the range that JSON-RPC keeps for itself: the HTTP status of the code of this name (PROTOCOL
    /// section 9), and 502 for all others, as `proxy` has it.
    fn number(&self) -> u16 {
        self.name.parse().map_or(502, |code: Code| code.http_status())
    }

    /// The error that answers the request `id`.
    pub(super) fn answer(&self, id: &Id) -> Bytes {
        let error = serde_json::json!({
            "code": self.number(), "message": self.message, "data": { "code": self.name },
        });
        format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.text()).into()
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// The answer to a line that cannot be read, to `id` where that can, with JSON-RPC's own codes (section 5.1).
pub(super) fn unreadable(why: Unreadable, id: Option<&Id>) -> Bytes {
    let id = id.map_or("null", Id::text);
    let (code, text) = match why {
        Unreadable::Garbled => (-32700, "Parse error"),
        Unreadable::Invalid => (-32600, "Invalid Request"),
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}"}}}}"#).into()
}

/// An error of the far side as the answer to `id`, where it names another one, or none.
pub(super) fn readdressed(error: &RawValue, id: &Id) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, id.text(), error.get()).into()
}

/// An error, and what lies below it.
pub(super) fn reasons(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
