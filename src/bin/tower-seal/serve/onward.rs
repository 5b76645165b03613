//! The HTTP server that is wrapped.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tower_seal::{Verified, http::NotSent};
use tower_service::Service;

use crate::{
    BoxError,
    failure::Chain,
    problem,
    upstream::{AnyBody, Base, Http},
};

/// Tells the upstream who calls.
const PEER: HeaderName = HeaderName::from_static("tower-seal-peer");

fn is_peer(name: &HeaderName) -> bool {
    name.as_str().len() == PEER.as_str().len() && name.as_str().replace('_', "-") == PEER.as_str()
}

/// Passes requests on, and says who calls.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) http: Http,
    pub(super) base: Base,
    pub(super) host: Option<HeaderValue>,
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
        // With underscores too, which CGI and its heirs take for hyphens.
        let spellings: Vec<HeaderName> = headers.keys().filter(|name| is_peer(name)).cloned().collect();
        for name in spellings {
            headers.remove(name);
        }
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
                    tracing::warn!(upstream = base, error = %Chain(&*error), "the upstream does not answer");
                    // Where it is, is none of the caller's business.
                    Ok(if error.is::<NotSent>() {
                        problem::respond(
                            "upstream_unreachable",
                            "The server behind tower-seal cannot be reached: its operator has to check that it runs, \
                             and --upstream.",
                        )
                    } else {
                        problem::respond(
                            "upstream_lost",
                            "The server behind tower-seal broke the connection before it answered, and may have done \
                             what it was asked to: look whether it was done before you repeat it.",
                        )
                    })
                }
            }
        }
        .boxed()
    }
}
