//! End-to-end encrypted and signed JSON-RPC and MCP, as Tower layers.

pub mod config;
pub mod error;
pub mod identity;
pub mod protocol;
mod suite;
pub mod telemetry;
pub mod trust;

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "mcp")]
pub mod mcp;

pub use config::Config;
pub use error::Error;
pub use identity::{Identity, NodeId};
pub use suite::SuiteId;
pub use trust::{Trust, Verified};
