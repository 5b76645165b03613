//! A server that runs until it is told to stop, and then lets what it has begun come to an end.

use std::{convert::Infallible, future::Future, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tower_service::Service;

use crate::{
    BoxError,
    failure::{Exit, Failure},
};

/// How long streams may run on after the order to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections served at once; further ones wait in the system's queue.
const MOST_CONNECTIONS: usize = 8192;
/// How long a client may take for the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// The pause after an error of `accept`, such as that no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens; the address is that which was got, where port 0 was asked for. `option` is who asked.
pub(crate) async fn listen(option: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    listen.await.map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program has it: stop that, or give another",
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: give one of its own with"
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need rights: give a higher one with",
            _ => "give another",
        };
        Failure::new(Exit::Listen, format!("cannot listen on {address} ({error}): {remedy} {option}"))
    })
}

/// Prints the first line, which programs read.
pub(crate) fn announce(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write to stdout ({error})")))
}

/// Serves until SIGTERM or Ctrl-C, then for [`DRAIN`] what has begun.
pub(crate) async fn serve<S, B>(listener: TcpListener, service: S) -> Result<(), Failure>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut stop = std::pin::pin!(stop_signal()?);
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    http.http2().timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = async {
            let permit = room.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // Small records are to leave at once.
                let _ = stream.set_nodelay(true);
                let service = TowerToHyperService::new(service.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(error = %error, "a connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracing::info!("stopping: no new connections, streams get {} s", DRAIN.as_secs());
    let again = stop_signal()?;
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => tracing::info!("streams were still running, and end now"),
        () = again => {}
    }
    Ok(())
}

/// Resolves with the first SIGTERM or Ctrl-C after this call.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error| Failure::new(Exit::Failed, format!("cannot wait for signals ({error})"));
    #[cfg(unix)]
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(failed)?;
    #[cfg(unix)]
    let mut interrupt =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(failed)?;
    #[cfg(not(unix))]
    let _ = failed;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}
