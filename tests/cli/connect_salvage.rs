//! Lines on `connect`'s stdin that are no messages, or not all of them: nobody waits for an answer in vain.

use serde_json::{Value, json};

use crate::{
    connect_hand::{Connect, Far, INITIALIZE, Line, call, result},
    connect_server::Server,
    support::Home,
};

async fn met(home: &Home) -> (Connect, Line) {
    let far = Far::start().await;
    let mut host = far.connect(home, &[]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    (host, line)
}

/// Whom an error answers, and its code.
fn refused(told: &Value) -> (&Value, &Value) {
    (&told["id"], &told["error"]["code"])
}

#[tokio::test]
async fn who_asks_in_a_way_that_cannot_be_is_answered_by_name() {
    let home = Home::new();
    let (mut host, _line) = met(&home).await;
    for (text, id) in [
        (r#"{"id":5,"method":7}"#, json!(5)),
        (r#"{"id":"a","method":"m","method":"n"}"#, json!(null)),
        (r#"{"id":5}"#, json!(null)),
        (r#"{"id":[],"method":7}"#, json!(null)),
    ] {
        let told = host.ask(text).await;
        assert_eq!(refused(&told), (&id, &json!(-32600)), "{text}");
    }
    host.end().await;
}

#[tokio::test]
async fn what_is_good_in_a_batch_is_carried_and_the_rest_answered() {
    let home = Home::new();
    let (mut host, mut line) = met(&home).await;
    let told = host.ask(format!(r#"[{}, {{"id":5,"method":7}}, 3,{}]"#, call(1, "a"), call(2, "b"))).await;
    assert_eq!(told.as_array().unwrap().len(), 2, "{told}");
    assert_eq!(refused(&told[0]), (&json!(5), &json!(-32600)));
    assert_eq!(refused(&told[1]), (&json!(null), &json!(-32600)));
    line.expect(format!("[{},{}]", call(1, "a"), call(2, "b"))).await;
    for id in [1, 2] {
        line.send(result(id)).await;
        assert_eq!(host.line().await, result(id));
    }
    host.end_stdin();
    line.ended().await;
    host.ended().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_answered_by_name() {
    let home = Home::new();
    let (mut host, line) = met(&home).await;
    let long = "x".repeat(16 << 20);
    for text in [
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"id":8,"text":"{long}"}}}}"#),
        format!(r#"{{"method":"tools/call","params":{{"id":8,"text":"{long}"}},"jsonrpc":"2.0","id":7}}"#),
    ] {
        host.say(text).await;
        assert!(host.fault(7, "too_large").await.contains("at most 16 MiB"));
    }
    // Nobody asked for this.
    let told = host.ask(format!(r#"{{"jsonrpc":"2.0","id":7,"result":"{long}"}}"#)).await;
    assert_eq!(refused(&told), (&json!(null), &json!(-32600)));
    host.end_stdin();
    line.ended().await;
    host.ended().await;
}

#[tokio::test]
async fn requests_and_answers_may_share_a_batch() {
    let home = Home::new();
    let (mut host, mut line) = met(&home).await;
    line.send(call("s", "ping")).await;
    host.line().await;
    // What is answered is waited for, and then it is not.
    for id in [1, 2] {
        let batch = format!("[{},{}]", result("s"), call(id, "tools/call"));
        host.say(&batch).await;
        line.expect(&batch).await;
        line.send(result(id)).await;
        assert_eq!(host.line().await, result(id));
    }

    let mut server = Server::start().await;
    let mut host = server.connect(&home);
    let unasked = server.greet(&mut host, "one").await;
    unasked.message(call("s", "ping"));
    host.line().await;
    for id in [1, 2] {
        let batch = format!("[{},{}]", result("s"), call(id, "tools/call"));
        host.say(&batch).await;
        server.expect_in("one", &batch).await.json(200, None, result(id));
        assert_eq!(host.line().await, result(id));
    }
    server.ended(host, "one").await;
}

#[tokio::test]
async fn a_mark_before_the_first_line_is_none_of_it() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    host.say(format!("\u{feff}{INITIALIZE}")).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
}

#[tokio::test]
async fn what_the_far_side_asks_and_cancels_is_forgotten() {
    let home = Home::new();
    let (mut host, mut line) = met(&home).await;
    let cancel = |id: u64| {
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } })
            .to_string()
    };
    for id in 0..1100 {
        for message in [call(id, "roots/list"), cancel(id)] {
            line.send(&message).await;
            assert_eq!(host.line().await, message);
        }
    }
    // Until it has asked for more than anybody can remember.
    for id in 0..1024 {
        line.send(call(id, "roots/list")).await;
        host.line().await;
    }
    for id in 2000..2003 {
        line.send(call(id, "roots/list")).await;
        let told: Value = serde_json::from_slice(&line.next().await.unwrap()).unwrap();
        assert_eq!((&told["id"], &told["error"]["data"]["code"]), (&json!(id), &json!("busy")), "{told}");
    }
    host.say(result(7)).await;
    line.expect(result(7)).await;
    line.send(call(3000, "roots/list")).await;
    host.line().await;
    host.end_stdin();
    line.ended().await;
    let logged = host.ended().await;
    assert_eq!(logged.matches("asks more than the host answers").count(), 1, "{logged}");
}

#[tokio::test]
async fn an_http_server_that_asks_too_much_is_told_so() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let unasked = server.greet(&mut host, "one").await;
    for id in 0..1024 {
        unasked.message(call(id, "roots/list"));
        host.line().await;
    }
    unasked.message(call("s", "roots/list"));
    let asked = server.next().await;
    assert!(asked.body.contains("\"busy\"") && asked.body.contains("\"id\":\"s\""), "{}", asked.body);
    asked.accept();
    unasked.message(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
    host.line().await;
    unasked.message(call("t", "roots/list"));
    assert_eq!(host.line().await, call("t", "roots/list"));
    server.ended(host, "one").await;
}

#[tokio::test]
async fn what_is_held_for_an_http_server_is_bounded_by_its_bytes() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    let long = |id: u64| json!({ "jsonrpc": "2.0", "id": id, "method": "m", "params": "x".repeat(15 << 20) });
    let mut asked = Vec::new();
    for id in 1..=4 {
        host.say(long(id)).await;
        asked.push(server.next().await);
    }
    host.say(long(5)).await;
    host.fault(5, "busy").await;
    host.signal("TERM");
    for _ in 1..=4 {
        assert_eq!(host.hear().await["error"]["data"]["code"], "stopped");
    }
    server.next().await.accept();
    host.ended().await;
}

#[tokio::test]
async fn an_answer_to_a_batch_of_nothings_has_a_bound() {
    let home = Home::new();
    let (mut host, mut line) = met(&home).await;
    let told = host.ask(format!("[{}{}]", "7,".repeat(100_000), call(1, "a"))).await;
    let refusals = told.as_array().unwrap().len();
    assert!((1000..20_000).contains(&refusals), "{refusals}");
    line.expect(format!("[{}]", call(1, "a"))).await;
}
