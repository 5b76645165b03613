//! Real WebSockets over loopback.

use std::{future::Future, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::{
    Message,
    client::IntoClientRequest as _,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};
use tower_seal::{
    Config, Error,
    duplex::{
        self, Acceptor, Sealed,
        websocket::{self, ClientSocket, Options, SUBPROTOCOL, WebSocket},
    },
    error::Code,
    protocol::{Destination, Initiator},
    telemetry::Metric,
};

use crate::support::*;

type Accepted = Result<Sealed<WebSocket<TcpStream>>, Error>;

/// Accepts one connection; gives the URL of `path`, too.
async fn listen(acceptor: &Acceptor, path: &str) -> (String, impl Future<Output = Accepted> + use<>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}{path}", listener.local_addr().unwrap());
    let acceptor = acceptor.clone();
    (url, async move { websocket::accept(listener.accept().await.unwrap().0, &acceptor).await })
}

async fn pair(sides: &Sides, path: &str) -> (Sealed<ClientSocket>, Sealed<WebSocket<TcpStream>>) {
    let (url, accept) = listen(&sides.acceptor(), path).await;
    let options = Options::new();
    let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), accept);
    (client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn messages_of_every_size_either_way_in_text_and_binary() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        for path in ["", "/", "/mcp", "/mcp?token=1"] {
            let (mut client, mut server) = pair(&sides, path).await;
            converse(&mut client, &mut server).await;
            for size in [8191, 8192, 100_000, MIB] {
                let (sent, got) = tokio::join!(client.send(vec![7; size].into()), server.next());
                sent.unwrap();
                assert_eq!(got.unwrap().unwrap(), vec![7; size]);
                let (sent, got) = tokio::join!(server.send(vec![8; size].into()), client.next());
                sent.unwrap();
                assert_eq!(got.unwrap().unwrap(), vec![8; size]);
            }
            part(&mut client, &mut server).await;
        }
    }
}

/// A WebSocket client that knows nothing of seals, and says what it likes.
async fn stranger(
    url: &str,
    subprotocols: Option<&str>,
) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>> {
    let mut request = url.into_client_request().unwrap();
    if let Some(subprotocols) = subprotocols {
        request.headers_mut().insert("sec-websocket-protocol", subprotocols.parse().unwrap());
    }
    let (stream, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
    stream
}

#[tokio::test]
async fn the_target_has_to_be_the_path_of_the_request() {
    let sides = Sides::new();
    for target in [None, Some("/other"), Some("/mcp?x"), Some("")] {
        let (url, accept) = listen(&sides.acceptor(), "/mcp").await;
        let misled = async {
            let mut stream = stranger(&url, Some("mcp, tower-seal.v1")).await;
            let destination = Destination { target, ..Destination::default() };
            let (hello, _) = Initiator::start(&sides.client, destination, &mut rng()).unwrap();
            stream.send(Message::Text(hello.try_into().unwrap())).await.unwrap();
            let told = stream.next().await.unwrap().unwrap();
            assert!(stream.next().await.unwrap().unwrap().is_close());
            error_code(told.to_text().unwrap())
        };
        let (accepted, told) = tokio::join!(accept, misled);
        assert_eq!((code(accepted), &told[..]), (Code::PathMismatch, "path_mismatch"), "{target:?}");
    }
}

#[tokio::test]
async fn a_gateway_cannot_lead_to_another_service() {
    let sides = Sides::new();
    let (url, accept) = listen(&sides.acceptor(), "").await;
    let address = url.strip_prefix("ws://").unwrap().to_owned();
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/mine", gateway.local_addr().unwrap());
    let rewrite = async move {
        let (mut client, _) = gateway.accept().await.unwrap();
        let mut server = TcpStream::connect(address).await.unwrap();
        let mut head = vec![0; "GET /mine".len()];
        client.read_exact(&mut head).await.unwrap();
        server.write_all(b"GET /yours").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    };
    let options = Options::new();
    let (client, server, ()) =
        tokio::join!(websocket::connect(&url, &sides.client, &options), accept, rewrite);
    assert!(matches!(client.unwrap_err(), Error::Refused { code: Code::PathMismatch, .. }));
    assert_eq!(code(server), Code::PathMismatch);
}

#[tokio::test]
async fn a_client_that_does_not_offer_the_subprotocol_gets_400() {
    let sides = Sides::new();
    for offered in [None, Some("mcp"), Some("tower-seal.v2, mcp")] {
        let (url, accept) = listen(&sides.acceptor(), "/mcp").await;
        let mut request = url.into_client_request().unwrap();
        if let Some(offered) = offered {
            request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        }
        let (accepted, answer) = tokio::join!(accept, tokio_tungstenite::connect_async(request));
        assert_eq!(code(accepted), Code::EncryptionRequired);
        let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = answer else { panic!() };
        assert_eq!(response.status(), 400);
    }
    assert_eq!(sides.server.telemetry().rejections(Code::EncryptionRequired), 3);
}

#[tokio::test]
async fn a_server_that_does_not_name_the_subprotocol_is_left() {
    let sides = Sides::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let options = Options::new();
    let serve = async { tokio_tungstenite::accept_async(listener.accept().await.unwrap().0).await };
    let (client, _server) = tokio::join!(websocket::connect(&url, &sides.client, &options), serve);
    assert!(matches!(client.unwrap_err(), Error::Unsealed { status: 101 }));

    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = tcp.read(&mut request).await.unwrap();
        tcp.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        tcp
    };
    let (client, _server) = tokio::join!(websocket::connect(&url, &sides.client, &options), serve);
    assert!(matches!(client.unwrap_err(), Error::Unsealed { status: 502 }));
}

