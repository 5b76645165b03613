//! Messages and lines: the same, but for what a line cannot hold.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, de::IgnoredAny};
use tower_seal::error::Code;

use crate::long_line::LongLine;

/// What of a JSON-RPC message has to be there.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "jsonrpc")]
    _version: IgnoredAny,
}

/// Whether a line is a JSON-RPC message, or a batch of them. Servers print banners and logs to stdout too, also
/// such as begin with a bracket.
pub(super) fn is_message(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    match text.trim_start().bytes().next() {
        Some(b'{') => serde_json::from_str::<Message>(text).is_ok(),
        Some(b'[') => serde_json::from_str::<Vec<Message>>(text).is_ok_and(|batch| !batch.is_empty()),
        _ => false,
    }
}

/// A message as a line. In JSON a line break can only be white space between values, so a space says the same.
pub(super) fn into_line(message: Bytes) -> BytesMut {
    let mut line = BytesMut::from(message);
    for byte in line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    line.extend_from_slice(b"\n");
    line
}

/// A message of ours to the client: a notification, which no client has to understand, and every one may.
pub(super) fn notice(text: &str) -> Bytes {
    let notice = serde_json::json!({
        "jsonrpc": "2.0", "method": "notifications/message",
        "params": { "level": "error", "logger": "tower-seal", "data": text },
    });
    notice.to_string().into()
}

/// What its client gets in place of an answer that no record can carry; `None` where a line is no answer.
pub(super) fn too_long(line: &LongLine) -> Option<Bytes> {
    let id = line.member("id").filter(|id| id.starts_with('"') || id.parse::<f64>().is_ok())?;
    // A request of the server may have its method in the middle, out of sight.
    if line.member("method").is_some() || !["result", "error"].iter().any(|name| line.has(name)) {
        return None;
    }
    let code = Code::TooLarge;
    let error = serde_json::json!({
        "code": code.http_status(),
        "message": format!("The answer has {} bytes, and a message at most 1 MiB: ask for less at once.", line.length()),
        "data": { "code": code.as_str() },
    });
    Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_what_else_is_printed() {
        for message in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#" {"id":1, "result":{"a":[{}]}, "jsonrpc":"2.0"} "#,
            r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b"}]"#,
        ] {
            assert!(is_message(message.as_bytes()), "{message}");
        }
        for other in [
            "",
            "Server on stdio",
            "[INFO] up",
            "[]",
            "[1]",
            "{}",
            "{oops",
            r#"{"level":"info"}"#,
            "\"jsonrpc\"",
            "2.0",
            r#"{"jsonrpc":"2.0"} and more"#,
        ] {
            assert!(!is_message(other.as_bytes()), "{other}");
        }
        assert!(!is_message(b"{\"jsonrpc\":\"\xff\"}"));
        let deep =
            format!("{{\"jsonrpc\":\"2.0\",\"params\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(is_message(deep.as_bytes()), "nothing a server says can overflow the stack");
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(into_line("{\r\n \"a\":\n1}\n".into()), "{   \"a\": 1} \n");
    }
}
