//! A WebSocket beside other routes of an axum server.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tower_seal::{
    Error,
    duplex::{
        Acceptor, Sealed,
        websocket::{self, Options, Upgrade, Upgraded, WebSocket},
    },
    error::Code,
};

use crate::support::*;

type Accepted = Result<Sealed<WebSocket<Upgraded>>, Error>;

struct Server {
    address: std::net::SocketAddr,
    accepted: mpsc::UnboundedReceiver<Accepted>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(acceptor: Acceptor) -> Server {
    let (give, accepted) = mpsc::unbounded_channel();
    let handler = async |upgrade: Upgrade,
                         State((acceptor, give)): State<(Acceptor, mpsc::UnboundedSender<Accepted>)>|
           -> Response {
        match upgrade.accept(&acceptor) {
            Ok((response, connection)) => {
                tokio::spawn(async move { give.send(connection.await) });
                response
            }
            Err(refusal) => refusal.into_response(),
        }
    };
    let app = Router::new()
        .route("/mcp", get(handler))
        .route("/health", get(|| async { "ok" }))
        .with_state((acceptor, give));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Server { address, accepted, task }
}

#[tokio::test]
async fn a_route_is_a_sealed_websocket() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let mut server = serve(sides.acceptor()).await;
        let url = format!("ws://{}/mcp?token=x", server.address);
        let mut client = websocket::connect(&url, &sides.client, &Options::new()).await.unwrap();
        let mut sealed = server.accepted.recv().await.unwrap().unwrap();
        assert_eq!(sealed.verified().unwrap().node_id(), sides.client.node_id());
        converse(&mut client, &mut sealed).await;
        let (sent, got) = tokio::join!(client.send(vec![1; MIB].into()), sealed.next());
        sent.unwrap();
        assert_eq!(got.unwrap().unwrap().len(), MIB);
        part(&mut client, &mut sealed).await;
    }
}

#[tokio::test]
async fn strangers_wrong_subprotocols_and_plain_requests_are_refused() {
    let sides = Sides::new();
    sides.clients.remove(sides.client.node_id());
    let mut server = serve(sides.acceptor()).await;
    let url = format!("ws://{}/mcp", server.address);
    let error = websocket::connect(&url, &sides.client, &Options::new()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::UntrustedPeer, .. }), "{error:?}");
    assert_eq!(code(server.accepted.recv().await.unwrap()), Code::UntrustedPeer);

    let error = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(response) = error else { panic!("{error:?}") };
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);

    let answer = reqwest::get(format!("http://{}/mcp", server.address)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer = reqwest::get(format!("http://{}/health", server.address)).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok");
}
