//! [`reqwest::Client`] as the service below a [`SealLayer`](super::SealLayer).

use std::task::{Context, Poll};

use ::http::{Request, Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use http_body::Body;
use reqwest::{Client, redirect::Policy};
use tower_service::Service;

use super::{BoxError, NotSent};

/// A thin adapter: requests and responses of the `http` crate through reqwest.
#[derive(Clone, Debug)]
pub struct Reqwest {
    client: Client,
}

impl Reqwest {
    /// A client that follows no redirects.
    ///
    /// # Errors
    /// When reqwest finds no TLS backend or resolver.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Reqwest { client: Client::builder().redirect(Policy::none()).build()? })
    }
}

impl From<Client> for Reqwest {
    /// A client that is configured already. Give it [`Policy::none`]: what a redirect leads to is refused.
    fn from(client: Client) -> Self {
        Reqwest { client }
    }
}

impl<B> Service<Request<B>> for Reqwest
where
    B: Body + Send + Sync + 'static,
    B::Data: Into<bytes::Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<reqwest::Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.client.clone();
        async move {
            let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))?;
            let asked = request.url().clone();
            let response = client.execute(request).await.map_err(|error| -> BoxError {
                if error.is_connect() { NotSent::new(error).into() } else { error.into() }
            })?;
            if *response.url() != asked {
                return Err("the request was redirected, which a sealed one must not be".into());
            }
            Ok(response.into())
        }
        .boxed()
    }
}
