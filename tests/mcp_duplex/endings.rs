//! How rmcp's connections end.

use std::sync::mpsc as std_mpsc;

use rmcp::{ServiceError, ServiceExt as _, service::QuitReason};
use tokio::{net::TcpListener, runtime::Runtime};
use tower_seal::{
    config::Config,
    duplex::websocket::{self, Options},
    error::Code,
    mcp,
    telemetry::Metric,
};

use crate::support::*;

/// The connection is gone, and ended with authenticated words.
#[track_caller]
fn ended_well(config: &Config) {
    let telemetry = config.telemetry();
    assert_eq!(telemetry.value(Metric::ConnectionsLive), 0);
    let rejections: Vec<_> = Code::ALL.iter().filter(|&&code| telemetry.rejections(code) > 0).collect();
    assert!(rejections.is_empty(), "{rejections:?}");
}

#[tokio::test]
async fn a_client_that_goes_ends_the_server_well() {
    for way in WAYS {
        let World { sides, client, server, .. } = World::over(way, Era::Legacy).await;
        let server = server.await.unwrap();
        let (client, server) = tokio::join!(client.cancel(), server.waiting());
        assert!(matches!(client, Ok(QuitReason::Cancelled)), "{way:?} {client:?}");
        assert!(matches!(server, Ok(QuitReason::Closed)), "{way:?} {server:?}");
        ended_well(&sides.client);
        ended_well(&sides.server);
    }
}

#[tokio::test]
async fn a_server_that_goes_ends_the_client_well_and_its_calls_with_an_error() {
    for way in WAYS {
        let mut world = World::over(way, Era::Legacy).await;
        // In flight on the client's side only: the answer of a call that the server cancels would come first.
        let peer = world.client.peer().clone();
        let hang = world.hang().await;
        drop(hang);
        let World { sides, client, server, .. } = world;
        let server = server.await.unwrap();
        let (client, server) = tokio::join!(client.waiting(), server.cancel());
        assert!(matches!(client, Ok(QuitReason::Closed)), "{way:?} {client:?}");
        assert!(matches!(server, Ok(QuitReason::Cancelled)), "{way:?} {server:?}");
        assert!(matches!(peer.list_tools(None).await, Err(ServiceError::TransportClosed)), "{way:?}");
        ended_well(&sides.client);
        ended_well(&sides.server);
    }
}

#[tokio::test]
async fn a_server_that_is_killed_fails_the_calls_that_wait_and_those_that_follow() {
    let sides = Sides::new();
    let (tell, told) = std_mpsc::channel();
    let (acceptor, server) = (sides.acceptor(), Server::new());
    let mut hangs = server.hangs.subscribe();
    // As good as a process of its own: everything of it is dropped where it stands.
    let process = Runtime::new().unwrap();
    process.spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        let sealed = websocket::accept(listener.accept().await.unwrap().0, &acceptor).await.unwrap();
        server.serve(mcp::transport(sealed)).await.unwrap().waiting().await.unwrap();
    });
    let url = format!("ws://{}/mcp", told.recv().unwrap());
    let sealed = websocket::connect(&url, &sides.client, &Options::new()).await.unwrap();
    let client = ().serve(mcp::transport(sealed)).await.unwrap();
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let peer = client.peer().clone();
            tokio::spawn(async move { peer.call_tool(params("hang", serde_json::json!({}))).await })
        })
        .collect();
    hangs.wait_for(|hangs| hangs.started == 3).await.unwrap();
    process.shutdown_background();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, ServiceError::TransportClosed), "{error:?}");
    }
    assert!(client.list_tools(None).await.is_err());
    assert!(matches!(client.waiting().await, Ok(QuitReason::Closed)));
    // Nobody said that this is the end.
    assert_eq!(sides.client.telemetry().rejections(Code::Truncated), 1);
    assert_eq!(sides.client.telemetry().value(Metric::ConnectionsLive), 0);
}

#[tokio::test]
async fn a_client_that_is_killed_ends_the_server() {
    let sides = Sides::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, config) = (format!("ws://{}/mcp", listener.local_addr().unwrap()), sides.client.clone());
    let process = Runtime::new().unwrap();
    process.spawn(async move {
        let sealed = websocket::connect(&url, &config, &Options::new()).await.unwrap();
        let client = ().serve(mcp::transport(sealed)).await.unwrap();
        let _ = client.call_tool(params("hang", serde_json::json!({}))).await;
    });
    let sealed = websocket::accept(listener.accept().await.unwrap().0, &sides.acceptor()).await.unwrap();
    let server = Server::new();
    let mut hangs = server.hangs.subscribe();
    let server = server.serve(mcp::transport(sealed)).await.unwrap();
    hangs.wait_for(|hangs| hangs.started == 1).await.unwrap();
    process.shutdown_background();
    assert!(matches!(server.waiting().await, Ok(QuitReason::Closed)));
    // After rmcp's own patience with calls that run.
    hangs.wait_for(|hangs| hangs.cancelled == 1).await.unwrap();
    assert_eq!(sides.server.telemetry().rejections(Code::Truncated), 1);
    assert_eq!(sides.server.telemetry().value(Metric::ConnectionsLive), 0);
}
