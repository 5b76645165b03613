//! tower's own middleware, above and below everything in this room.

use std::{
    error::Error as _,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tower::{
    BoxError, Layer as _, Service, ServiceBuilder, ServiceExt as _, buffer::Buffer,
    load_shed::error::Overloaded, timeout::error::Elapsed, util::BoxCloneSyncService,
};
use tower_seal::{
    Config,
    rpc::{Client, Message, NotSent, SealLayer, UnsealLayer, serve},
    telemetry::Metric,
};

use crate::{far::*, support::*};

/// A call to a service of frames or of messages.
async fn one<S, M>(service: &S, message: M) -> Result<Option<Bytes>, BoxError>
where
    S: Service<M, Response = Option<Bytes>, Error = BoxError> + Clone,
{
    service.clone().oneshot(message).await
}

/// Answers when the gate is open; how many are inside, and how many have been at most.
fn gated() -> (App, Gate, Arc<Mutex<(usize, usize)>>) {
    let (gate, inside) = (Gate::new(), Arc::new(Mutex::new((0, 0))));
    let (held, count) = (gate.clone(), inside.clone());
    let app = app(move |message| {
        let (held, count) = (held.clone(), count.clone());
        async move {
            {
                let mut count = count.lock().unwrap();
                count.0 += 1;
                count.1 = count.1.max(count.0);
            }
            held.pass().await;
            count.lock().unwrap().0 -= 1;
            reply(&parse(&message.bytes))
        }
    });
    (app, gate, inside)
}

#[tokio::test(start_paused = true)]
async fn around_the_layers() {
    let sides = Sides::new();
    let (app, gate, inside) = gated();
    // Below the server's layer, between the layers, and above the client's.
    let app = ServiceBuilder::new().buffer(64).concurrency_limit(3).service(app);
    let wire = UnsealLayer::new(sides.server.clone()).layer(app);
    let wire = ServiceBuilder::new().buffer(64).rate_limit(1000, SECOND).concurrency_limit(20).service(wire);
    let rpc = SealLayer::new(sides.client.clone()).layer(wire);
    let rpc = ServiceBuilder::new().timeout(30 * SECOND).service(rpc);
    let calls: Vec<_> = (0..10)
        .map(|i| {
            let rpc = rpc.clone();
            tokio::spawn(rpc.oneshot(request(i, "m")))
        })
        .collect();
    settle().await;
    assert_eq!(*inside.lock().unwrap(), (3, 3));
    gate.open();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(parse(&call.await.unwrap().unwrap().unwrap())["id"], i);
    }
    assert_eq!(inside.lock().unwrap().1, 3);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_above_the_layer_ends_the_call_below() {
    let sides = Sides::new();
    let (app, _gate, _) = gated();
    let rpc = ServiceBuilder::new().timeout(5 * SECOND).service(sides.seal(sides.serve(app)));
    let error = one(&rpc, request(1, "m")).await.unwrap_err();
    assert!(error.is::<Elapsed>(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn load_shed_below_the_layer_is_an_error_of_the_transport() {
    let sides = Sides::new();
    let (app, gate, _) = gated();
    let wire = ServiceBuilder::new().load_shed().concurrency_limit(1).service(sides.serve(app));
    // What was shed was not sent; of anything else nobody knows it.
    let wire = wire.map_err(|error| match error.downcast::<Overloaded>() {
        Ok(shed) => BoxError::from(NotSent::new(*shed)),
        Err(error) => error,
    });
    let rpc = SealLayer::new(sides.client.clone()).layer(BoxCloneSyncService::new(wire));
    let held = tokio::spawn(rpc.clone().oneshot(request(1, "m")));
    settle().await;
    let error = rpc.clone().oneshot(request(2, "m")).await.unwrap_err();
    assert!(error.source().unwrap().source().unwrap().is::<Overloaded>(), "{error:?}");
    gate.open();
    held.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_concurrency_below_the_layer_does_not_starve_the_handshake() {
    let sides = Sides::new();
    let wire = ServiceBuilder::new().concurrency_limit(1).service(sides.serve(echo()));
    let rpc = SealLayer::new(sides.client.clone()).layer(wire);
    let calls = (0..10).map(|i| rpc.clone().oneshot(request(i, "m")));
    assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
}

// ---- two-way connections ----

#[tokio::test(start_paused = true)]
async fn a_timeout_above_the_client_leaves_nothing_behind() {
    let config = Config::plaintext();
    let (client, mut far, _end) = client(&config, 16);
    let timed = ServiceBuilder::new().timeout(5 * SECOND).service(client);
    for i in 1..4 {
        let error = one(&timed, Message::new(request(1, "m"))).await.unwrap_err();
        assert!(error.is::<Elapsed>(), "{error:?}");
        far.receive().await;
        far.send(response(1, "late")).await;
        settle().await;
        assert_eq!(config.telemetry().value(Metric::LateAnswers), i);
    }
}

#[tokio::test(start_paused = true)]
async fn around_the_client_and_the_service() {
    let (app, gate, inside) = gated();
    let (left, right) = pipes(4);
    let app = ServiceBuilder::new().buffer(8).concurrency_limit(3).service(app);
    let server = tokio::spawn(serve(&Config::plaintext(), left, app));
    let (client, driver) = Client::connect(&Config::plaintext(), right);
    tokio::spawn(driver);
    let client = ServiceBuilder::new()
        .concurrency_limit(50)
        .rate_limit(100, SECOND)
        .timeout(60 * SECOND)
        .service(client);
    let client = Buffer::new(client, 16);
    let calls: Vec<_> = (0..150)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(client.oneshot(Message::new(request(i, "m"))))
        })
        .collect();
    settle().await;
    assert_eq!(*inside.lock().unwrap(), (3, 3));
    gate.open();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(parse(&call.await.unwrap().unwrap().unwrap())["id"], i);
    }
    assert_eq!(inside.lock().unwrap().1, 3);
    drop(client);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_full_can_be_shed() {
    let (client, mut far, _end) = client(&config(|limits| limits.in_flight = 2), 16);
    let shed = ServiceBuilder::new().load_shed().service(client);
    let mut calls: Vec<_> =
        (0..2).map(|i| Box::pin(shed.clone().oneshot(Message::new(request(i, "m"))))).collect();
    for call in &mut calls {
        begin(call).await;
    }
    let error = one(&shed, Message::new(request(2, "m"))).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "{error:?}");
    far.receive().await;
    far.send(response(0, "r")).await;
    calls.remove(0).await.unwrap();
    begin(&mut Box::pin(one(&shed, Message::new(request(3, "m"))))).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_sheds_load_answers_with_internal_errors() {
    let (app, gate, _) = gated();
    let app = ServiceBuilder::new().load_shed().concurrency_limit(1).service(app);
    let (pipe, mut far) = by_hand(16);
    let _end = tokio::spawn(serve(&Config::plaintext(), pipe, app));
    for i in 0..3 {
        far.send(request(i, "m")).await;
    }
    for i in 1..3 {
        assert_eq!(fault(&far.receiver.recv().await.unwrap()), (i.into(), -32603));
    }
    gate.open();
    assert_eq!(far.receive().await["result"], "m");
}
