//! Answers that this room gives by itself.

use bytes::Bytes;

/// An answer that says why there is none: `id` is JSON text.
pub(super) fn error_answer(id: Option<&str>, fault: Fault) -> Bytes {
    let id = id.unwrap_or("null");
    let (code, text) = fault.describe();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}"}}}}"#).into()
}

/// What this room answers by itself, in the place of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No JSON.
    Parse,
    /// No JSON-RPC.
    InvalidRequest,
    /// There is no service.
    MethodNotFound,
    /// The service failed. Why is its own affair.
    Internal,
    /// The answer does not fit into a record.
    TooLarge,
    /// Too many requests wait already.
    Busy,
}

impl Fault {
    /// The first four are JSON-RPC's own (section 5.1). The others are this crate's, outside of the range that
    /// JSON-RPC keeps for itself: the HTTP statuses of the codes of the same names (PROTOCOL section 9).
    fn describe(self) -> (i32, &'static str) {
        match self {
            Fault::Parse => (-32700, "Parse error"),
            Fault::InvalidRequest => (-32600, "Invalid Request"),
            Fault::MethodNotFound => (-32601, "Method not found"),
            Fault::Internal => (-32603, "Internal error"),
            Fault::TooLarge => (413, "too_large: the answer is above 1 MiB"),
            Fault::Busy => (503, "busy: too many requests wait already"),
        }
    }
}
