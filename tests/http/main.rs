//! Every promise of the `http` room: PROTOCOL.md sections 7 and 9, through the
//! public API, over sockets where the transport matters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/costs.rs"]
mod costs;
mod hand;
mod siege;
mod support;
mod wire;

mod adapters;
mod attacks;
mod batches;
mod bodies;
mod broken;
mod carriage;
mod endless;
mod flips;
mod floods;
mod framing;
mod handshakes;
mod leaks;
mod paths;
mod plaintext;
mod refusals;
mod renewal;
mod responses;
mod retry;
mod rules;
mod streaming;
mod times;
mod traces;
mod trust;
