//! The options that `serve` and `proxy` share.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum, builder::FalseyValueParser};

/// Options of a program that listens.
#[derive(Args)]
pub(crate) struct Common {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: SocketAddr,

    /// This side's secret key; made on first use [default: identity.pem in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,

    /// No protection at all, on both sides, for tests
    #[arg(long, env = "TOWER_SEAL_PLAINTEXT", value_parser = FalseyValueParser::new())]
    pub(crate) plaintext: bool,

    /// Certificate authorities to trust for https beside the system's
    #[arg(long, value_name = "PEM")]
    pub(crate) ca: Option<PathBuf>,

    /// Serve Prometheus text on /metrics, and /healthz, on this address of its own
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) metrics: Option<SocketAddr>,

    /// How to log to stderr; RUST_LOG says what
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log: LogFormat,
}

/// For clap, which puts the value and the option before the reason.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "give an IP address and a port, such as 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for all IPv4 \
         addresses of this machine"
            .to_owned()
    })
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line, for programs
    Json,
}
