//! The connections of a listener: taken, served, and closed when nobody uses them.
//!
//! Whoever connects costs a descriptor and one of [`MOST`] places before it has shown any key. So a connection
//! without a request, whatever was sent on it instead, is closed after [`SILENCE`].

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{BoxError, failure::Chain, spell::Spell};

/// Connections served at once; further ones wait in the system's queue.
const MOST: usize = 8192;
/// How long a connection may be without a request. One that had some may take twice as long.
const SILENCE: Duration = Duration::from_secs(30);
/// How long after its last packet a client is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// The pause after an error of `accept`, such as that no descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection among the [`MOST`]; in the extensions of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Takes connections, each of them a task of its own.
#[derive(Clone)]
pub(crate) struct Connections {
    most: usize,
    silence: Duration,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Default for Connections {
    fn default() -> Self {
        Connections { most: MOST, silence: SILENCE, tasks: TaskTracker::new(), end: CancellationToken::new() }
    }
}

impl Connections {
    /// Lets each connection end with the requests that it has, and waits for that.
    pub(crate) async fn end(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Takes connections as long as it is polled.
    pub(crate) async fn serve<S, B>(&self, listener: &TcpListener, service: S) -> Infallible
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(self.silence);
        http.http2().timer(TokioTimer::new()).keep_alive_interval(self.silence);
        let http = Arc::new(http);
        let room = Arc::new(Semaphore::new(self.most));
        let mut spell = Spell::default();
        loop {
            let permit = room.clone().acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let place = permit.ok().map(|permit| Place { _permit: Arc::new(permit) });
                    let connection = self.clone().carry(http.clone(), stream, place, service.clone());
                    self.tasks.spawn(connection);
                }
                Err(error) => {
                    if spell.begins(Instant::now()) {
                        tracing::warn!(error = %Chain(&error), "connections cannot be accepted; trying on");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection to its end.
    async fn carry<S, B>(
        self,
        http: Arc<auto::Builder<TokioExecutor>>,
        stream: TcpStream,
        place: Option<Place>,
        service: S,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(error = %Chain(&error), "a connection stays as the system made it");
        }
        let requests = Arc::new(Requests::default());
        let (service, begun, held) = (TowerToHyperService::new(service), requests.clone(), place.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let underway = Underway::begin(&begun);
            request.extensions_mut().insert(held.clone());
            let response = service.call(request);
            async move {
                // As long as the body is there, the request is under way.
                let response = response.await?;
                Ok::<_, Infallible>(response.map(|body| {
                    body.map_err(move |error| {
                        let _ = &underway;
                        error.into()
                    })
                }))
            }
        });
        let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let over = tokio::select! {
            over = connection.as_mut() => Some(over),
            () = self.end.cancelled() => None,
            () = requests.rest(self.silence) => None,
        };
        let over = match over {
            Some(over) => over,
            None => {
                // What has been answered is still to arrive.
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    over = connection.as_mut() => over,
                    () = requests.rest(self.silence) => Err("it was not used".into()),
                }
            }
        };
        if let Err(error) = over {
            tracing::debug!(error = %Chain(&*error), "a connection ended");
        }
        drop(place);
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Small records are to leave at once.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// The requests of a connection.
#[derive(Default)]
struct Requests {
    begun: AtomicUsize,
    underway: AtomicUsize,
}

impl Requests {
    /// Resolves when there has been no request for `time`, or up to twice that: nobody is woken by requests.
    async fn rest(&self, time: Duration) {
        let mut before = self.begun.load(Ordering::Relaxed);
        loop {
            sleep(time).await;
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == before && self.underway.load(Ordering::Relaxed) == 0 {
                return;
            }
            before = begun;
        }
    }
}

/// A request, until its response has been taken or given up.
struct Underway(Arc<Requests>);

impl Underway {
    fn begin(requests: &Arc<Requests>) -> Self {
        requests.begun.fetch_add(1, Ordering::Relaxed);
        requests.underway.fetch_add(1, Ordering::Relaxed);
        Underway(requests.clone())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.underway.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "connections/tests.rs"]
mod tests;
