//! How connections end, and that nothing is left of them.

use std::{error::Error as _, io};

use tower::ServiceExt as _;
use tower_seal::{
    Config, Error,
    rpc::{Client, serve},
};

use crate::{far::*, support::*};

/// What all calls end with, those under way and those to come.
async fn ends(
    client: &Client,
    calls: Vec<impl Future<Output = Result<Option<bytes::Bytes>, Error>>>,
) -> String {
    let mut reasons = Vec::new();
    for call in calls {
        reasons.push(call.await.unwrap_err());
    }
    for message in [request(99, "m"), notification("m")] {
        reasons.push(call(client, message).await.unwrap_err());
    }
    let mut reasons = reasons.iter().map(|error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    });
    let first = reasons.next().unwrap();
    assert!(reasons.all(|reason| reason == first), "the same for all");
    first
}

async fn begun(
    client: &Client,
) -> Vec<std::pin::Pin<Box<impl Future<Output = Result<Option<bytes::Bytes>, Error>>>>> {
    let mut calls: Vec<_> = (0..5).map(|i| Box::pin(call(client, request(i, "m")))).collect();
    for call in &mut calls {
        begin(call).await;
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn the_far_sides_end_ends_every_call() {
    let (client, mut far, end) = client(&Config::plaintext(), 16);
    let calls = begun(&client).await;
    settle().await;
    far.sender = None;
    end.await.unwrap().unwrap();
    assert_eq!(ends(&client, calls).await, "the transport failed: the connection has ended");
    // What was sent, and then our end.
    for _ in 0..5 {
        far.receive().await;
    }
    assert!(far.receiver.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_far_sides_end_is_served_and_answered() {
    let app = app(|message| async move {
        tokio::time::sleep(3 * SECOND).await;
        reply(&parse(&message.bytes))
    });
    let (app, served) = counted(app);
    let (pipe, mut far) = by_hand(1);
    let driver = serve(&Config::plaintext(), pipe, app);
    let client = driver.client();
    let mut own = Box::pin(call(&client, request("own", "m")));
    begin(&mut own).await;
    for i in 0..3 {
        far.send(notification("n")).await;
        far.send(request(i, "m")).await;
    }
    far.sender = None;
    let end = tokio::spawn(driver);
    let began = tokio::time::Instant::now();
    // Nothing answers a call of ours any more.
    own.await.unwrap_err();
    call(&client, request("later", "m")).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 0);
    let mut answered = 0;
    while let Some(message) = far.receiver.recv().await {
        answered += usize::from(parse(&message)["result"] == "m");
    }
    assert_eq!((served.value(), answered), (6, 3));
    end.await.unwrap().unwrap();
    assert_eq!(began.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn notifications_of_a_client_that_goes_at_once_are_served() {
    for notifications in [1, 5, 100] {
        let (left, right) = pipes(100);
        let (client, driver) = Client::connect(&Config::plaintext(), right);
        let driver = tokio::spawn(driver);
        for _ in 0..notifications {
            call(&client, notification("n")).await.unwrap();
        }
        drop(client);
        driver.await.unwrap().unwrap();
        settle().await;
        let (app, served) = counted(echo());
        serve(&Config::plaintext(), left, app).await.unwrap();
        assert_eq!(served.value(), notifications);
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_side_that_has_ended_and_is_gone_fails_nothing() {
    let gate = Gate::new();
    let held = gate.clone();
    let app = app(move |message| {
        let held = held.clone();
        async move {
            held.pass().await;
            reply(&parse(&message.bytes))
        }
    });
    let (pipe, mut far) = by_hand(16);
    let end = tokio::spawn(serve(&Config::plaintext(), pipe, app));
    far.send(request(1, "m")).await;
    far.sender = None;
    settle().await;
    assert!(!end.is_finished());
    drop(far);
    gate.open();
    end.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_ready_leave_before_an_unused_connection_ends() {
    let gate = Gate::new();
    let held = gate.clone();
    let app = app(move |message| {
        let held = held.clone();
        async move {
            held.pass().await;
            reply(&parse(&message.bytes))
        }
    });
    let (pipe, mut far) = by_hand(16);
    let driver = serve(&Config::plaintext(), pipe, app).until_unused();
    let client = driver.client();
    let end = tokio::spawn(driver);
    for i in 0..5 {
        far.send(request(i, "m")).await;
    }
    settle().await;
    gate.open();
    drop(client);
    end.await.unwrap().unwrap();
    for _ in 0..5 {
        assert_eq!(far.receive().await["result"], "m");
    }
    assert!(far.receiver.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failing_connection_ends_every_call_with_its_error() {
    let (client, far, end) = client(&Config::plaintext(), 16);
    let calls = begun(&client).await;
    far.sender.as_ref().unwrap().send(Err(io::Error::other("cut"))).await.unwrap();
    assert_eq!(end.await.unwrap().unwrap_err().source().unwrap().to_string(), "cut");
    assert_eq!(ends(&client, calls).await, "the transport failed: cut");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_this_crate_stays_what_it_is() {
    use futures_util::{SinkExt as _, StreamExt as _};
    // As a sealed connection below has them.
    let (pipe, far) = by_hand(16);
    let pipe = pipe
        .map(|message| message.map_err(|_| Error::Misuse { reason: "for example" }))
        .sink_map_err(|_| Error::OutcomeUnknown);
    let (client, driver) = Client::connect(&Config::plaintext(), pipe);
    let end = tokio::spawn(driver);
    let calls = begun(&client).await;
    far.sender.as_ref().unwrap().send(Err(io::Error::other("cut"))).await.unwrap();
    assert!(matches!(end.await.unwrap(), Err(Error::Misuse { .. })));
    assert_eq!(ends(&client, calls).await, "this call cannot work: for example");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_ends_every_call() {
    let (client, far, end) = client(&Config::plaintext(), 16);
    drop(far.receiver);
    let calls = begun(&client).await;
    assert!(matches!(end.await.unwrap(), Err(Error::Transport(_))));
    ends(&client, calls).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_driver_ends_every_call() {
    for polled in [true, false] {
        let (pipe, _far) = by_hand(16);
        let (client, mut driver) = Client::connect(&Config::plaintext(), pipe);
        let mut calls = begun(&client).await;
        calls.extend(Vec::new());
        let mut told = Box::pin(call(&client, notification("n")));
        begin(&mut told).await;
        if polled {
            begin(&mut driver).await;
        }
        drop(driver);
        assert_eq!(told.await.is_ok(), polled, "it was on its way");
        assert_eq!(ends(&client, calls).await, "the transport failed: the connection has ended");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_client_ends_its_driver_when_all_has_left() {
    let (client, mut far, end) = client(&Config::plaintext(), 1);
    for i in 0..2 {
        let mut told = Box::pin(call(&client, notification(&format!("n{i}"))));
        if i == 0 {
            told.await.unwrap();
        } else {
            begin(&mut told).await;
            settle().await;
            // Held by the driver, for which there is no room yet.
            drop(told);
        }
    }
    let second = client.clone();
    drop(client);
    settle().await;
    assert!(!end.is_finished());
    drop(second);
    settle().await;
    assert!(!end.is_finished(), "something is on its way still");
    assert_eq!(far.receive().await["method"], "n0");
    assert_eq!(far.receive().await["method"], "n1");
    end.await.unwrap().unwrap();
    assert!(far.receiver.recv().await.is_none(), "closed");
}

#[tokio::test(start_paused = true)]
async fn a_server_goes_on_without_clients_and_a_two_way_side_may_not() {
    let (client, mut far, end) = served(&Config::plaintext(), echo());
    drop(client);
    far.send(request(1, "m")).await;
    assert_eq!(far.receive().await["result"], "m");
    assert!(!end.is_finished());

    let (pipe, _far) = by_hand(16);
    let driver = serve(&Config::plaintext(), pipe, echo()).until_unused();
    let client = driver.client();
    let end = tokio::spawn(driver);
    settle().await;
    assert!(!end.is_finished());
    drop(client);
    end.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_being_served_is_cancelled_when_the_connection_ends() {
    for how in ["ended", "failed", "dropped", "unused"] {
        let running = Count::default();
        let count = running.clone();
        struct Alive(Count);
        impl Drop for Alive {
            fn drop(&mut self) {
                self.0.sub();
            }
        }
        let app = app(move |_| {
            count.add();
            let alive = Alive(count.clone());
            async move {
                std::future::pending::<()>().await;
                drop(alive);
                None
            }
        });
        let (pipe, mut far) = by_hand(16);
        let driver = serve(&Config::plaintext(), pipe, app).until_unused();
        let client = driver.client();
        let end = tokio::spawn(driver);
        for i in 0..5 {
            far.send(request(i, "m")).await;
        }
        settle().await;
        assert_eq!(running.value(), 5);
        let began = tokio::time::Instant::now();
        match how {
            "ended" => far.sender = None,
            "failed" => far.sender.as_ref().unwrap().send(Err(io::Error::other("cut"))).await.unwrap(),
            "dropped" => end.abort(),
            _ => drop(client),
        }
        let _ = end.await;
        assert_eq!(running.value(), 0, "{how}");
        // What the far side asked for before it ended its direction has some time.
        assert_eq!(began.elapsed().as_secs(), if how == "ended" { 5 } else { 0 }, "{how}");
        assert!(far.is_silent() || far.receiver.recv().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_side_that_reads_nothing_ends_the_connection_in_time_and_costs_bounded_memory() {
    let change = |limits: &mut tower_seal::config::Limits| {
        limits.serving = 4;
        limits.in_flight = 8;
        limits.stall = 50 * SECOND;
    };
    let (app, count) = counted(echo());
    let (pipe, mut far) = by_hand(1);
    let end = tokio::spawn(serve(&config(change), pipe, app));
    let sender = far.sender.clone().unwrap();
    let room = sender.capacity();
    for i in 0..100 {
        far.send(request(i, "m")).await;
    }
    settle().await;
    // One answer in the connection, one at the writer, four that wait behind it; eight messages that wait at most.
    assert_eq!(count.value(), 6);
    assert!((6..=14).contains(&(100 - (room - sender.capacity()))));
    let began = tokio::time::Instant::now();
    let error = end.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert_eq!(began.elapsed(), 50 * SECOND);
    far.receive().await;
    assert!(far.receiver.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_connections_leave_nothing() {
    let config = Config::plaintext();
    for i in 0..10_000 {
        let (left, right) = pipes(1);
        let server = tokio::spawn(serve(&config, left, echo()));
        let (client, driver) = Client::connect(&config, right);
        let driver = tokio::spawn(driver);
        client.oneshot(request(i, "m").into()).await.unwrap();
        driver.await.unwrap().unwrap();
        server.await.unwrap().unwrap();
    }
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}
