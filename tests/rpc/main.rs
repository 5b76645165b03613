//! Every promise of the `rpc` room: PROTOCOL.md section 7 (frame binding) and 9, and two-way connections, through
//! the public API.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/costs.rs"]
mod costs;
mod far;
mod hand;
mod support;

mod batches;
mod calls;
mod carriage;
mod endings;
mod handshakes;
mod middleware;
mod pipes;
mod plaintext;
mod refusals;
mod renewal;
mod retry;
mod serving;
mod telemetry;
