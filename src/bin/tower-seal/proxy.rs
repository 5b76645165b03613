//! `tower-seal proxy`: plain HTTP here, sealed to a URL there.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower_layer::Layer as _;
use tower_seal::{
    Config, Error,
    http::{Seal, SealLayer},
    mcp::Repeatable,
    trust::{FirstUse, KnownPeers, Pinned},
};
use tower_service::Service;

use crate::{
    args::ProxyArgs,
    daemon,
    failure::Failure,
    identity, metrics, peers, problem,
    upstream::{AnyBody, Base, Http},
};

pub(crate) async fn run(args: ProxyArgs) -> Result<(), Failure> {
    let identity = identity::load(args.common.identity.as_deref())?;
    let node = identity.node_id();
    let first_use = match &args.peer[..] {
        [] if args.first_use => Some(Arc::new(FirstUse::new(KnownPeers::open(peers::path(args.peers)?)?))),
        _ => None,
    };
    let config = match (&first_use, args.common.is_plaintext()) {
        (_, true) => Config::plaintext(),
        (Some(first_use), _) => Config::new(identity, first_use.clone()),
        (None, _) => Config::new(identity, Pinned::new(args.peer.iter().copied())),
    };
    let config = config.encoding(args.encoding.into()).signatures(args.signatures.into());

    // What can do no harm is sent again when the far side has lost the session, after a restart say.
    let seal = SealLayer::new(config.clone()).repeat_if(Repeatable::new().into_predicate());
    let service = Proxy { seal: seal.layer(Http::new(args.common.ca.as_deref())?), base: args.url, first_use };

    let (listener, address) = daemon::listen(args.common.listen).await?;
    metrics::serve(args.common.metrics, config).await?;
    daemon::announce(&format!("tower-seal proxy: node {node} listening on http://{address}"))?;
    daemon::serve(listener, service).await
}

#[derive(Clone)]
struct Proxy {
    seal: Seal<Http>,
    base: Base,
    first_use: Option<Arc<FirstUse>>,
}

impl Service<Request<Incoming>> for Proxy {
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // What cannot be sent now is answered by `call`.
        let _ = Service::<Request<Incoming>>::poll_ready(&mut self.seal, cx);
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
        let answer = self.seal.call(request);
        let (base, first_use) = (self.base.clone(), self.first_use.clone());
        async move {
            Ok(match answer.await {
                Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
                Err(error) => {
                    tracing::warn!(url = %base, error = %error, "a request failed");
                    problem::of(&error, &base.to_string(), conflict(first_use.as_deref(), &base, &error))
                }
            })
        }
        .boxed()
    }
}
