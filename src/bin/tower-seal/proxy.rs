//! `tower-seal proxy`: plain HTTP here, sealed to a URL there.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
};

use clap::ValueEnum;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower_layer::Layer as _;
use tower_seal::{
    Config, Error, NodeId,
    config::{Encoding, Signatures},
    http::{Seal, SealLayer},
    mcp::Repeatable,
    trust::{FirstUse, KnownPeers, Pinned},
};
use tower_service::Service;

use crate::{
    common::Common,
    daemon,
    failure::{Exit, Failure},
    identity, metrics, peers, problem,
    upstream::{AnyBody, Base, Http},
};

/// The options of `proxy`.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// The node id that `tower-seal serve` prints there
    #[arg(long, value_name = "NODE_ID", value_parser = identity::parse_node_id, conflicts_with = "first_use")]
    peer: Option<NodeId>,

    /// Trust whoever answers at URL first, and nobody else there from then on, as ssh does
    #[arg(long)]
    first_use: bool,

    /// The file of known peers [default: known_peers in the user's data folder]
    #[arg(long, value_name = "FILE", requires = "first_use", conflicts_with = "peer")]
    peers: Option<PathBuf>,

    /// How messages are written
    #[arg(long, value_name = "ENCODING", default_value = "binary")]
    encoding: EncodingArg,

    /// Which messages are signed
    #[arg(long, value_name = "WHICH", default_value = "every")]
    signatures: SignaturesArg,

    /// Where `tower-seal serve` is: http(s)://HOST[:PORT][/PREFIX]
    #[arg(value_name = "URL", value_parser = Base::parse)]
    url: Base,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodingArg {
    /// Text, twice the size, for middles that insist on it
    Json,
    /// Compact
    Binary,
}

#[derive(Clone, Copy, ValueEnum)]
enum SignaturesArg {
    /// Each message, as proof for others too
    Every,
    /// Until both sides are known to be there; faster
    Handshake,
}

pub(crate) async fn run(args: Options) -> Result<(), Failure> {
    let plaintext = args.common.plaintext;
    if args.peer.is_none() && !args.first_use && !plaintext {
        return Err(Failure::new(
            Exit::Usage,
            "whom to trust at the URL? Give --peer NODE_ID, which `tower-seal serve` prints there, or --first-use",
        ));
    }
    let peers_command = peers::command(args.peers.as_deref());
    let identity = identity::load(args.common.identity.as_deref())?;
    let node = identity.node_id();
    identity::differs(node, "--peer", args.peer.as_slice())?;
    let (config, first_use) = match args.peer {
        _ if plaintext => (Config::plaintext(), None),
        Some(peer) => (Config::new(identity, Pinned::new([peer])), None),
        None => {
            let first_use = Arc::new(FirstUse::new(KnownPeers::open(peers::path(args.peers)?)?)?);
            (Config::new(identity, first_use.clone()), Some(first_use))
        }
    };
    let config = config
        .encoding(match args.encoding {
            EncodingArg::Json => Encoding::Json,
            EncodingArg::Binary => Encoding::Binary,
        })
        .signatures(match args.signatures {
            SignaturesArg::Every => Signatures::Every,
            SignaturesArg::Handshake => Signatures::Handshake,
        });

    // What can do no harm is sent again when the far side has lost the session, after a restart say.
    let seal = SealLayer::new(config.clone()).repeat_if(Repeatable::new().into_predicate());
    let service = Proxy {
        seal: seal.layer(Http::new(args.common.ca.as_deref())?),
        node,
        base: args.url,
        first_use,
        peers: peers_command,
    };

    let (listener, address) = daemon::listen("--listen", args.common.listen).await?;
    metrics::serve(args.common.metrics, config).await?;
    daemon::announce(&format!("tower-seal proxy: node {node} listening on http://{address}"))?;
    daemon::serve(listener, service).await
}

#[derive(Clone)]
struct Proxy {
    seal: Seal<Http>,
    node: NodeId,
    base: Base,
    first_use: Option<Arc<FirstUse>>,
    /// How a command about the file of known peers begins.
    peers: String,
}

impl Proxy {
    fn failed(&self, error: &Error) -> Response<AnyBody> {
        tracing::warn!(url = %self.base, error = %error, "a request failed");
        let known = self.first_use.as_ref().map(|first_use| problem::Known {
            changed: first_use.explain(&self.base.origin(), error),
            command: &self.peers,
        });
        problem::of(error, &self.base.to_string(), self.node, known.as_ref())
    }
}

impl Service<Request<Incoming>> for Proxy {
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let url = match self.base.join(request.uri()) {
            Ok(url) => url,
            Err(error) => {
                let answer = problem::respond("malformed", &format!("the path cannot be sent on: {error}"));
                return std::future::ready(Ok(answer)).boxed();
            }
        };
        *request.uri_mut() = url;
        request.headers_mut().remove(header::HOST);
        let proxy = self.clone();
        // It is always ready: so is the client below it.
        let answer = self.seal.call(request);
        async move {
            Ok(match answer.await {
                Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
                Err(error) => proxy.failed(&error),
            })
        }
        .boxed()
    }
}
