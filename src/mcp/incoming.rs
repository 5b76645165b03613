//! What comes over a connection of messages: which of it is a message of MCP.

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::error::Category;

use crate::telemetry;

/// RFC 8259, section 8.1: a parser may ignore it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Debug, PartialEq)]
pub(super) enum Incoming<M> {
    Message(M),
    /// Neither a message nor anything that gets an answer.
    Ignored,
    /// JSON, but no message that is known: the far side is told so.
    Invalid,
}

/// What a message that is not understood looks like.
#[derive(Deserialize)]
struct Outline {
    id: Option<IgnoredAny>,
    method: Option<String>,
}

pub(super) fn read<M: DeserializeOwned>(bytes: &[u8]) -> Incoming<M> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let error = match serde_json::from_slice(bytes) {
        Ok(message) => return Incoming::Message(message),
        Err(error) => error,
    };
    // Not the error's text, which may hold what was said.
    let (line, column) = (error.line(), error.column());
    tracing::debug!(target: telemetry::TARGET, line, column, "a message that MCP does not know");
    match error.classify() {
        Category::Syntax | Category::Eof => Incoming::Ignored,
        Category::Data | Category::Io if is_notification(bytes) => Incoming::Ignored,
        Category::Data | Category::Io => Incoming::Invalid,
    }
}

fn is_notification(json: &[u8]) -> bool {
    matches!(
        serde_json::from_slice(json),
        Ok(Outline { id, method: Some(method) }) if id.is_none() || method.starts_with("notifications/")
    )
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};

    use super::*;

    const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

    #[test]
    fn messages_are_read_and_others_told_apart() {
        assert!(matches!(read::<ClientJsonRpcMessage>(PING.as_bytes()), Incoming::Message(_)));
        assert!(matches!(read::<ServerJsonRpcMessage>(PING.as_bytes()), Incoming::Message(_)));
        let marked = format!("\u{feff}{PING}\r\n");
        assert!(matches!(read::<ClientJsonRpcMessage>(marked.as_bytes()), Incoming::Message(_)));
        let ignored: [&[u8]; 7] = [
            b"",
            b"{",
            b"hello",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}",
            br#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#,
            br#"{"method":"notifications/strange"}"#,
            br#"{"jsonrpc":"1.0","id":1,"method":"notifications/initialized"}"#,
        ];
        for bytes in ignored {
            assert!(matches!(read::<ClientJsonRpcMessage>(bytes), Incoming::Ignored), "{bytes:?}");
        }
        for text in
            ["[]", "7", "{}", r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, r#"{"jsonrpc":"2.0","id":{}}"#]
        {
            assert!(matches!(read::<ClientJsonRpcMessage>(text.as_bytes()), Incoming::Invalid), "{text}");
        }
    }
}
