//! A server that runs until it is told to stop, and then lets what it has begun come to an end.

use std::{convert::Infallible, future::Future, io::Write as _, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{
    BoxError,
    connections::Connections,
    failure::{Exit, Failure},
};

/// How long streams may run on after the order to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long what was upgraded may take for its end after the second such order.
const HURRY: Duration = Duration::from_secs(2);

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

/// Prints a line, which programs read.
pub(crate) fn announce(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write to stdout ({error})")))
}

/// What runs on when its request has been answered: connections that were upgraded.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    end: CancellationToken,
    hurry: CancellationToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// [`DRAIN`] is over: what still runs has to come to an end.
    pub(crate) fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// The second signal: there is no time left.
    pub(crate) fn hurry(&self) -> &CancellationToken {
        &self.hurry
    }
}

/// Prints `first_line`, and serves until SIGTERM or Ctrl-C, then for [`DRAIN`] what has begun.
pub(crate) async fn serve<S, B>(listener: TcpListener, service: S, first_line: &str) -> Result<(), Failure>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    serve_with(listener, service, &Tasks::default(), first_line).await
}

/// The same, where requests leave `tasks` behind.
pub(crate) async fn serve_with<S, B>(
    listener: TcpListener,
    service: S,
    tasks: &Tasks,
    first_line: &str,
) -> Result<(), Failure>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut stop = std::pin::pin!(stop_signal()?);
    // Whoever has read it may give signals.
    announce(first_line)?;
    let connections = Connections::default();
    tokio::select! {
        never = connections.serve(&listener, service) => match never {},
        () = &mut stop => {}
    }
    drop(listener);
    tracing::info!("stopping: no new connections, streams get {} s", DRAIN.as_secs());
    let mut again = std::pin::pin!(stop_signal()?);
    tasks.tracker.close();
    let over = async {
        connections.end().await;
        tasks.tracker.wait().await;
    };
    let mut hurried = tokio::select! {
        () = over => false,
        () = sleep(DRAIN) => {
            tracing::info!("streams were still running, and end now");
            false
        }
        () = &mut again => true,
    };
    tasks.end.cancel();
    if !hurried {
        tokio::select! {
            () = tasks.tracker.wait() => {}
            () = &mut again => hurried = true,
        }
    }
    if hurried {
        tasks.hurry.cancel();
        let _ = timeout(HURRY, tasks.tracker.wait()).await;
    }
    Ok(())
}

/// Resolves with the first SIGTERM or Ctrl-C after this call.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
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
