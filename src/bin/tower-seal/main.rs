//! `tower-seal`, the command-line tool: one file per subcommand, which sees the crate's public API only.

mod args;
mod child;
mod common;
mod connect;
mod connections;
mod daemon;
mod demo;
mod failure;
mod identity;
mod local;
mod long_line;
mod man;
mod metrics;
mod peers;
mod problem;
mod proxy;
mod serve;
mod spell;
mod stderr;
mod upstream;
mod whom;

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use args::{Args, Command};
use common::LogFormat;
use failure::{Chain, Failure};

type BoxError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = stderr::start().map_err(BoxError::from).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(run(args));
        // What still waits for somebody who does not read or answer is not waited for.
        runtime.shutdown_background();
        outcome
    });
    let code = outcome.unwrap_or_else(|error: BoxError| {
        complain(&*error);
        error.downcast_ref::<Failure>().map_or(ExitCode::FAILURE, |failure| failure.exit.into())
    });
    stderr::finish();
    code
}

async fn run(args: Args) -> Result<ExitCode, BoxError> {
    let format = match &args.command {
        Command::Serve(options) => options.common.log,
        Command::Proxy(options) => options.common.log,
        Command::Connect(options) => options.log,
        _ => LogFormat::Text,
    };
    log(format)?;
    match args.command {
        Command::Demo => return demo::run().await,
        Command::Id(options) => identity::run(&options)?,
        Command::Serve(options) => serve::run(*options).await?,
        Command::Proxy(options) => proxy::run(*options).await?,
        Command::Connect(options) => connect::run(*options).await?,
        Command::Peers(options) => peers::run(options)?,
        Command::Completions { shell } => {
            let name = env!("CARGO_PKG_NAME");
            // It panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), name, &mut script);
            io::stdout().write_all(&script)?;
        }
        Command::Man => io::stdout().write_all(&man::page(Args::command())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is logged unless `RUST_LOG` says otherwise. rmcp logs as errors what it returns, too.
const LOGGED: &str = "warn,rmcp=off";

/// Logs to stderr what the layers and the libraries have to say.
fn log(format: LogFormat) -> Result<(), BoxError> {
    let wanted = env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { LOGGED } else { &wanted };
    let filter: Targets = wanted
        .parse()
        .map_err(|error| format!("RUST_LOG is not a list such as `info,tower_seal=debug`: {error}"))?;
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(|| stderr::Lines).with_ansi(colours);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(lines).with(filter).try_init()?;
    Ok(())
}

/// Says what went wrong, and why, on stderr. A reader of stdout that has gone has no use for that.
fn complain(error: &(dyn Error + 'static)) {
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return;
    }
    stderr::say(format!("tower-seal: {}\n", Chain(error)));
}
