//! Without any seal: for tests, and, where a server says so, for a transition.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower_seal::{
    Config, Error,
    config::Encoding,
    duplex::{self, Acceptor, pipe},
    protocol::Destination,
    telemetry::Metric,
};

use crate::support::*;

#[tokio::test]
async fn frames_pass_as_they_are() {
    let (client_config, server_config) = (Config::plaintext(), Config::plaintext());
    let (here, there) = frames();
    let acceptor = Acceptor::new(server_config.clone());
    let (client, server) = tokio::join!(
        duplex::connect(here, &client_config, Destination::default()),
        duplex::accept(there, &acceptor, Some("/mcp"))
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert!(client.verified().is_none() && server.verified().is_none());
    assert!(matches!(client.export(b"", b"", &mut [0; 32]), Err(Error::Misuse { .. })));
    converse(&mut client, &mut server).await;
    for config in [client_config, server_config] {
        assert_eq!(config.telemetry().value(Metric::PlaintextRequests), 1);
        assert_eq!(config.telemetry().value(Metric::ConnectionsLive), 1);
    }
    client.close().await.unwrap();
    assert!(server.next().await.is_none());
}

#[tokio::test]
async fn a_pipe_is_lines_of_text() {
    let (mut here, there) = tokio::io::duplex(100);
    let acceptor = Acceptor::new(Config::plaintext());
    let mut server = pipe::accept(there, &acceptor).await.unwrap();
    here.write_all(b"[1]\n{\"a\":1}\n").await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "[1]");
    assert_eq!(server.next().await.unwrap().unwrap(), "{\"a\":1}");
    server.send("[2]".into()).await.unwrap();
    server.close().await.unwrap();
    let mut got = String::new();
    here.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "[2]\n");
}

#[tokio::test]
async fn a_server_in_transition_takes_both() {
    let mut sides = Sides::speaking(Encoding::Json);
    sides.server = sides.server.dangerously_accept_plaintext();
    let acceptor = sides.acceptor();

    let (mut here, there) = tokio::io::duplex(1000);
    here.write_all(b"{\"jsonrpc\":\"2.0\"}\n{}\n").await.unwrap();
    let mut server = pipe::accept(there, &acceptor).await.unwrap();
    assert!(server.verified().is_none());
    assert_eq!(server.next().await.unwrap().unwrap(), "{\"jsonrpc\":\"2.0\"}");
    assert_eq!(server.next().await.unwrap().unwrap(), "{}");
    assert_eq!(sides.server.telemetry().value(Metric::PlaintextRequests), 1);

    let (here, there) = tokio::io::duplex(1000);
    let (client, server) = tokio::join!(
        pipe::connect(here, &sides.client, Destination::default()),
        pipe::accept(there, &acceptor)
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert!(server.verified().is_some());
    converse(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_server_in_transition_takes_what_json_rpc_may_say() {
    let mut sides = Sides::new();
    sides.server = sides.server.dangerously_accept_plaintext();
    let acceptor = sides.acceptor();
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"x":null}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"x"},{"jsonrpc":"2.0","id":2,"method":"y"}]"#,
    ] {
        let (mut here, there) = tokio::io::duplex(1000);
        here.write_all(line.as_bytes()).await.unwrap();
        here.write_all(b"\n[]\n").await.unwrap();
        let mut server = pipe::accept(there, &acceptor).await.unwrap();
        assert!(server.verified().is_none());
        assert_eq!(server.next().await.unwrap().unwrap(), line);
        assert_eq!(server.next().await.unwrap().unwrap(), "[]");
    }
}

#[tokio::test]
async fn what_a_line_cannot_hold_ends_nothing() {
    let (here, there) = tokio::io::duplex(1 << 16);
    let (config, acceptor) = (Config::plaintext(), Acceptor::new(Config::plaintext()));
    let (client, server) =
        tokio::join!(pipe::connect(here, &config, Destination::default()), pipe::accept(there, &acceptor));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.send("{\n  \"a\": 1\n}".into()).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "{   \"a\": 1 }");
    assert!(matches!(client.send(vec![0xff; 10].into()).await, Err(Error::Misuse { .. })));
    assert!(matches!(client.send(vec![b'x'; MIB + 1].into()).await, Err(Error::Misuse { .. })));
    client.send("still".into()).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), "still");
}
