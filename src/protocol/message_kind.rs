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
    /// Whether it is a message of JSON-RPC, or a batch of them, that is not sealed. That is for choosing what to do
    /// with it: of JSON that this protocol would not take, with a null for instance, it asks no more than the name.
    #[must_use]
    pub fn is_unsealed(message: &[u8]) -> bool {
        const NAME: &[u8] = b"\"jsonrpc\"";
        let kind = Self::of(message);
        let is_json = matches!(message.trim_ascii_start().first(), Some(b'{' | b'['));
        kind == Some(MessageKind::JsonRpc)
            || kind.is_none() && is_json && message.windows(NAME.len()).any(|part| part == NAME)
    }

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
