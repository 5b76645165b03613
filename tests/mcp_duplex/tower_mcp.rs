//! tower-mcp's client and rmcp's server.

use rmcp::{ServiceExt as _, service::QuitReason};
use serde_json::json;
use tower_mcp::client::{ClientTransport, McpClient};
use tower_seal::{
    duplex::{Sealed, Transport},
    error::Code,
    mcp,
    tower_mcp::MessageTransport,
};

use crate::support::*;

async fn converse<A, B>(sides: &Sides, (near, far): (Sealed<A>, Sealed<B>))
where
    A: Transport + Send + 'static,
    B: Transport + Send + 'static,
{
    let server = tokio::spawn(Server::new().serve(mcp::transport(far)));
    let client = McpClient::connect(MessageTransport::new(near)).await.unwrap();
    client.initialize("client", "1").await.unwrap();
    assert_eq!(client.list_tools().await.unwrap().tools.len(), 5);
    let who = client.call_tool_text("whoami", json!({})).await.unwrap();
    assert_eq!(who, sides.client.node_id().to_string());
    let server = server.await.unwrap().unwrap();
    let (closed, ended) = tokio::join!(client.shutdown(), server.waiting());
    closed.unwrap();
    assert!(matches!(ended, Ok(QuitReason::Closed)), "{ended:?}");
    for config in [&sides.client, &sides.server] {
        assert_eq!(config.telemetry().rejections(Code::Truncated), 0);
    }
}

#[tokio::test]
async fn the_client_of_tower_mcp_converses_over_each_way() {
    for way in WAYS {
        let sides = Sides::new();
        match way {
            Way::WebSocket => converse(&sides, sides.websocket().await).await,
            Way::Axum => converse(&sides, sides.axum().await).await,
            Way::Unix => converse(&sides, sides.unix().await).await,
            Way::Pipe => converse(&sides, sides.pipe().await).await,
        }
    }
}

#[tokio::test]
async fn a_server_that_is_gone_fails_the_calls_that_wait() {
    let sides = Sides::new();
    let (near, far) = sides.pipe().await;
    let client = McpClient::connect(MessageTransport::new(near)).await.unwrap();
    let (initialized, ()) = tokio::join!(client.initialize("client", "1"), async {
        let mut far = far;
        futures_util::StreamExt::next(&mut far).await.unwrap().unwrap();
        drop(far);
    });
    assert!(initialized.is_err());
    assert!(!client.is_connected());
    assert_eq!(sides.client.telemetry().rejections(Code::Truncated), 1);
}

#[tokio::test]
async fn an_error_has_its_cause_and_what_is_no_text_is_left_out() {
    let sides = Sides::new();
    let (near, mut far) = sides.pipe().await;
    let mut transport = MessageTransport::new(near);
    for message in [&b"\xff"[..], b"{}"] {
        futures_util::SinkExt::send(&mut far, message.into()).await.unwrap();
    }
    assert_eq!(transport.recv().await.unwrap().as_deref(), Some("{}"));
    drop(far);
    let error = transport.recv().await.unwrap_err().to_string();
    assert!(error.contains("truncated: the connection ended without FINAL"), "{error}");
    let error = transport.send("{}").await.unwrap_err().to_string();
    assert!(error.contains("truncated"), "{error}");
    assert!(!transport.is_connected());
}

/// The clock stands: what this waits for are the limits themselves.
#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever_for_a_far_side_that_reads_nothing() {
    let sides = Sides::new();
    let (near, far) = sides.pipe().await;
    let mut transport = MessageTransport::new(near);
    assert!(transport.is_connected());
    let long = "x".repeat(MIB);
    assert!(futures_util::poll!(transport.send(&long)).is_pending(), "the pipe is full");
    let before = tokio::time::Instant::now();
    let error = transport.close().await.unwrap_err().to_string();
    assert!(error.contains("the far side does not read"), "{error}");
    assert_eq!(before.elapsed().as_secs(), 5);
    drop(far);
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_ends_the_client_as_any_error() {
    let sides = Sides::new();
    let (near, far) = sides.pipe().await;
    let mut transport = MessageTransport::new(near);
    transport.send(&"x".repeat(MIB + 1)).await.unwrap_err();
    assert!(!transport.is_connected());
    drop(far);
}
