//! `rpc::serve`: requests of the far side.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tower::{Service, ServiceExt as _};
use tower_seal::{
    Config, Error,
    config::Limits,
    rpc::{Client, Driver, Message, serve},
};

use crate::{far::*, support::*};

/// A message, and where its answer goes.
type Asked = (Value, oneshot::Sender<Option<Bytes>>);

/// An application whose answers are given by hand.
fn by_order() -> (App, mpsc::UnboundedReceiver<Asked>) {
    let (asked, asking) = mpsc::unbounded_channel();
    let app = app(move |message| {
        let (answer, answered) = oneshot::channel();
        asked.send((parse(&message.bytes), answer)).unwrap();
        async move { answered.await.unwrap() }
    });
    (app, asking)
}

#[tokio::test(start_paused = true)]
async fn answers_leave_in_the_order_in_which_they_are_done() {
    let (app, mut asking) = by_order();
    let (_client, mut far, _end) = served(&Config::plaintext(), app);
    let mut asked = Vec::new();
    for i in 0..5 {
        far.send(request(i, "m")).await;
        asked.push(asking.recv().await.unwrap());
    }
    for i in [3, 0, 4, 1, 2] {
        let at = asked.iter().position(|(message, _)| message["id"] == i).unwrap();
        let (message, answer) = asked.remove(at);
        answer.send(reply(&message)).unwrap();
        assert_eq!(far.receive().await["id"], i);
    }
}

