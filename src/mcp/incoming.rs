//! What comes over a connection of messages: which of it is a message of MCP.

use rmcp::model::RequestId;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};

use crate::telemetry;

/// RFC 8259, section 8.1: a parser may ignore it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Debug, PartialEq)]
pub(super) enum Incoming<M> {
    Message(M),
    /// Neither a message nor anything that gets an answer.
    Ignored,
    /// JSON, but no message that is known: the far side is told so, with the id of its request, if that can be read.
    Invalid(Option<RequestId>),
    /// An answer to this request of ours, which cannot be read.
    Unreadable(RequestId),
}

/// What a message that is not understood looks like.
#[derive(Default, Deserialize)]
struct Outline {
    id: Option<Value>,
    method: Option<Value>,
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
        Category::Data | Category::Io => sort(serde_json::from_slice(bytes).unwrap_or_default()),
    }
}

fn sort<M>(Outline { id, method }: Outline) -> Incoming<M> {
    let has_id = id.is_some();
    let id = id.and_then(|id| serde_json::from_value(id).ok());
    match (method, id) {
        (Some(Value::String(method)), _) if !has_id || method.starts_with("notifications/") => {
            Incoming::Ignored
        }
        (None, Some(id)) => Incoming::Unreadable(id),
        (_, id) => Incoming::Invalid(id),
    }
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
        for (text, id) in [
            ("[]", None),
            ("7", None),
            ("{}", None),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, Some(RequestId::Number(1))),
            (r#"{"jsonrpc":"1.0","id":"a","method":7}"#, Some(RequestId::String("a".into()))),
            (r#"{"jsonrpc":"1.0","id":1.5,"method":"ping"}"#, None),
            (r#"{"jsonrpc":"1.0","id":1,"id":1,"method":"ping"}"#, None),
            (r#"{"jsonrpc":"2.0","id":{}}"#, None),
        ] {
            let read = read::<ClientJsonRpcMessage>(text.as_bytes());
            assert!(matches!(&read, Incoming::Invalid(read) if *read == id), "{text} {read:?}");
        }
        for text in [r#"{"jsonrpc":"1.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","id":1,"error":7}"#] {
            let read = read::<ServerJsonRpcMessage>(text.as_bytes());
            assert!(matches!(read, Incoming::Unreadable(RequestId::Number(1))), "{text} {read:?}");
        }
    }
}
