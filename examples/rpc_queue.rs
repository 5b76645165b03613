//! Sealed JSON-RPC through a message queue: `cargo run --features rpc --example rpc_queue`

use std::convert::Infallible;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_seal::{
    Config, Identity,
    rpc::{Message, SealLayer, UnsealLayer},
    trust::Pinned,
};

/// A frame, and where its answer goes.
type Job = (Bytes, oneshot::Sender<Option<Bytes>>);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let (alice_id, bob_id) = (alice.node_id(), bob.node_id());

    // The queue: whoever runs it sees frames.
    let (queue, mut jobs) = mpsc::channel::<Job>(100);

    // Bob takes jobs off it.
    let app = service_fn(async |message: Message| {
        let Some(caller) = message.caller else { return Ok(None) };
        let request: serde_json::Value = serde_json::from_slice(&message.bytes).unwrap_or_default();
        let result = format!("hello, {}", caller.node_id().short());
        let answer = serde_json::json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
        Ok::<_, Infallible>(Some(answer.to_string().into()))
    });
    let worker = UnsealLayer::new(Config::new(bob, Pinned::new([alice_id]))).target("greetings").layer(app);
    tokio::spawn(async move {
        while let Some((frame, answer)) = jobs.recv().await {
            println!("in the queue: {} bytes, the first is {:02x?}", frame.len(), frame.first());
            let Ok(frame) = worker.clone().oneshot(frame).await;
            let _ = answer.send(frame);
        }
    });

    // Alice puts jobs in.
    let transport = service_fn(move |frame: Bytes| {
        let queue = queue.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            queue.send((frame, answer)).await.map_err(|_| "the queue is gone")?;
            answered.await.map_err(|_| "the worker is gone")
        }
    });
    let seal = SealLayer::new(Config::new(alice, Pinned::new([bob_id]))).target("greetings");
    let rpc = ServiceBuilder::new().layer(seal).service(transport);
    for id in 1..=2 {
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"greet"}}"#);
        let answer = rpc.clone().oneshot(request.into()).await?.unwrap_or_default();
        println!("{}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}