/// As it is made in the place of a service.
fn error(id: impl Into<Value>, code: i32) -> Value {
    let message = if code == -32600 { "Invalid Request" } else { "Internal error" };
    json!({ "jsonrpc": "2.0", "id": id.into(), "error": { "code": code, "message": message } })
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_message_gets_what_it_should() {
    let (app, served) = counted(App::new(tower::service_fn(|message: Message| async move {
        let message = parse(&message.bytes);
        match message["method"].as_str() {
            Some("fail") => Err(Failure("secret")),
            Some("nothing") => Ok(None),
            Some("chatty") => Ok(Some("{\"unasked\":1}".into())),
            _ if message[0]["method"] == "fail" => Err(Failure("secret")),
            _ => Ok(reply(&message)),
        }
    })));
    let (_client, mut far, _end) = crate::far::served(&Config::plaintext(), app);
    let answered: [(&str, Value); 14] = [
        ("{\"id\":1,\"method\":\"m\"}", json!({ "jsonrpc": "2.0", "id": 1, "result": "m" })),
        ("{\"id\":null,\"method\":\"m\"}", json!({ "jsonrpc": "2.0", "id": null, "result": "m" })),
        (
            "[{\"id\":1,\"method\":\"a\"},{\"method\":\"b\"}]",
            json!([{ "jsonrpc": "2.0", "id": 1, "result": "a" }]),
        ),
        ("{\"id\":\"\\u0061\",\"method\":\"fail\"}", json!(["a", -32603])),
        (
            "[{\"id\":1,\"method\":\"fail\"},{\"method\":\"m\"},7,{\"id\":\"\\u0061\",\"method\":\"m\"}]",
            json!([error(1, -32603), error(Value::Null, -32600), error("a", -32603)]),
        ),
        ("", json!([null, -32700])),
        ("{\"id\":1,\"method\"", json!([null, -32700])),
        ("{\"id\":1} {}", json!([null, -32700])),
        ("[{\"id\":1,\"method\":\"m\"},", json!([null, -32700])),
        ("[]", json!([null, -32600])),
        ("7", json!([null, -32600])),
        ("{\"method\":1,\"id\":\"x\"}", json!(["x", -32600])),
        ("{\"id\":{},\"method\":\"m\"}", json!([null, -32600])),
        ("{\"id\":1,\"id\":2,\"method\":\"m\"}", json!([null, -32600])),
    ];
    for (message, answer) in answered {
        far.send(message).await;
        let got = far.receiver.recv().await.unwrap();
        assert!(!String::from_utf8_lossy(&got).contains("secret"));
        if answer[1].is_i64() {
            assert_eq!(json!(fault(&got)), answer, "{message}");
        } else {
            assert_eq!(parse(&got), answer, "{message}");
        }
    }
    let before = served.value();
    for message in [
        "{\"method\":\"m\"}",
        "{\"method\":\"fail\"}",
        "{\"method\":\"chatty\"}",
        "[{\"method\":\"m\"}]",
        "{\"id\":1,\"method\":\"nothing\"}",
    ] {
        far.send(message).await;
    }
    settle().await;
    assert!(far.is_silent());
    assert_eq!(served.value(), before + 5);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_cannot_carry_does_not_end_it() {
    let (mut pipe, mut far) = by_hand(16);
    pipe.longest = 300;
    let long = "m".repeat(400);
    let driver = serve(&Config::plaintext(), pipe, echo());
    let client = driver.client();
    let _end = tokio::spawn(driver);
    // An answer, to a request or to a batch.
    far.send(request("x", &long)).await;
    assert_eq!(fault(&far.receiver.recv().await.unwrap()), ("x".into(), 413));
    far.send(format!("[{{\"id\":1,\"method\":\"{long}\"}},{{\"id\":2,\"method\":\"m\"}}]")).await;
    assert_eq!(faults(&far.receiver.recv().await.unwrap()), [(1.into(), 413), (2.into(), 413)]);
    // Even that may be too long, and then there is none.
    far.send(request("y".repeat(300), &long)).await;
    // Messages of our own.
    for message in [request(1, &long), notification(&long)] {
        let error = call(&client, message).await.unwrap_err();
        assert!(matches!(error, Error::Misuse { reason: "too long for this pipe" }), "{error:?}");
    }
    far.send(request(2, "m")).await;
    assert_eq!(far.receive().await["result"], "m");
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_are_served_at_once() {
    let (now, most) = (Count::default(), Arc::new(Mutex::new(0)));
    let gate = Gate::new();
    let (running, highest, held) = (now.clone(), most.clone(), gate.clone());
    let app = app(move |message| {
        let at_once = running.add() + 1;
        let mut most = highest.lock().unwrap();
        *most = at_once.max(*most);
        let (running, held) = (running.clone(), held.clone());
        async move {
            held.pass().await;
            running.sub();
            reply(&parse(&message.bytes))
        }
    });
    let (_client, mut far, _end) = served(&config(|limits| limits.serving = 7), app);
    for i in 0..100 {
        far.send(request(i, "m")).await;
    }
    settle().await;
    assert_eq!(now.value(), 7);
    gate.open();
    for _ in 0..100 {
        far.receive().await;
    }
    assert_eq!(*most.lock().unwrap(), 7);
}

/// Ready when it is told so.
#[derive(Clone)]
struct Reluctant {
    permits: Arc<Mutex<mpsc::UnboundedReceiver<()>>>,
    is_ready: bool,
    served: Count,
}

impl Service<Message> for Reluctant {
    type Response = Option<Bytes>;
    type Error = Failure;
    type Future = std::future::Ready<Result<Option<Bytes>, Failure>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.permits.lock().unwrap().poll_recv(cx) {
            _ if self.is_ready => Poll::Ready(Ok(())),
            Poll::Ready(Some(())) => {
                self.is_ready = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(None) => Poll::Ready(Err(Failure("worn out"))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, message: Message) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called without being ready");
        self.served.add();
        std::future::ready(Ok(reply(&parse(&message.bytes))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_holds_the_far_side_back() {
    let (permit, permits) = mpsc::unbounded_channel();
    let service =
        Reluctant { permits: Arc::new(Mutex::new(permits)), is_ready: false, served: Count::default() };
    let served = service.served.clone();
    let (pipe, mut far) = by_hand(16);
    let end = tokio::spawn(serve(&config(|limits| limits.in_flight = 5), pipe, service));
    let sender = far.sender.clone().unwrap();
    let room = sender.capacity();
    for i in 0..20 {
        far.send(request(i, "m")).await;
    }
    settle().await;
    assert_eq!((served.value(), room - sender.capacity()), (0, 15), "five wait, and no more are read");
    for i in 0..20 {
        permit.send(()).unwrap();
        assert_eq!(far.receive().await["id"], i);
    }
    assert_eq!(served.value(), 20);
    // One that can take nothing any more ends the connection.
    far.send(request(99, "m")).await;
    drop(permit);
    let error = end.await.unwrap().unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "worn out");
    assert!(far.receiver.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_in_bytes_too() {
    let gate = Gate::new();
    let held = gate.clone();
    let app = app(move |_| {
        let held = held.clone();
        async move {
            held.pass().await;
            None
        }
    });
    let limits = |limits: &mut Limits| {
        limits.serving = 1;
        limits.waiting_bytes = MIB;
    };
    let (_client, far, _end) = served(&config(limits), app);
    let sender = far.sender.clone().unwrap();
    let room = sender.capacity();
    let mut large = request(1, "m").to_vec();
    large.resize(MIB / 2, b' ');
    for _ in 0..10 {
        far.send(large.clone()).await;
    }
    settle().await;
    assert_eq!(room - sender.capacity(), 7, "one runs, two wait");
    gate.open();
    settle().await;
    assert_eq!(room, sender.capacity());
}

// ---- both directions ----

#[tokio::test(start_paused = true)]
async fn both_sides_call_and_serve_at_once() {
    let _watchdog = Watchdog::start();
    // Each request is answered after a call the other way. Of those to the one side there are more than may be served
    // at once.
    let config = Config::plaintext();
    let (left, right) = pipes(4);
    let mut ends = Vec::new();
    let mut clients = Vec::new();
    for pipe in [left, right] {
        let own: Arc<Mutex<Option<Client>>> = Arc::default();
        let client = own.clone();
        let app = app(move |message| {
            let client = client.lock().unwrap().clone().unwrap();
            async move {
                let message = parse(&message.bytes);
                if message["method"] == "leaf" {
                    return reply(&message);
                }
                let id = format!("back {}", message["id"]);
                let answer = call(&client, request(id, "leaf")).await.unwrap().unwrap();
                assert_eq!(parse(&answer)["result"], "leaf");
                reply(&message)
            }
        });
        let driver = serve(&config, pipe, app);
        clients.push(driver.client());
        *own.lock().unwrap() = Some(driver.client());
        ends.push(tokio::spawn(driver));
    }
    let calls: Vec<_> = (0..600)
        .map(|i| (i, clients[usize::from(i % 6 == 0)].clone()))
        .map(|(i, client)| tokio::spawn(async move { call(&client, request(i, "root")).await }))
        .collect();
    for call in calls {
        let answer = parse(&call.await.unwrap().unwrap().unwrap());
        assert_eq!(answer["result"], "root", "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_behind_requests_for_which_there_is_no_room() {
    let limits = |limits: &mut Limits| {
        limits.serving = 1;
        limits.in_flight = 2;
    };
    let (pipe, mut far) = by_hand(100);
    let own: Arc<Mutex<Option<Client>>> = Arc::default();
    let client = own.clone();
    let app = app(move |message| {
        let client = client.lock().unwrap().clone().unwrap();
        async move {
            let message = parse(&message.bytes);
            if message["method"] == "back" {
                call(&client, request("back", "m")).await.unwrap().unwrap();
            }
            reply(&message)
        }
    });
    let driver = serve(&config(limits), pipe, app);
    *own.lock().unwrap() = Some(driver.client());
    let _end = tokio::spawn(driver);
    far.send(request(0, "back")).await;
    assert_eq!(far.receive().await["id"], "back");
    // The only one that may be served waits for an answer behind these.
    for i in 1..6 {
        far.send(request(i, "m")).await;
    }
    for i in 3..6 {
        assert_eq!(fault(&far.receiver.recv().await.unwrap()), (i.into(), 503));
    }
    far.send("[{\"id\":6,\"method\":\"m\"},{\"method\":\"m\"},{\"id\":7,\"method\":\"m\"}]").await;
    assert_eq!(faults(&far.receiver.recv().await.unwrap()), [(6.into(), 503), (7.into(), 503)]);
    far.send(response("back", "r")).await;
    for i in 0..3 {
        let answer = far.receive().await;
        assert_eq!((answer["id"].clone(), answer.get("error")), (i.into(), None));
    }
    // Notifications are never refused, so behind one without room nothing is read; and nothing is lost.
    far.send(request(10, "back")).await;
    assert_eq!(far.receive().await["id"], "back");
    for _ in 0..3 {
        far.send(notification("n")).await;
    }
    far.send(request(11, "m")).await;
    settle().await;
    assert!(far.is_silent());
}

/// Both sides call at once: so many each, of so many bytes, to services that take a second each.
async fn call_each_other(config: &Config, calls: usize, size: usize, capacity: usize) -> Duration {
    let _watchdog = Watchdog::start();
    let app = app(|message| async move {
        tokio::time::sleep(SECOND).await;
        Some(response(parse(&message.bytes)["id"].clone(), "done"))
    });
    let (left, right) = pipes(capacity);
    let drivers = [left, right].map(|pipe| serve(config, pipe, app.clone()));
    let clients = drivers.each_ref().map(Driver::client);
    let _ends = drivers.map(tokio::spawn);
    let (began, text) = (tokio::time::Instant::now(), "m".repeat(size));
    let calls: Vec<_> = (0..calls * 2)
        .map(|i| {
            let (client, message) = (clients[i % 2].clone(), request(i, &text));
            tokio::spawn(async move { call(&client, message).await })
        })
        .collect();
    for call in calls {
        let answer = parse(&call.await.unwrap().unwrap().unwrap());
        assert_eq!(answer["result"], "done", "{answer}");
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn two_sides_that_are_full_of_each_others_calls_do_not_wait_for_each_other() {
    for (serving, in_flight, size, capacity) in
        [(1, 1024, 100_000, 4), (4, 1024, 100_000, 4), (4, 1024, 100_000, 16), (1, 8, 10, 4), (4, 64, 10, 4)]
    {
        let config = config(|limits| {
            limits.serving = serving;
            limits.in_flight = in_flight;
        });
        let took = call_each_other(&config, 100, size, capacity).await;
        // As long as serving them takes, and not until a limit freed one.
        assert!(
            took <= SECOND * (100 / serving as u32 + 10),
            "{serving} {in_flight} {size} {capacity} {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_of_8_kb_each_way_find_room() {
    call_each_other(&Config::plaintext(), 1000, 8000, 4).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_bounded_in_bytes_since_ids_may_be_long() {
    let limits = |limits: &mut Limits| {
        limits.serving = 1;
        limits.waiting_bytes = MIB;
    };
    // The far side reads nothing, and a call of ours waits.
    let (pipe, far) = by_hand(1);
    let driver = serve(&config(limits), pipe, app(|_| std::future::pending()));
    let client = driver.client();
    let mut own = Box::pin(call(&client, request("own", "m")));
    begin(&mut own).await;
    let _end = tokio::spawn(driver);
    let sender = far.sender.clone().unwrap();
    let room = sender.capacity();
    for i in 0..100 {
        far.send(request("x".repeat(100_000 + i), "m")).await;
    }
    settle().await;
    // As many wait as there is room for, one refusal is at the writer, and as many are behind it.
    assert_eq!(100 - (room - sender.capacity()), 11 + 1 + 11);
}

#[tokio::test(start_paused = true)]
async fn the_service_knows_who_is_at_the_other_end() {
    // A caller can be had only from the protocol.
    let sides = Sides::new();
    let callers: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = callers.clone();
    let note = app(move |message| {
        seen.lock().unwrap().extend(message.caller);
        async { None }
    });
    let _ = ask(&sides.seal(sides.serve(note.clone())), notification("n")).await;
    let caller = callers.lock().unwrap().pop().unwrap();

    let (pipe, far) = by_hand(16);
    let _end = tokio::spawn(serve(&Config::plaintext(), pipe, note.clone()).caller(caller));
    far.send(notification("n")).await;
    settle().await;
    assert_eq!(*callers.lock().unwrap(), [caller]);

    // As a connection that is not sealed says it.
    let (pipe, far) = by_hand(16);
    let _end = tokio::spawn(serve(&Config::plaintext(), pipe, note).caller(None));
    far.send(notification("n")).await;
    settle().await;
    assert_eq!(*callers.lock().unwrap(), [caller]);
}

#[tokio::test(start_paused = true)]
async fn a_client_can_stand_below_a_layer() {
    // From a queue to a connection.
    let sides = Sides::new();
    let (left, right) = pipes(4);
    let _end = tokio::spawn(serve(&Config::plaintext(), left, echo()));
    let (client, driver) = Client::connect(&Config::plaintext(), right);
    tokio::spawn(driver);
    let app = App::new(client.map_err(|_| Failure("lost")));
    let rpc = sides.seal(sides.serve(app));
    let answer = ask(&rpc, request(1, "m")).await.unwrap().unwrap();
    assert_eq!(parse(&answer)["result"], "m");
}
