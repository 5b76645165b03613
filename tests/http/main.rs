//! Every promise of the `http` room: PROTOCOL.md sections 7 and 9 and the HTTP part of the issue, through the
//! public API, over sockets where the transport matters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hand;
mod rules;
mod siege;
mod support;

mod attacks;
mod bodies;
mod carriage;
mod handshakes;
mod paths;
mod renewal;
mod responses;
mod retry;
mod streaming;
mod times;
