//! `tower-seal serve`: existing MCP servers behind the seal: one that speaks HTTP, or a stdio server, or both on one
//! port.

mod doors;
mod onward;
mod stdio;

use std::{ffi::OsString, num::NonZeroUsize, sync::Arc};

use http::{HeaderValue, uri::Authority};
use tower_layer::Layer as _;
use tower_seal::{
    Config, NodeId,
    config::{Limits, PORTABLE_RECORD},
    duplex::Acceptor,
    http::UnsealLayer,
    mcp::BindSessionsLayer,
    trust::{AnyIdentity, Pinned},
};

use crate::{
    child::{Children, Program},
    common::Common,
    daemon::{self, Tasks},
    failure::{Exit, Failure},
    identity, metrics,
    upstream::{Base, Http},
};
use doors::Doors;
use onward::Upstream;
use stdio::Stdio;

/// The options of `serve`.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// The HTTP server to wrap: http(s)://HOST[:PORT][/PREFIX]
    #[arg(long, value_name = "URL", value_parser = Base::parse)]
    upstream: Option<Base>,

    /// Who may call: the node ids that `tower-seal id` prints on the clients' machines
    #[arg(long, value_name = "NODE_ID", num_args = 1.., value_parser = identity::parse_node_id, conflicts_with = "allow_anyone")]
    allow: Vec<NodeId>,

    /// Everybody may call; the server decides by the field `tower-seal-peer`, or TOWER_SEAL_PEER
    #[arg(long)]
    allow_anyone: bool,

    /// The host that the upstream is told, in place of the client's
    #[arg(long, value_name = "NAME", value_parser = host_value, requires = "upstream")]
    upstream_host: Option<HeaderValue>,

    /// The prefix, such as /tools, that a gateway in front strips from paths
    #[arg(long, value_name = "PATH")]
    strip_prefix: Option<String>,

    /// Serve only this authority, such as example.com:8443; may be repeated [default: any]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = authority, requires = "upstream")]
    authority: Vec<Authority>,

    /// How many of COMMAND may run at once; further clients are told `busy`
    #[arg(long, value_name = "NUMBER", default_value = "64", requires = "command")]
    max_children: NonZeroUsize,

    /// How many of them may run for one node. With --allow-anyone this bounds nobody who means harm: keys are free
    #[arg(long, value_name = "NUMBER", default_value = "16", requires = "command")]
    max_children_per_node: NonZeroUsize,

    /// The stdio server to wrap, with its arguments: one is run for each WebSocket connection
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn authority(name: &str) -> Result<Authority, String> {
    name.parse().map_err(|error| format!("it has to be a host, perhaps with a port, and no more ({error})"))
}

fn host_value(name: &str) -> Result<HeaderValue, String> {
    let authority: Authority = authority(name)?;
    HeaderValue::from_str(authority.as_str()).map_err(|error| format!("{error}"))
}

pub(crate) async fn run(args: Options) -> Result<(), Failure> {
    let usage = |sentence: &str| Err(Failure::new(Exit::Usage, sentence));
    let plaintext = args.common.plaintext;
    if args.upstream.is_none() && args.command.is_empty() {
        return usage(
            "what to serve? Give --upstream <URL> for a server that speaks HTTP, or -- COMMAND for one that \
             speaks on stdin and stdout, or both",
        );
    }
    if args.allow.is_empty() && !args.allow_anyone && !plaintext {
        return usage(
            "who may call? Give --allow NODE_ID, which `tower-seal id` prints on the client's machine, or \
             --allow-anyone",
        );
    }
    let program = Program::find(args.command)?;
    let identity = identity::load(args.common.identity.as_deref())?;
    let node = identity.node_id();
    identity::differs(node, "--allow", &args.allow)?;
    let config = if plaintext {
        Config::plaintext()
    } else if args.allow_anyone {
        Config::new(identity, AnyIdentity)
    } else {
        Config::new(identity, Pinned::new(args.allow.iter().copied()))
    };
    let prefix = args.strip_prefix.as_deref();
    let wrong_prefix = |_| {
        let prefix = prefix.unwrap_or_default();
        let reason = "a prefix begins with a slash and does not end with one, such as /tools";
        Failure::new(Exit::Usage, format!("--strip-prefix {prefix} cannot be used: {reason}"))
    };

    let mut seal = UnsealLayer::new(config.clone());
    let mut acceptor = Acceptor::new(config.clone().limits(line_limits()));
    if let Some(prefix) = prefix {
        seal = seal.stripped_prefix(prefix).map_err(wrong_prefix)?;
        acceptor = acceptor.stripped_prefix(prefix).map_err(wrong_prefix)?;
    }
    if !args.authority.is_empty() {
        seal = seal.authorities(args.authority.iter().cloned());
    }
    let mut bind = BindSessionsLayer::new();
    if plaintext {
        bind = bind.dangerously_allow_unverified();
    }
    let upstream = match args.upstream {
        Some(base) => {
            let http = Http::new(args.common.ca.as_deref(), base.is_tls())?;
            Some(seal.layer(bind.layer(Upstream { http, base, host: args.upstream_host })))
        }
        None => None,
    };
    let format = args.common.log;
    let most = (args.max_children.get(), args.max_children_per_node.get());
    let children = program.map(|program| Arc::new(Children::new(program, most, format)));

    let (listener, address) = daemon::listen("--listen", args.common.listen).await?;
    let counted = children.clone();
    let count = move || counted.as_ref().map(|children| children.metrics()).unwrap_or_default();
    metrics::serve_with(args.common.metrics, config, count).await?;
    let scheme = if upstream.is_some() { "http" } else { "ws" };
    let first_line = format!("tower-seal serve: node {node} listening on {scheme}://{address}");
    match (upstream, children) {
        (Some(upstream), None) => daemon::serve(listener, upstream, &first_line).await,
        (upstream, Some(children)) => {
            let tasks = Tasks::default();
            let stdio = Stdio::new(acceptor, children, tasks.clone());
            daemon::serve_with(listener, Doors { upstream, stdio }, &tasks, &first_line).await
        }
        (None, None) => Ok(()),
    }
}

/// Those of a connection whose messages are lines.
fn line_limits() -> Limits {
    let mut limits = Limits::default();
    limits.record = PORTABLE_RECORD;
    limits
}
