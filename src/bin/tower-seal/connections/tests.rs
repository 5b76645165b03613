#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use axum::{Router, body::Body as AnyBody, routing::any};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    time::timeout,
};

use super::*;

/// Far more than anything takes.
const LONG: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame (RFC 9113, section 6.5).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn start(most: usize, silence: Duration, app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections { most, silence, ..Connections::default() };
    tokio::spawn(async move { connections.serve(&listener, app).await });
    address
}

async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// All that comes, to the end.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ = timeout(LONG, stream.read_to_end(&mut text)).await.expect("it is closed");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn who_says_nothing_of_use_is_put_out_and_who_asks_is_served() {
    let finish = Arc::new(Notify::new());
    let finished = finish.clone();
    let slow = move || {
        let finished = finished.clone();
        let end = futures_util::stream::once(async move {
            finished.notified().await;
            Ok::<_, Infallible>(Bytes::from("the end"))
        });
        let begin = futures_util::stream::iter([Ok(Bytes::from("the beginning"))]);
        let body = AnyBody::from_stream(futures_util::StreamExt::chain(begin, end));
        std::future::ready(Response::new(body))
    };
    let app = Router::new().route("/slow", any(slow)).fallback(|| async { "hello" });
    let silent: [&[u8]; 8] = [
        b"",
        b"P",
        &PREFACE[..14],
        PREFACE,
        &[PREFACE, SETTINGS].concat(),
        b"GET / HTTP/1.1\r\nhost: a\r\n",
        // After a request, too.
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nPOST",
    ];
    // They take all the room but one.
    let address = start(silent.len() + 1, Duration::from_secs(2), app).await;
    let mut honest = send(address, b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let mut head = [0; 12];
    honest.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut all = Vec::new();
    for bytes in silent {
        all.push(tokio::spawn(rest(send(address, bytes).await)));
    }
    let late = send(address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(rest(late).await.ends_with("hello"), "there is room again");
    for (bytes, closed) in silent.into_iter().zip(all) {
        closed.await.unwrap_or_else(|_| panic!("{} stays", String::from_utf8_lossy(bytes)));
    }
    // Whoever has a request under way has all the time.
    finish.notify_one();
    assert!(rest(honest).await.contains("the end"));
}
