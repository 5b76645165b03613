//! `tower-seal serve`: an existing HTTP MCP server behind the seal.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, Request, Response, header, uri::Authority};
use http_body::Body;
use http_body_util::BodyExt as _;
use tower_layer::Layer as _;
use tower_seal::{
    Config, NodeId, Verified,
    http::UnsealLayer,
    mcp::BindSessionsLayer,
    trust::{AnyIdentity, Pinned},
};
use tower_service::Service;

use crate::{
    BoxError,
    common::Common,
    daemon,
    failure::{Exit, Failure},
    identity, metrics, problem,
    upstream::{AnyBody, Base, Http},
};

/// Tells the upstream who calls.
const PEER: HeaderName = HeaderName::from_static("tower-seal-peer");

/// The options of `serve`.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// The server to wrap: http(s)://HOST[:PORT][/PREFIX]
    #[arg(long, value_name = "URL", value_parser = Base::parse)]
    upstream: Base,

    /// Who may call: the node ids that `tower-seal id` prints on the clients' machines
    #[arg(long, value_name = "NODE_ID", num_args = 1.., value_parser = identity::parse_node_id, conflicts_with = "allow_anyone")]
    allow: Vec<NodeId>,

    /// Everybody may call; the upstream decides by the field `tower-seal-peer`
    #[arg(long)]
    allow_anyone: bool,

    /// The host that the upstream is told, in place of the client's
    #[arg(long, value_name = "NAME", value_parser = host_value)]
    upstream_host: Option<HeaderValue>,

    /// The prefix, such as /tools, that a gateway in front strips from paths
    #[arg(long, value_name = "PATH")]
    strip_prefix: Option<String>,

    /// Serve only this authority, such as example.com:8443; may be repeated [default: any]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = authority)]
    authority: Vec<Authority>,
}

fn authority(name: &str) -> Result<Authority, String> {
    name.parse().map_err(|error| format!("it has to be a host, perhaps with a port, and no more ({error})"))
}

fn host_value(name: &str) -> Result<HeaderValue, String> {
    let authority: Authority = authority(name)?;
    HeaderValue::from_str(authority.as_str()).map_err(|error| format!("{error}"))
}

pub(crate) async fn run(args: Options) -> Result<(), Failure> {
    let plaintext = args.common.plaintext;
    if args.allow.is_empty() && !args.allow_anyone && !plaintext {
        return Err(Failure::new(
            Exit::Usage,
            "who may call? Give --allow NODE_ID, which `tower-seal id` prints on the client's machine, or \
             --allow-anyone",
        ));
    }
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

    let mut seal = UnsealLayer::new(config.clone());
    if let Some(prefix) = &args.strip_prefix {
        seal = seal.stripped_prefix(prefix).map_err(|_| {
            let reason = "a prefix begins with a slash and does not end with one, such as /tools";
            Failure::new(Exit::Usage, format!("--strip-prefix {prefix} cannot be used: {reason}"))
        })?;
    }
    if !args.authority.is_empty() {
        seal = seal.authorities(args.authority.iter().cloned());
    }
    let mut bind = BindSessionsLayer::new();
    if plaintext {
        bind = bind.dangerously_allow_unverified();
    }
    let upstream = Upstream {
        http: Http::new(args.common.ca.as_deref())?,
        base: args.upstream,
        host: args.upstream_host,
    };
    let service = seal.layer(bind.layer(upstream));

    let (listener, address) = daemon::listen("--listen", args.common.listen).await?;
    metrics::serve(args.common.metrics, config).await?;
    daemon::announce(&format!("tower-seal serve: node {node} listening on http://{address}"))?;
    daemon::serve(listener, service).await
}

/// The server that is wrapped.
#[derive(Clone)]
struct Upstream {
    http: Http,
    base: Base,
    host: Option<HeaderValue>,
}

impl<B> Service<Request<B>> for Upstream
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Verified>().map(|caller| caller.node_id().to_string());
        let headers = request.headers_mut();
        headers.remove(PEER);
        if let Some(caller) = caller.and_then(|caller| HeaderValue::from_str(&caller).ok()) {
            headers.insert(PEER, caller);
        }
        if let Some(host) = &self.host {
            headers.insert(header::HOST, host.clone());
        }
        let mut http = self.http.clone();
        let url = self.base.join(request.uri());
        let base = self.base.to_string();
        async move {
            let url = match url {
                Ok(url) => url,
                Err(error) => {
                    return Ok(problem::respond(
                        "malformed",
                        &format!("the path cannot be sent on: {error}"),
                    ));
                }
            };
            *request.uri_mut() = url;
            *request.extensions_mut() = http::Extensions::new();
            match http.call(request).await {
                Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
                Err(error) => {
                    tracing::warn!(upstream = base, error = %error, "the upstream does not answer");
                    Ok(problem::respond(
                        "upstream_unreachable",
                        &format!(
                            "The server behind tower-seal, {base}, does not answer: check that it runs, and --upstream."
                        ),
                    ))
                }
            }
        }
        .boxed()
    }
}
