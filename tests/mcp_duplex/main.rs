//! MCP and JSON-RPC over sealed two-way connections, with no tool between: rmcp on both sides, tower-mcp's client, and
//! the `rpc` room, over WebSocket, an upgrade in axum, a Unix socket and an in-process pipe.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(deprecated, reason = "MCP 2026-07-28 gives up roots and sampling, which stock servers use")]

mod support;

mod by_hand;
mod conversations;
mod endings;
mod rpc;
mod tower_mcp;
