//! `tower-seal proxy`: plain HTTP here, sealed to a URL there.

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower_layer::Layer as _;
use tower_seal::{
    Error,
    http::{Seal, SealLayer},
    mcp::Repeatable,
};
use tower_service::Service;

use crate::{
    common::Common,
    daemon,
    failure::{Chain, Failure},
    local::{Callers, Guard},
    metrics, problem,
    upstream::{AnyBody, Base, Http},
    whom::{FarSide, Whom},
};

/// The options of `proxy`.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(flatten)]
    whom: Whom,

    #[command(flatten)]
    callers: Callers,

    /// Where `tower-seal serve` is: http(s)://HOST[:PORT][/PREFIX]
    #[arg(value_name = "URL", value_parser = Base::parse)]
    url: Base,
}

pub(crate) async fn run(args: Options) -> Result<(), Failure> {
    let (url, origin) = (args.url.to_string(), args.url.origin());
    let (config, far_side) = args.whom.meet(args.common.identity, args.common.plaintext, url, origin)?;
    let node = far_side.node;

    // What can do no harm is sent again when the far side has lost the session, after a restart say.
    let seal = SealLayer::new(config.clone()).repeat_if(Repeatable::new().into_predicate());
    let seal = seal.layer(Http::new(args.common.ca.as_deref(), args.url.is_tls())?);

    let (listener, address) = daemon::listen("--listen", args.common.listen).await?;
    let guard = Arc::new(Guard::new(args.callers, address));
    let service = Proxy { guard, seal, base: args.url, far_side: far_side.clone() };
    metrics::serve(args.common.metrics, config).await?;
    let first_line = format!("tower-seal proxy: node {node} listening on http://{address}");
    let ended = daemon::serve(listener, service, &first_line).await;
    far_side.finish();
    ended
}

#[derive(Clone)]
struct Proxy {
    guard: Arc<Guard>,
    seal: Seal<Http>,
    base: Base,
    far_side: FarSide,
}

impl Proxy {
    fn failed(&self, method: &Method, error: &Error) -> Response<AnyBody> {
        tracing::warn!(url = %self.base, error = %Chain(error), "a request failed");
        let (code, message) = match error {
            Error::Misuse { reason } => return malformed(reason),
            _ if problem::may_be_done(error) && !method.is_safe() => {
                problem::explain_unknown(error, &self.far_side.url)
            }
            _ => self.far_side.explain(error),
        };
        problem::respond(code, &message)
    }
}

impl Service<Request<Incoming>> for Proxy {
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.method() == Method::CONNECT {
            return ready(Ok(malformed("this is no proxy for other servers, so there is no CONNECT")))
                .boxed();
        }
        let (head, body) = request.into_parts();
        if let Err((code, message)) = self.guard.check(&head) {
            tracing::warn!(code, "a request was refused: {message}");
            return ready(Ok(problem::respond_with(StatusCode::FORBIDDEN, code, &message))).boxed();
        }
        let mut request = Request::from_parts(head, body);
        let url = match self.base.join(request.uri()) {
            Ok(url) => url,
            Err(error) => {
                return ready(Ok(malformed(&format!("its path cannot be sent on ({error})")))).boxed();
            }
        };
        *request.uri_mut() = url;
        let method = request.method().clone();
        request.headers_mut().remove(header::HOST);
        let proxy = self.clone();
        // It is always ready: so is the client below it.
        let answer = self.seal.call(request);
        async move {
            Ok(match answer.await {
                Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
                Err(error) => proxy.failed(&method, &error),
            })
        }
        .boxed()
    }
}

/// The request is none that can be sealed.
fn malformed(reason: &str) -> Response<AnyBody> {
    let message = format!("The request cannot be sent on: {reason}. Change it.");
    problem::respond_with(StatusCode::BAD_REQUEST, "malformed", &message)
}