#[tokio::test]
async fn a_client_does_not_wait_for_a_server_that_has_closed_to_hang_up() {
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    let sides = Sides::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serve = async {
        let tcp = listener.accept().await.unwrap().0;
        #[allow(clippy::result_large_err)]
        let name = |_: &Request, mut response: Response| {
            response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(tcp, name).await.unwrap();
        let (here, mut near) = frames();
        let carry = async {
            for _ in 0..2 {
                near.put(match socket.next().await.unwrap().unwrap() {
                    Message::Text(text) => duplex::Frame::Text(text.into()),
                    other => duplex::Frame::Binary(other.into_data()),
                })
                .await;
                let message = match near.get().await {
                    duplex::Frame::Text(text) => Message::Text(text.try_into().unwrap()),
                    duplex::Frame::Binary(bytes) => Message::Binary(bytes),
                };
                socket.send(message).await.unwrap();
            }
        };
        let (_server, ()) = tokio::join!(sides.accept(here), carry);
        socket.send(Message::Close(None)).await.unwrap();
        socket
    };
    let options = Options::new();
    let (client, _socket) = tokio::join!(websocket::connect(&url, &sides.client, &options), serve);
    assert_failed(&mut client.unwrap(), Code::Truncated).await;
}

#[tokio::test]
async fn too_many_unfinished_handshakes_and_the_next_is_busy() {
    let sides = Sides::limited(|limits| limits.unfinished = 1);
    let acceptor = sides.acceptor();
    let (url, accept) = listen(&acceptor, "/").await;
    let (waiting, silent) = (tokio::spawn(accept), stranger(&url, Some(SUBPROTOCOL)).await);
    let (url, accept) = listen(&acceptor, "/").await;
    let options = Options::new();
    let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), accept);
    assert!(matches!(client.unwrap_err(), Error::Refused { code: Code::Busy, .. }));
    assert_eq!(code(server), Code::Busy);
    drop(silent);
    assert_eq!(code(waiting.await.unwrap()), Code::Truncated);
    let (url, accept) = listen(&acceptor, "/").await;
    let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), accept);
    converse(&mut client.unwrap(), &mut server.unwrap()).await;
}

#[tokio::test]
async fn urls_that_are_none() {
    let sides = Sides::new();
    for url in ["", "http://localhost/", "localhost", "ws://", "ws://u:p@localhost/", "/mcp"] {
        let error = websocket::connect(url, &sides.client, &Options::new()).await.unwrap_err();
        assert!(matches!(error, Error::Misuse { .. }), "{url}");
    }
}

#[tokio::test]
async fn pings_are_answered_and_a_silent_peer_is_left() {
    let ping = std::time::Duration::from_millis(20);
    let sides = Sides::limited(|limits| (limits.ping, limits.pong) = (ping, 100 * SECOND));
    let (mut client, mut server) = pair(&sides, "/").await;
    // Both only wait: whatever passes meanwhile are pings and pongs. `select` ends by neither.
    let rest = tokio::time::timeout(10 * ping, async {
        tokio::select! {
            message = client.next() => panic!("{message:?}"),
            message = server.next() => panic!("{message:?}"),
        }
    });
    assert!(rest.await.is_err());
    converse(&mut client, &mut server).await;

    // A peer that is not polled answers nothing.
    let sides = Sides::limited(|limits| (limits.ping, limits.pong) = (ping, ping));
    let (mut client, _server) = pair(&sides, "/").await;
    assert_failed(&mut client, Code::Timeout).await;
}

