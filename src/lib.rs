//! End-to-end encrypted and signed JSON-RPC and MCP, as Tower layers: sealed, whatever stands in between.
//!
//! Put [`http::SealLayer`] before a client and [`http::UnsealLayer`] before a server, and give each a
//! [`Config`]: who it is, and whom it trusts. The README has an example for each stack, and a plain account
//! of what this protects.
//!
//! ```text
//!  mcp   tower_mcp                         adapters to the SDKs rmcp and tower-mcp
//!  http   rpc   duplex                     Tower layers and connections: async shells around the core
//!  protocol -> config -> trust -> identity the core: bytes in, bytes out; no I/O, no clock, no randomness
//!  error   telemetry                       words that everything uses
//! ```

// Without a shell nothing waits to be signed.
#![cfg_attr(
    not(any(feature = "http", feature = "rpc", feature = "duplex")),
    allow(dead_code, unused_imports)
)]

pub mod config;
pub mod error;
pub mod identity;
pub mod protocol;
mod suite;
pub mod telemetry;
pub mod trust;

#[cfg(any(feature = "http", feature = "rpc"))]
mod below;
#[cfg(any(feature = "http", feature = "rpc"))]
mod kept;
#[cfg(any(feature = "http", feature = "rpc"))]
mod not_sent;
#[cfg(any(feature = "duplex", feature = "http", feature = "rpc"))]
mod shell;
#[cfg(any(feature = "http", feature = "rpc", feature = "duplex"))]
mod signing;
#[cfg(any(feature = "http", feature = "rpc"))]
mod sweeper;

#[cfg(feature = "duplex")]
pub mod duplex;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "mcp")]
pub mod mcp;
#[cfg(feature = "rpc")]
pub mod rpc;
#[cfg(feature = "tower-mcp")]
pub mod tower_mcp;

pub use config::Config;
pub use error::Error;
pub use identity::{Identity, NodeId};
pub use suite::SuiteId;
pub use trust::{Trust, Verified};

#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../README.md")]
struct Readme;
