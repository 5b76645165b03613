//! `rpc::serve` and `rpc::Client` over sealed connections, in both directions at once.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinHandle};
use tower::{Service, ServiceExt as _, service_fn};
use tower_seal::{
    Config, Error,
    duplex::{Sealed, Transport},
    error::Code,
    rpc::{Client, Message, serve},
    telemetry::Metric,
};

use crate::support::*;

type Answer = Result<Option<Bytes>, Infallible>;

/// Answers with who calls and with the method; `never` is not answered.
fn app()
-> impl Service<Message, Response = Option<Bytes>, Error = Infallible, Future = BoxFuture<'static, Answer>> {
    service_fn(|message: Message| -> BoxFuture<'static, Answer> {
        Box::pin(async move {
            let caller = message.caller.map(|caller| caller.node_id().to_string());
            let request: Value = serde_json::from_slice(&message.bytes).unwrap();
            if request["method"] == "never" {
                std::future::pending::<()>().await;
            }
            let result = json!([caller, request["method"]]);
            Ok(Some(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string().into()))
        })
    })
}

struct Side {
    client: Client,
    end: JoinHandle<Result<(), Error>>,
}

fn side<T: Transport + Send + 'static>(config: &Config, sealed: Sealed<T>) -> Side {
    let caller = sealed.verified().unwrap();
    let driver = serve(config, sealed, app()).caller(caller).until_unused();
    Side { client: driver.client(), end: tokio::spawn(driver) }
}

fn sides<A, B>(sides: &Sides, (near, far): (Sealed<A>, Sealed<B>)) -> (Side, Side)
where
    A: Transport + Send + 'static,
    B: Transport + Send + 'static,
{
    (side(&sides.client, near), side(&sides.server, far))
}

async fn over(way: Way, them: &Sides) -> (Side, Side) {
    match way {
        Way::WebSocket => sides(them, them.websocket().await),
        Way::Axum => sides(them, them.axum().await),
        Way::Unix => sides(them, them.unix().await),
        Way::Pipe => sides(them, them.pipe().await),
    }
}

fn request(id: usize, method: &str) -> Bytes {
    json!({ "jsonrpc": "2.0", "id": id, "method": method }).to_string().into()
}

async fn call(client: &Client, message: Bytes) -> Result<Value, Error> {
    let answer = client.clone().oneshot(message.into()).await?.unwrap();
    Ok(serde_json::from_slice(&answer).unwrap())
}

#[tokio::test]
async fn both_sides_call_and_serve_at_once_and_know_each_other() {
    for way in WAYS {
        let them = Sides::new();
        let (near, far) = over(way, &them).await;
        let calls = |client: &Client, peer: Config| {
            let client = client.clone();
            // The ids of both directions are the same, and do not meet.
            let calls = (0..200).map(move |id| {
                let (client, peer) = (client.clone(), peer.node_id().to_string());
                tokio::spawn(async move {
                    let answer = call(&client, request(id, &format!("m{id}"))).await.unwrap();
                    assert_eq!(answer["id"], id);
                    assert_eq!(answer["result"], json!([peer, format!("m{id}")]), "{way:?}");
                })
            });
            calls.collect::<Vec<_>>()
        };
        // Each answers with whom it hears.
        let mut all = calls(&near.client, them.client.clone());
        all.extend(calls(&far.client, them.server.clone()));
        for call in all {
            call.await.unwrap();
        }

        // Whoever has no client any more ends the connection, for both, and well.
        drop(near.client);
        assert!(near.end.await.unwrap().is_ok(), "{way:?}");
        assert!(far.end.await.unwrap().is_ok(), "{way:?}");
        assert!(matches!(call(&far.client, request(1, "m")).await, Err(Error::Transport(_))));
        for config in [&them.client, &them.server] {
            assert_eq!(config.telemetry().rejections(Code::Truncated), 0, "{way:?}");
            assert_eq!(config.telemetry().value(Metric::ConnectionsLive), 0, "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_fails_alone() {
    let them = Sides::new();
    let (near, far) = over(Way::Pipe, &them).await;
    let waiting = tokio::spawn({
        let client = near.client.clone();
        async move { call(&client, request(1, "never")).await }
    });
    let error = call(&near.client, request(2, &"x".repeat(MIB))).await.unwrap_err();
    assert!(matches!(error, Error::Misuse { .. }), "{error:?}");
    // What is taken, but whose answer is too large.
    let answer = call(&near.client, request(3, &"x".repeat(MIB - 60))).await.unwrap();
    assert_eq!(answer["error"]["code"], 413);
    assert_eq!(call(&near.client, request(4, "m")).await.unwrap()["result"][1], "m");
    assert!(!waiting.is_finished());
    drop((near.client, far));
    // With the far side gone.
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn a_side_that_is_killed_fails_the_calls_of_the_other_with_the_reason() {
    let them = Sides::new();
    let (near, far) = them.websocket().await;
    let near = side(&them.client, near);
    let config = them.server.clone();
    let process = Runtime::new().unwrap();
    let (tell, mut begun) = tokio::sync::mpsc::unbounded_channel();
    process.spawn(async move {
        let service = service_fn(move |_: Message| {
            tell.send(()).unwrap();
            std::future::pending::<Answer>()
        });
        serve(&config, far, service).await
    });
    let calls: Vec<_> = (0..3)
        .map(|id| {
            let client = near.client.clone();
            tokio::spawn(async move { call(&client, request(id, "m")).await })
        })
        .collect();
    for _ in 0..3 {
        begun.recv().await.unwrap();
    }
    process.shutdown_background();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().code(), Some(Code::Truncated));
    }
    assert_eq!(near.end.await.unwrap().unwrap_err().code(), Some(Code::Truncated));
    assert_eq!(call(&near.client, request(9, "m")).await.unwrap_err().code(), Some(Code::Truncated));
}
