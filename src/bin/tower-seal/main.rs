//! `tower-seal`, the command-line tool: one file per subcommand, which sees the crate's public API only.

mod args;
mod demo;

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use args::{Args, Command};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = async {
        log()?;
        match args.command {
            Command::Demo => demo::run().await,
        }
    };
    outcome.await.unwrap_or_else(|error: BoxError| {
        complain(&*error);
        ExitCode::FAILURE
    })
}

/// What the layers and rmcp log goes to stderr: warnings, or what `RUST_LOG` names.
fn log() -> Result<(), BoxError> {
    let wanted = env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { "warn" } else { &wanted };
    let filter: Targets = wanted
        .parse()
        .map_err(|error| format!("RUST_LOG is not a list such as `info,tower_seal=debug`: {error}"))?;
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    tracing_subscriber::registry().with(lines).with(filter).try_init()?;
    Ok(())
}

/// Says what went wrong, and why, on stderr. A reader of stdout that has gone has no use for that.
fn complain(error: &(dyn Error + 'static)) {
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return;
    }
    let mut text = format!("tower-seal: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    let _ = writeln!(anstream::stderr(), "{text}");
}
