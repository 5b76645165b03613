//! The inner message: the plaintext of a stream's first record (PROTOCOL section 7, "HTTP binding").
//!
//! It is a Binary HTTP message of known length (RFC 9292 section 3.1). Numbers are QUIC varints (RFC 9000
//! section 16), and every other piece has its length before it, as a varint too:
//!
//! ```text
//! request    0 | method | scheme | authority | path | header section | content | trailer section
//! response   1 | status                             | header section | content | trailer section
//!            '----------------- head -----------------------------'             '- always empty -'
//! ```
//!
//! The content is what was at hand when the head left; the rest of the body follows in later records, bare.
//!
//! Sealing and opening share one set of rules ([`fields`], [`target`]): what [`encode_request`] and
//! [`encode_response`] write, [`decode_request`] and [`decode_response`] take, up to their limits. Where HTTP
//! allows more than opening does, sealing drops fields, which speak of the outer connection and not of the
//! message, and calls anything else [`Misuse`](crate::Error::Misuse): no other request may go in its place.
//!
//! Written by hand, since content goes from the body's chunks straight into the buffer that is sealed in
//! place, and comes out as a slice of the opened record: one copy to seal, none to open.

mod decode;
mod encode;
mod fields;
mod target;
#[cfg(test)]
mod tests;
mod varint;

pub(crate) use decode::{decode_request, decode_response};
pub(crate) use encode::{encode_request, encode_response, usual_head};
pub(crate) use fields::strip_infrastructure;

/// Framing indicators of known-length messages (RFC 9292 section 3.3).
const REQUEST: u64 = 0;
const RESPONSE: u64 = 1;