#[tokio::test]
async fn a_ping_in_the_wire_format_of_others_is_answered() {
    let sides = Sides::new();
    let (url, accept) = listen(&sides.acceptor(), "/").await;
    let by_hand = async {
        let mut stream = stranger(&url, Some(SUBPROTOCOL)).await;
        stream.send(Message::Ping("are you there".into())).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), Message::Pong("are you there".into()));
    };
    let (accepted, ()) = tokio::join!(accept, by_hand);
    assert_eq!(code(accepted), Code::Truncated);
}

#[tokio::test]
async fn a_stranger_cannot_have_a_long_message_buffered() {
    let sides = Sides::new();
    let (url, accept) = listen(&sides.acceptor(), "/").await;
    let by_hand = async {
        let mut stream = stranger(&url, Some(SUBPROTOCOL)).await;
        // Without an end, so that it would have to be kept.
        let part = Frame::message("{".repeat(MIB), OpCode::Data(Data::Text), false);
        let _ = stream.send(Message::Frame(part)).await;
        stream
    };
    let (accepted, _stream) = tokio::join!(accept, by_hand);
    assert_eq!(code(accepted), Code::TooLarge);
}

#[tokio::test]
async fn a_socket_that_closes_without_final_is_truncated() {
    let sides = Sides::new();
    let (mut client, server) = pair(&sides, "/").await;
    drop(server);
    assert_failed(&mut client, Code::Truncated).await;
}

#[tokio::test]
async fn a_prefix_is_stripped() {
    let sides = Sides::new();
    let acceptor = sides.acceptor().stripped_prefix("/tools").unwrap();
    let (url, accept) = listen(&acceptor, "/tools/mcp").await;
    let options = Options::new();
    let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), accept);
    // Nobody has stripped it on the way.
    assert!(matches!(client.unwrap_err(), Error::Refused { code: Code::PathMismatch, .. }));
    assert_eq!(code(server), Code::PathMismatch);
}

#[tokio::test]
async fn plaintext_goes_by_the_name_of_nothing() {
    let server_config = Config::plaintext();
    let (url, accept) = listen(&Acceptor::new(server_config.clone()), "/mcp").await;
    let (client_config, options) = (Config::plaintext(), Options::new());
    let (client, server) = tokio::join!(websocket::connect(&url, &client_config, &options), accept);
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    converse(&mut client, &mut server).await;
    client.close().await.unwrap();
    assert!(server.next().await.is_none());
    assert_eq!(server_config.telemetry().value(Metric::PlaintextRequests), 1);
}

#[tokio::test]
async fn a_server_in_plaintext_is_left() {
    let sides = Sides::new();
    let (url, accept) = listen(&Acceptor::new(Config::plaintext()), "/mcp").await;
    let options = Options::new();
    let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), accept);
    assert!(matches!(client.unwrap_err(), Error::Unsealed { status: 101 }));
    assert!(server.unwrap().next().await.is_none());
}

#[tokio::test]
async fn a_server_in_transition_takes_who_does_not_offer_the_subprotocol() {
    let mut sides = Sides::new();
    sides.server = sides.server.dangerously_accept_plaintext();
    let (url, accept) = listen(&sides.acceptor(), "/mcp").await;
    let (server, client) = tokio::join!(accept, tokio_tungstenite::connect_async(url));
    let (mut server, (mut client, _)) = (server.unwrap(), client.unwrap());
    assert!(server.verified().is_none());
    client.send(Message::Text("{}".into())).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "{}");
    server.send("[]".into()).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Text("[]".into()));
    // Who offers it has to seal.
    let (mut client, mut server) = pair(&sides, "/").await;
    converse(&mut client, &mut server).await;
    assert!(server.verified().is_some());
}

#[tokio::test]
async fn wss() {
    let sides = Sides::new();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server_tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certified.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into()),
        )
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let client_tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let url = format!("wss://localhost:{}/mcp", listener.local_addr().unwrap().port());
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(server_tls));
    let acceptor = sides.acceptor();
    let accept = || async {
        let tcp = listener.accept().await.unwrap().0;
        websocket::accept(
            tls.accept(tcp).await.map_err(|error| Error::Transport(Arc::new(error)))?,
            &acceptor,
        )
        .await
    };
    let options = Options::new().tls(Arc::new(client_tls));
    let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    converse(&mut client, &mut server).await;
    part(&mut client, &mut server).await;

    // The system's authorities do not know this server.
    let options = Options::new();
    let (client, server) = tokio::join!(websocket::connect(&url, &sides.client, &options), accept());
    assert!(matches!(client.unwrap_err(), Error::Transport(_)));
    assert!(server.is_err());
}
