//! Connections of bytes: lines over a pipe.

use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _, sink::Sink};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tower_seal::{
    Config,
    rpc::{Client, serve},
};

use crate::{far::call, support::*};

/// One JSON message a line.
fn lines(
    pipe: DuplexStream,
) -> impl Stream<Item = Result<Bytes, LinesCodecError>> + Sink<Bytes, Error = LinesCodecError> {
    Framed::new(pipe, LinesCodec::new_with_max_length(MIB))
        .map(|line| line.map(Bytes::from))
        .with(async |message: Bytes| Ok(String::from_utf8_lossy(&message).into_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_through_a_pipe_of_64_bytes() {
    let _watchdog = Watchdog::start();
    let (left, right) = tokio::io::duplex(64);
    let server = tokio::spawn(serve(&Config::plaintext(), lines(left), echo()));
    let (client, driver) = Client::connect(&Config::plaintext(), lines(right));
    tokio::spawn(driver);
    let calls: Vec<_> = (0..1000)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move { call(&client, request(i, &format!("m{i}"))).await })
        })
        .collect();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(parse(&call.await.unwrap().unwrap().unwrap())["result"], format!("m{i}"));
    }
    drop(client);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn lines_of_no_use_do_not_end_the_connection() {
    let _watchdog = Watchdog::start();
    let (mut by_hand, pipe) = tokio::io::duplex(4096);
    let server = tokio::spawn(serve(&Config::plaintext(), lines(pipe), echo()));
    by_hand.write_all(b"\n{\n[]\n{\"id\":1,\"method\":\"m\"}\n").await.unwrap();
    let mut text = String::new();
    while text.matches('\n').count() < 4 {
        let mut bytes = [0; 512];
        let length = by_hand.read(&mut bytes).await.unwrap();
        text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    let mut answers: Vec<_> = text.lines().map(|line| parse(line.as_bytes())).collect();
    assert_eq!(answers.pop().unwrap()["result"], "m");
    let codes: Vec<_> = answers.iter().map(|answer| answer["error"]["code"].clone()).collect();
    assert_eq!(codes, [json!(-32700), json!(-32700), json!(-32600)]);
    drop(by_hand);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_line_beyond_the_limit_ends_the_connection() {
    let _watchdog = Watchdog::start();
    let (mut by_hand, pipe) = tokio::io::duplex(4096);
    let server = tokio::spawn(serve(&Config::plaintext(), lines(pipe), echo()));
    let flood = tokio::spawn(async move {
        let _ = by_hand.write_all(&vec![b'a'; 2 * MIB]).await;
        by_hand
    });
    assert!(server.await.unwrap().is_err());
    flood.await.unwrap();
}
