//! rmcp talks to rmcp.

use serde_json::json;
use tower_seal::telemetry::Metric;

use crate::support::*;

#[tokio::test]
async fn converses_over_each_way_in_each_era() {
    for (way, era) in WAYS.into_iter().flat_map(|way| [(way, Era::Legacy), (way, Era::Modern)]) {
        let mut world = World::over(way, era).await;
        assert_eq!(world.client.list_all_tools().await.unwrap().len(), 5, "{way:?} {era:?}");
        let client = world.sides.client.node_id().to_string();
        assert_eq!(world.call("whoami", json!({})).await, client, "{way:?} {era:?}");

        world.call("count", json!({ "number": 3 })).await;
        for step in [1.0, 2.0, 3.0] {
            assert_eq!(world.heard.recv().await, Some(step), "{way:?} {era:?}");
        }
        if era == Era::Legacy {
            let server = world.sides.server.node_id();
            assert_eq!(world.call("consult", json!({})).await, format!("file:///here {server}"), "{way:?}");
        }
    }
}

#[tokio::test]
async fn many_calls_at_once_each_get_their_own_answer() {
    let world = World::over(Way::WebSocket, Era::Legacy).await;
    let calls = (0..200).map(|number| {
        let peer = world.client.peer().clone();
        tokio::spawn(async move { peer.call_tool(params("large", json!({ "number": number }))).await })
    });
    for (number, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(text(&call.await.unwrap().unwrap()).len(), number);
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_at_the_server() {
    for (way, era) in WAYS.into_iter().flat_map(|way| [(way, Era::Legacy), (way, Era::Modern)]) {
        let mut world = World::over(way, era).await;
        let (first, second) = (world.hang().await, world.hang().await);
        first.cancel(None).await.unwrap();
        world.hangs.wait_for(|hangs| hangs.cancelled == 1).await.unwrap();
        second.cancel(None).await.unwrap();
        world.hangs.wait_for(|hangs| hangs.cancelled == 2).await.unwrap();
        assert_eq!(world.call("large", json!({ "number": 1 })).await, "x", "{way:?} {era:?}");
    }
}

/// A stock server knows nothing of records, nor of how long they may be.
#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_and_others_follow() {
    let world = World::over(Way::Pipe, Era::Legacy).await;
    assert_eq!(world.call("large", json!({ "number": MIB - 1000 })).await.len(), MIB - 1000);
    let error = world.client.call_tool(params("large", json!({ "number": MIB }))).await.unwrap_err();
    let rmcp::ServiceError::McpError(error) = error else { panic!("{error:?}") };
    assert_eq!(error.code.0, 413);

    let error = world.client.call_tool(params("whoami", json!({ "x": "x".repeat(MIB) }))).await.unwrap_err();
    assert!(matches!(error, rmcp::ServiceError::TransportSend(_)), "{error:?}");
    assert_eq!(world.call("large", json!({ "number": 1 })).await, "x");
    assert_eq!(world.sides.client.telemetry().value(Metric::ConnectionsLive), 1);
}
