//! WebSocket clients of the stdio server: a handshake, then a child of their own.

use std::{sync::Arc, time::Duration};

use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::create_response,
        protocol::{Role, WebSocketConfig, frame::Utf8Bytes},
    },
};
use tower_seal::{
    Error,
    duplex::{
        Acceptor,
        websocket::{SUBPROTOCOL, Upgrade},
    },
    error::Code,
    protocol::{MAX_HANDSHAKE, error_message},
};

use crate::{
    child::{self, Children},
    connections::Place,
    daemon::Tasks,
    problem,
    upstream::AnyBody,
};

/// How long a client for whom there is no room may take to say hello, so that it can be told so.
const COURTESY: Duration = Duration::from_secs(1);

/// The subprotocol of MCP over WebSocket, which is answered where nothing is sealed.
const MCP: &str = "mcp";

const BUSY: Error =
    Error::Unavailable { code: Code::Busy, reason: "as many servers run as --max-children allows" };

/// The side of the children.
#[derive(Clone)]
pub(super) struct Stdio {
    acceptor: Acceptor,
    children: Arc<Children>,
    tasks: Tasks,
}

impl Stdio {
    pub(super) fn new(acceptor: Acceptor, children: Arc<Children>, tasks: Tasks) -> Self {
        Stdio { acceptor, children, tasks }
    }

    /// The answer to a request to upgrade. What follows it is a task.
    pub(super) fn answer(&self, mut request: Parts) -> Response<AnyBody> {
        let place = request.extensions.get::<Option<Place>>().cloned();
        if self.children.are_too_many() {
            self.children.count_refused();
            return self.refuse(request, place);
        }
        let speaks_mcp = offers(&request, MCP);
        let accepted = Upgrade::from_parts(&mut request).and_then(|upgrade| upgrade.accept(&self.acceptor));
        let (mut response, connection) = match accepted {
            Ok(accepted) => accepted,
            Err(refusal) => return boxed(refusal.into_response()),
        };
        if self.acceptor.config().is_plaintext() && speaks_mcp {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MCP));
        }
        let (children, tasks) = (self.children.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            let sealed = tokio::select! {
                sealed = connection => sealed,
                () = tasks.end().cancelled() => return,
            };
            match sealed {
                Ok(sealed) => child::carry(sealed, &children, &tasks).await,
                Err(error) => tracing::debug!(error = %error, "a client was not let in"),
            }
            drop(place);
        });
        boxed(response)
    }

    /// There is no room, and that is known before anything is spent on the client: in the protocol's words (section
    /// 9), or as HTTP does where nothing is sealed.
    fn refuse(&self, mut request: Parts, place: Option<Option<Place>>) -> Response<AnyBody> {
        let upgrade = request.extensions.remove::<OnUpgrade>();
        let answer = create_response(&without_body(&request)).ok();
        let (Some(upgrade), Some(mut answer), true) = (upgrade, answer, offers(&request, SUBPROTOCOL)) else {
            let mut response = problem::respond("busy", "As many servers run as may: try again later.");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        };
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        self.tasks.spawn(async move {
            let _ = timeout(COURTESY, tell_busy(upgrade)).await;
            drop(place);
        });
        answer.map(|()| Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync())
    }
}

async fn tell_busy(upgrade: OnUpgrade) -> Option<()> {
    let limits = WebSocketConfig::default()
        .read_buffer_size(MAX_HANDSHAKE)
        .max_message_size(Some(MAX_HANDSHAKE))
        .max_frame_size(Some(MAX_HANDSHAKE));
    let io = TokioIo::new(upgrade.await.ok()?);
    let mut client = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
    // A connection with something unread is reset when it is closed, and the answer may be lost.
    client.next().await?.ok()?;
    let busy = Utf8Bytes::try_from(error_message(&BUSY)).ok()?;
    client.send(Message::Text(busy)).await.ok()?;
    client.close(None).await.ok()?;
    while let Some(Ok(_)) = client.next().await {}
    Some(())
}

fn offers(request: &Parts, protocol: &str) -> bool {
    let offered = request.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == protocol)
}

fn without_body(request: &Parts) -> Request<()> {
    let mut bare = Request::new(());
    *bare.method_mut() = request.method.clone();
    *bare.version_mut() = request.version;
    *bare.headers_mut() = request.headers.clone();
    bare
}

fn boxed(response: Response<axum::body::Body>) -> Response<AnyBody> {
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}
