//! `tower-seal connect`: a stdio MCP server here, sealed to a URL there.
//!
//! A host program starts it as it starts any stdio server. What the host writes, a JSON-RPC message a line, goes
//! to the far side, and what the far side says comes out on stdout, as the bytes that they are.
//!
//! ```text
//!  host ── stdin ──> stdio ── Line ──> websocket ══ one record each ══════════════════> serve
//!       <─ stdout ──       <── Line ──  http     ══ POST, event streams, a session ═══>
//! ```
//!
//! The far side may go and come back: those who wait get an error ([`fault`]), and the next message finds it again
//! ([`greeting`]).

mod fault;
mod greeting;
mod http;
mod message;
mod salvage;
mod stdio;
mod waiting;
mod websocket;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ::http::Uri;
use bytes::Bytes;
use clap::builder::FalseyValueParser;
use tokio::time::{sleep, timeout};
use tower_seal::duplex::websocket::Options as WebSocketOptions;

use crate::{common::LogFormat, daemon, failure::Failure, upstream, whom::Whom};

use self::http::Http;
use fault::Fault;
use stdio::{Gone, Host};
use websocket::WebSocket;

/// How long after the end of stdin answers may take, and the host to read them. Then it does not wait any longer
/// either.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of messages that wait to be sent.
const HELD_BYTES: usize = 64 << 20;
/// How long the end of a connection or session may take, and the host to read what is left for it.
const FAREWELL: Duration = Duration::from_secs(3);

/// The options of `connect`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// This side's secret key; made on first use [default: identity.pem in the user's data folder]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,

    #[command(flatten)]
    whom: Whom,

    /// No protection at all, on both sides, for tests
    #[arg(long, env = "TOWER_SEAL_PLAINTEXT", value_parser = FalseyValueParser::new())]
    plaintext: bool,

    /// Certificate authorities to trust for https and wss beside the system's
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,

    /// How to log to stderr; RUST_LOG says what
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log: LogFormat,

    /// Where `tower-seal serve` is, with the path of the MCP server: ws(s)://… or http(s)://HOST[:PORT][/PATH]
    #[arg(value_name = "URL", value_parser = url)]
    url: Uri,
}

pub(crate) async fn run(args: Options) -> Result<(), Failure> {
    let url = args.url;
    let scheme = url.scheme_str().unwrap_or_default();
    let origin = format!("{scheme}://{}", url.authority().map_or("", |authority| authority.as_str()));
    // A query may hold a secret, which is for nobody's log.
    let full = url.to_string();
    let shown = full.split('?').next().unwrap_or_default().to_owned();
    let (config, far_side) = args.whom.meet(args.identity, args.plaintext, shown, origin)?;
    let (stop, known) = (daemon::stop_signal()?, far_side.clone());
    let mut far = if scheme.starts_with("ws") {
        let tls = Arc::new(upstream::tls(args.ca.as_deref(), scheme == "wss")?);
        Far::WebSocket(Box::new(WebSocket::new(config, WebSocketOptions::new().tls(tls), full, far_side)))
    } else {
        let http = upstream::Http::new(args.ca.as_deref(), scheme == "https")?;
        Far::Http(Box::new(Http::new(config, http, url.clone(), far_side)))
    };
    let mut host = Host::start()?;
    let ended = host.ended();
    let overdue = async {
        ended.cancelled().await;
        sleep(PATIENCE).await;
    };
    tokio::select! {
        ended = far.run(&mut host) => note(ended),
        () = overdue => tracing::info!("stdin has ended, and answers that were due have not come, or were not read"),
        () = stop => tracing::info!("told to stop"),
    }
    let again = daemon::stop_signal()?;
    let last = far.unanswered();
    // Neither side has to wait for the other.
    let finish = async { tokio::join!(far.finish(), host.finish(last)) };
    tokio::select! {
        _ = timeout(FAREWELL, finish) => {}
        () = again => {}
    }
    known.finish();
    Ok(())
}

/// The far side, by its URL.
enum Far {
    WebSocket(Box<WebSocket>),
    Http(Box<Http>),
}

impl Far {
    async fn run(&mut self, host: &mut Host) -> Result<(), Gone> {
        match self {
            Far::WebSocket(far) => far.run(host).await,
            Far::Http(far) => far.run(host).await,
        }
    }

    /// Answers to those who still wait.
    fn unanswered(&mut self) -> Vec<Bytes> {
        let waiting = match self {
            Far::WebSocket(far) => far.waiting(),
            Far::Http(far) => far.waiting(),
        };
        waiting.iter().map(|id| Fault::stopped().answer(id)).collect()
    }

    async fn finish(self) {
        match self {
            Far::WebSocket(far) => far.finish().await,
            Far::Http(far) => far.finish().await,
        }
    }
}

fn note(ended: Result<(), Gone>) {
    match ended {
        Ok(()) => tracing::info!("stdin has ended"),
        Err(Gone) => tracing::info!("nobody reads stdout any more"),
    }
}

/// For clap, which puts the value and the option before the reason.
fn url(text: &str) -> Result<Uri, String> {
    let uri: Uri =
        text.parse().map_err(|error| format!("give one such as wss://example.com/mcp ({error})"))?;
    if !["ws", "wss", "http", "https"].contains(&uri.scheme_str().unwrap_or_default()) {
        return Err("it has to begin with ws://, wss://, http:// or https://, such as wss://example.com/mcp"
            .to_owned());
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err("it needs a host, and no user or password before it".to_owned());
    }
    Ok(uri)
}
