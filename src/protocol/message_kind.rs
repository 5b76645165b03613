//! What a JSON message is, for transports that do not say so themselves.

use super::json::reader::Object;

/// What a JSON message claims to be, by its `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageKind {
    /// A hello or a reply.
    Handshake,
    /// A record.
    Record,
    /// An error.
    Error,
    /// A JSON-RPC message that is not sealed.
    JsonRpc,
}

impl MessageKind {
    /// Reads the type. `None` for what is no JSON object of this protocol, nor one of JSON-RPC.
    #[must_use]
    pub fn of(message: &[u8]) -> Option<Self> {
        let object = Object::parse(message).ok()?;
        let Some(kind) = object.optional("type") else {
            return object.optional("jsonrpc").map(|_| MessageKind::JsonRpc);
        };
        match &*kind.string().ok()? {
            "key_exchange" => Some(MessageKind::Handshake),
            "encrypted" => Some(MessageKind::Record),
            "error" => Some(MessageKind::Error),
            _ => None,
        }
    }
}
