//! What can be said on the command line.

use clap::{Parser, Subcommand};

use crate::{connect, identity, peers, proxy, serve};

/// End-to-end encrypted and signed JSON-RPC and MCP.
///
/// tower-seal puts every message of an MCP client and server into an envelope that only the two of them can
/// open: gateways, proxies and load balancers between them can pass it on, but not read, change, repeat or
/// invent it. As a library it is a pair of Tower layers; this is the tool beside it.
#[derive(Parser)]
#[command(name = "tower-seal", version, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Environment:
  RUST_LOG              what is logged to stderr, such as `info` or `tower_seal=debug` [default: warn,rmcp=off]
  NO_COLOR              no colours, whatever the terminal
  TOWER_SEAL_PLAINTEXT  1 turns all protection off, for tests

Exit status:
  0  done, or told to stop
  1  something did not work, or a claim of the demo did not hold
  2  the command line cannot work
  3  a file of keys, peers or certificates cannot be used
  4  an address cannot be listened on")]
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

    /// Prints this machine's node id, making its key on first use
    ///
    /// It is what the other side gives as --allow or --peer.
    Id(identity::Options),

    /// Puts an existing MCP server behind the seal, of HTTP or of stdio
    ///
    /// --upstream names one that speaks HTTP. COMMAND is one that speaks on stdin and stdout, a message a line: it is
    /// run once for each WebSocket connection, on any path. With both, one port serves both kinds of clients.
    ///
    /// The first line on stdout is `tower-seal serve: node <64 hex> listening on http://IP:PORT`; with COMMAND alone
    /// it ends in `ws://IP:PORT`. The upstream gets the caller's node id in the field `tower-seal-peer`, COMMAND in
    /// the variable TOWER_SEAL_PEER. What COMMAND says on stderr, and on stdout where it is no JSON-RPC message,
    /// comes out on stderr here, line by line, each with the number of the child, and with control characters
    /// escaped. Where nobody reads that fast enough, lines are lost, and the log says how many.
    ///
    /// When a client goes, the stdin of its child is closed; 5 s later comes SIGTERM, 5 s after that SIGKILL, to the
    /// child and all that it started, as long as that stays in its process group. When a child ends with status 0, its client's connection ends as it should;
    /// with any other, the client is told so, and the connection breaks off. SIGTERM and Ctrl-C here let streams
    /// and connections run on for 10 s; a second one ends them at once.
    Serve(Box<serve::Options>),

    /// Reaches a sealed server: plain HTTP here, sealed to URL
    ///
    /// Its first line on stdout is `tower-seal proxy: node <64 hex> listening on http://IP:PORT`. Requests go to
    /// URL with their path appended. Where the far side cannot be reached or trusted, the answer is 502, and
    /// says what to do.
    Proxy(Box<proxy::Options>),

    /// Reaches a sealed server: a stdio MCP server here, sealed to URL
    ///
    /// For a host program, whose settings name it as a command. Messages go line by line from stdin to URL and from
    /// there to stdout; the log goes to stderr. Where the far side cannot be reached or trusted, requests are
    /// answered with an error that says what to do, and the next ones try again. After a loss the host's own
    /// `initialize` is repeated to the far side, and else only what cannot have been served, or does no harm. At the
    /// end of stdin answers that are due get 10 s; SIGTERM and Ctrl-C end it without them, and at once unless one of
    /// the two sides does not keep up, for which there are 3 s.
    Connect(Box<connect::Options>),

    /// Shows and edits the keys that were learned with --first-use
    Peers(peers::Options),

    /// Prints a script of completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },

    /// Prints the manual page
    Man,
}
