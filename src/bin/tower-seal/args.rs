//! What can be said on the command line.

use clap::{Parser, Subcommand};

/// End-to-end encrypted and signed JSON-RPC and MCP.
///
/// tower-seal puts every message of an MCP client and server into an envelope that only the two of them can
/// open: gateways, proxies and load balancers between them can pass it on, but not read, change, repeat or
/// invent it. As a library it is a pair of Tower layers; this is the tool beside it.
#[derive(Parser)]
#[command(name = "tower-seal", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Environment:
  RUST_LOG              what is logged to stderr, such as `info` or `tower_seal=debug` [default: warn]
  NO_COLOR              no colours, whatever the terminal
  TOWER_SEAL_PLAINTEXT  1 turns all protection off, for tests")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Shows the seal at work against a middle that reads and attacks everything
    ///
    /// Starts an MCP server, an MCP client and an untrusted middle between them, all real and on loopback
    /// ports, and shows what each of them sees. Every claim is checked as it is made: the exit status is 1 if
    /// one does not hold. With TOWER_SEAL_PLAINTEXT=1, where none can hold, it shows what the middle gets then.
    Demo,
}
