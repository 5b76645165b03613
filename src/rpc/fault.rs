//! Answers that this room gives by itself.

use bytes::Bytes;

use super::shape::{Shape, members};
use crate::config::PORTABLE_RECORD;

/// An answer that says why there is no other: `id` is JSON text.
pub(super) fn error_answer(id: Option<&str>, fault: Fault) -> Bytes {
    error_text(id, fault).into()
}

/// The same to a batch: an array of an error for each request, and for each member that is no message (JSON-RPC
/// section 6). As many as fit into a record, since what waits for the batch knows its answer by any one of them.
/// `None` where there is nothing to answer.
pub(super) fn error_answers(batch: &[u8], fault: Fault) -> Option<Bytes> {
    let mut answers = String::from("[");
    members(batch, |shape| {
        let answer = match shape {
            Shape::Request { id } => error_text(Some(id), fault),
            Shape::Invalid { id } => error_text(id, Fault::InvalidRequest),
            Shape::Notification | Shape::Response { .. } | Shape::Batch(_) | Shape::Garbled => return,
        };
        if answers.len() + answer.len() + 2 <= PORTABLE_RECORD {
            answers.push_str(if answers.len() > 1 { "," } else { "" });
            answers.push_str(&answer);
        }
    })
    .ok()?;
    answers.push(']');
    (answers.len() > 2).then(|| answers.into())
}

/// The same to any message. `None` where it wants no answer.
pub(super) fn refusal(message: &[u8], fault: Fault) -> Option<Bytes> {
    match Shape::of(message) {
        Shape::Request { id } => Some(error_answer(Some(id), fault)),
        Shape::Invalid { id } => Some(error_answer(id, fault)),
        Shape::Garbled => Some(error_answer(None, fault)),
        Shape::Batch(_) => error_answers(message, fault),
        Shape::Notification | Shape::Response { .. } => None,
    }
}

fn error_text(id: Option<&str>, fault: Fault) -> String {
    let id = id.unwrap_or("null");
    let (code, text) = fault.describe();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}"}}}}"#)
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
    /// The answer is more than can be carried.
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
            Fault::TooLarge => (413, "too_large: the answer is too large for this connection"),
            Fault::Busy => (503, "busy: too many requests wait already"),
        }
    }
}
