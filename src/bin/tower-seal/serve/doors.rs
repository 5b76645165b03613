//! Who comes by WebSocket gets a child; everybody else goes to the upstream, if there is one.

use std::{
    convert::Infallible,
    future::ready,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tower_service::Service;

use super::stdio::Stdio;
use crate::{BoxError, problem, upstream::AnyBody};

/// One listener, two kinds of servers behind it.
#[derive(Clone)]
pub(super) struct Doors<U> {
    pub(super) upstream: Option<U>,
    pub(super) stdio: Stdio,
}

impl<U, A, B> Service<Request<A>> for Doors<U>
where
    U: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    U::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.upstream.as_mut().map_or(Poll::Ready(Ok(())), |upstream| upstream.poll_ready(cx))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if is_upgrade(&request) {
            let response = self.stdio.answer(request.into_parts().0);
            return ready(Ok(response)).boxed();
        }
        let Some(upstream) = &mut self.upstream else {
            return ready(Ok(only_by_websocket(request.version()))).boxed();
        };
        upstream
            .call(request)
            .map(|response| {
                response.map(|response| response.map(|body| body.map_err(Into::into).boxed_unsync()))
            })
            .boxed()
    }
}

/// Of HTTP/1.1: RFC 9110, section 7.8.
fn is_upgrade<B>(request: &Request<B>) -> bool {
    let protocols = request.headers().get_all(header::UPGRADE).iter();
    request.method() == Method::GET
        && protocols
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|name| name.trim().eq_ignore_ascii_case("websocket"))
}

fn only_by_websocket(version: Version) -> Response<AnyBody> {
    let mut response = problem::respond(
        "websocket_only",
        "A stdio server is behind this, which is reached by WebSocket: `tower-seal connect` with a ws:// or wss:// \
         URL. There is no --upstream for HTTP.",
    );
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    if version < Version::HTTP_2 {
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    response
}
