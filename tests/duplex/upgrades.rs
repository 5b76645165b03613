//! A WebSocket beside other routes of an axum server.

use axum::{
    Router,
    extract::{OriginalUri, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use tokio::{io::AsyncReadExt as _, net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tower_seal::{
    Error,
    duplex::{
        Acceptor, Sealed,
        websocket::{self, Options, SUBPROTOCOL, Upgrade, Upgraded, WebSocket},
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

#[tokio::test]
async fn too_many_unfinished_handshakes_and_the_next_is_busy() {
    let sides = Sides::limited(|limits| limits.unfinished = 1);
    let mut server = serve(sides.acceptor()).await;
    let url = format!("ws://{}/mcp", server.address);
    let mut request = url.clone().into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    let (silent, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let error = websocket::connect(&url, &sides.client, &Options::new()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Busy, .. }), "{error:?}");
    assert_eq!(code(server.accepted.recv().await.unwrap()), Code::Busy);
    drop(silent);
    assert_eq!(code(server.accepted.recv().await.unwrap()), Code::Truncated);
    let mut client = websocket::connect(&url, &sides.client, &Options::new()).await.unwrap();
    converse(&mut client, &mut server.accepted.recv().await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn below_another_router_the_path_is_the_one_that_the_client_asked_for() {
    let sides = Sides::new();
    let (give, mut accepted) = mpsc::unbounded_channel::<Accepted>();
    let handler = async |OriginalUri(uri): OriginalUri,
                         upgrade: Upgrade,
                         State((acceptor, give)): State<(Acceptor, mpsc::UnboundedSender<Accepted>)>|
           -> Response {
        let (response, connection) = upgrade.at(uri.path()).accept(&acceptor).unwrap();
        tokio::spawn(async move { give.send(connection.await) });
        response.into_response()
    };
    let inner = Router::new().route("/mcp", get(handler)).with_state((sides.acceptor(), give));
    let app = Router::new().nest("/tools", inner);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/tools/mcp", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut client = websocket::connect(&url, &sides.client, &Options::new()).await.unwrap();
    converse(&mut client, &mut accepted.recv().await.unwrap().unwrap()).await;
    task.abort();
}

#[tokio::test]
async fn a_field_that_a_gateway_asks_for_goes_with_the_request() {
    let sides = Sides::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let options = Options::new().outer_header(
        http::HeaderName::from_static("x-gateway"),
        http::HeaderValue::from_static("open sesame"),
    );
    let gateway = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(tcp.read_u8().await.unwrap());
        }
        String::from_utf8(request).unwrap()
    };
    let (client, request) = tokio::join!(websocket::connect(&url, &sides.client, &options), gateway);
    assert!(request.contains("x-gateway: open sesame\r\n"), "{request}");
    assert_eq!(code(client), Code::Truncated);
}
