//! The service below a client layer, and when it is ready.

use futures_util::{TryFutureExt as _, future::MapErr};
use tower_service::Service;

use crate::{
    error::{Error, Result},
    not_sent::NotSent,
    shell::transport,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Called<F, E> = MapErr<F, fn(E) -> Error>;

/// The service below: ready for the first call, and to be made so for others.
pub(crate) struct Below<S> {
    service: S,
    is_ready: bool,
}

impl<S: Clone> Below<S> {
    /// Of a service that has been polled ready.
    pub(crate) fn new(service: S) -> Self {
        Below { service, is_ready: true }
    }

    /// One more, which is to be made ready first.
    pub(crate) fn another(&self) -> Self {
        Below { service: self.service.clone(), is_ready: false }
    }

    /// The ready one, if it is. What stays is to be made ready again.
    pub(crate) fn take(&mut self) -> Self {
        let another = self.another();
        std::mem::replace(self, another)
    }

    pub(crate) async fn ready<R>(&mut self) -> Result<()>
    where
        S: Service<R>,
        S::Error: Into<BoxError>,
    {
        if !self.is_ready {
            let ready = std::future::poll_fn(|cx| self.service.poll_ready(cx)).await;
            ready.map_err(|error| transport(NotSent::new(error)))?;
            self.is_ready = true;
        }
        Ok(())
    }

    /// To be called when it is ready, which it is not any more afterwards.
    pub(crate) fn call<R>(&mut self, request: R) -> Called<S::Future, S::Error>
    where
        S: Service<R>,
        S::Error: Into<BoxError>,
    {
        self.is_ready = false;
        self.service.call(request).map_err(transport)
    }

    pub(crate) async fn ready_and_call<R>(&mut self, request: R) -> Result<S::Response>
    where
        S: Service<R>,
        S::Error: Into<BoxError>,
    {
        self.ready::<R>().await?;
        self.call(request).await
    }
}
