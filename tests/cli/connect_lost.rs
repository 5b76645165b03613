//! `connect` to a far side at `ws://` that goes and comes back.

use serde_json::json;

use crate::{
    connect_hand::{Connect, Far, INITIALIZE, INITIALIZED, Line, WELCOME, call, result},
    support::Home,
};

async fn met(home: &Home) -> (Far, Connect, Line) {
    let far = Far::start().await;
    let mut host = far.connect(home, &[]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    (far, host, line)
}

/// Loses the connection, of which the host is told in answer to a request.
async fn lose(host: &mut Connect, mut line: Line) {
    host.say(call("lost", "tools/call")).await;
    line.expect(call("lost", "tools/call")).await;
    drop(line);
    host.fault("lost", "outcome_unknown").await;
}

/// Two requests wait: each is told, in any order.
async fn both_lost(host: &mut Connect, why: &str) {
    let mut lost = [host.hear().await, host.hear().await];
    lost.sort_by_key(|told| told["id"].as_u64());
    for (id, told) in [1, 2].into_iter().zip(lost) {
        let error = &told["error"];
        assert_eq!((&told["id"], &error["data"]["code"]), (&json!(id), &json!("outcome_unknown")), "{told}");
        assert_eq!(error["code"], 502);
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("ws://127.0.0.1:"), "{message}");
        assert!(message.contains("the connection was lost before the answer came"), "{message}");
        assert!(message.contains(why), "{message}");
        assert!(message.ends_with("Look whether it was done before you repeat it."), "{message}");
    }
}

#[tokio::test]
async fn who_waits_is_told_and_the_next_message_finds_it_again() {
    let home = Home::new();
    let (far, mut host, mut line) = met(&home).await;
    for round in 0..3 {
        for id in [1, 2] {
            host.say(call(id, "tools/call")).await;
            line.expect(call(id, "tools/call")).await;
        }
        if round == 1 {
            // Tidily: its child has ended, say.
            line.end().await;
            both_lost(&mut host, "the far side ended it").await;
        } else {
            drop(line);
            both_lost(&mut host, "truncated").await;
        }
        host.say(call(3, "tools/list")).await;
        line = far.accept().await;
        // A fresh one, to which the host is introduced; and then only what was asked since.
        line.expect(INITIALIZE).await;
        line.send(WELCOME).await;
        line.expect(INITIALIZED).await;
        line.expect(call(3, "tools/list")).await;
        line.send(result(3)).await;
        assert_eq!(host.line().await, result(3), "the host is not told of all this");
    }
    host.end_stdin();
    line.ended().await;
    let logged = host.ended().await;
    assert_eq!(logged.matches("the connection was lost").count(), 3, "{logged}");
}

#[tokio::test]
async fn a_server_may_ask_before_it_answers_the_second_introduction() {
    let home = Home::new();
    let (far, mut host, line) = met(&home).await;
    lose(&mut host, line).await;
    host.say(call(3, "tools/list")).await;
    let mut line = far.accept().await;
    line.expect(INITIALIZE).await;
    line.send(call("s", "ping")).await;
    assert_eq!(host.line().await, call("s", "ping"));
    host.say(result("s")).await;
    line.expect(result("s")).await;
    line.send(WELCOME).await;
    line.expect(INITIALIZED).await;
    line.expect(call(3, "tools/list")).await;
    line.send(result(3)).await;
    assert_eq!(host.line().await, result(3));
}

#[tokio::test]
async fn what_a_lost_far_side_asked_is_cancelled_and_its_answer_goes_to_nobody() {
    let home = Home::new();
    let (far, mut host, mut line) = met(&home).await;
    line.send(call(7, "sampling/createMessage")).await;
    assert_eq!(host.line().await, call(7, "sampling/createMessage"));
    lose(&mut host, line).await;
    let told = host.hear().await;
    assert_eq!(told["method"], "notifications/cancelled");
    assert_eq!(told["params"], json!({ "requestId": 7, "reason": "the far side was lost" }));
    // These two are for nobody.
    host.say(result(7)).await;
    host.say(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#).await;
    host.say(call(3, "tools/list")).await;
    let mut line = far.accept().await;
    for message in [INITIALIZE, INITIALIZED] {
        line.expect(message).await;
        if message == INITIALIZE {
            line.send(WELCOME).await;
        }
    }
    line.expect(call(3, "tools/list")).await;
    line.send(call(7, "roots/list")).await;
    host.line().await;
    host.say(result(7)).await;
    line.expect(result(7)).await;
}

#[tokio::test]
async fn lost_before_it_was_introduced_the_host_begins_again_itself() {
    let home = Home::new();
    let far = Far::start().await;
    let mut host = far.connect(&home, &[]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.expect(INITIALIZE).await;
    drop(line);
    let message = host.fault(0, "connection_lost").await;
    assert!(message.ends_with("Try again."), "nothing can have been done: {message}");
    let again = INITIALIZE.replace("\"id\":0", "\"id\":1");
    host.say(&again).await;
    let mut line = far.accept().await;
    line.expect(&again).await;
    line.send(WELCOME.replace("\"id\":0", "\"id\":1")).await;
    assert_eq!(host.hear().await["id"], 1);
    // And is introduced with that from then on, as far as it has got.
    lose(&mut host, line).await;
    host.say(call(2, "ping")).await;
    let mut line = far.accept().await;
    line.expect(&again).await;
    line.send(WELCOME.replace("\"id\":0", "\"id\":1")).await;
    line.expect(call(2, "ping")).await;
}

#[tokio::test]
async fn one_that_comes_back_as_another_is_not_gone_on_with() {
    let home = Home::new();
    let (far, mut host, line) = met(&home).await;
    lose(&mut host, line).await;
    for (answer, words) in [
        (WELCOME.replace("2025-11-25", "2025-06-18"), "speaks MCP 2025-06-18 now, not 2025-11-25 as before"),
        (
            r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#.to_owned(),
            "refuses to be initialised again",
        ),
    ] {
        host.say(call(3, "tools/list")).await;
        let mut line = far.accept().await;
        line.expect(INITIALIZE).await;
        line.send(answer).await;
        let message = host.fault(3, "begun_anew").await;
        assert!(message.contains(words), "{message}");
        assert!(message.ends_with("restart this server in its host."), "{message}");
    }
    // Unless it is itself again.
    host.say(call(4, "tools/list")).await;
    let mut line = far.accept().await;
    line.expect(INITIALIZE).await;
    line.send(WELCOME).await;
    line.expect(INITIALIZED).await;
    line.expect(call(4, "tools/list")).await;
}

#[tokio::test]
async fn what_was_not_sent_when_it_was_lost_is_told_so() {
    let home = Home::new();
    let (far, mut host, line) = met(&home).await;
    lose(&mut host, line).await;
    host.say(call(3, "tools/call")).await;
    let mut line = far.accept().await;
    line.expect(INITIALIZE).await;
    drop(line);
    let message = host.fault(3, "unreachable").await;
    assert!(message.contains("lost before this was sent"), "{message}");
    assert!(message.ends_with("Try again."), "{message}");
}

#[tokio::test]
async fn in_the_modern_era_there_is_nothing_to_introduce() {
    let home = Home::new();
    let far = Far::start().await;
    let mut host = far.connect(&home, &[]);
    for id in 0..3 {
        host.say(call(id, "tools/list")).await;
        let mut line = far.accept().await;
        line.expect(call(id, "tools/list")).await;
        drop(line);
        host.fault(id, "connection_lost").await;
    }
}

/// What `serve` says before it breaks off.
fn notice(text: &str) -> String {
    let params = json!({ "level": "error", "logger": "tower-seal", "data": text });
    json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params }).to_string()
}

#[tokio::test]
async fn why_a_server_ended_is_in_the_answer_to_the_request() {
    let home = Home::new();
    let (far, mut host, mut line) = met(&home).await;
    for (said, code, words) in [
        (
            "the server has ended with exit status: 3",
            "outcome_unknown",
            "(the server has ended with exit status: 3)",
        ),
        (
            "busy: as many servers run as may; try again later",
            "outcome_unknown",
            "(busy: as many servers run as may; try again later). Look whether it was done",
        ),
        ("too_large: a message has at most 1 MiB", "too_large", "Look whether it was done"),
    ] {
        host.say(call(1, "tools/call")).await;
        line.expect(call(1, "tools/call")).await;
        line.send(notice(said)).await;
        assert_eq!(host.line().await, notice(said));
        drop(line);
        let message = host.fault(1, code).await;
        assert!(message.contains(words) && !message.contains("truncated"), "{message}");
        host.say(call(2, "ping")).await;
        line = far.accept().await;
        line.expect(INITIALIZE).await;
        line.send(WELCOME).await;
        line.expect(INITIALIZED).await;
        line.expect(call(2, "ping")).await;
        line.send(result(2)).await;
        host.line().await;
    }
}

#[tokio::test]
async fn a_far_side_that_has_no_room_says_so_before_anything_else() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.expect(INITIALIZE).await;
    line.send(notice("busy: as many servers run as may; try again later")).await;
    host.line().await;
    drop(line);
    let message = host.fault(0, "busy").await;
    assert!(message.ends_with(": as many servers run as may; try again later."), "{message}");
}

#[tokio::test]
async fn what_a_far_side_says_at_its_end_has_a_bound_and_no_control_characters() {
    let home = Home::new();
    let (_far, mut host, mut line) = met(&home).await;
    host.say(call(1, "tools/call")).await;
    line.expect(call(1, "tools/call")).await;
    let said = notice(&format!("a\u{1b}[2Jb{}", "x".repeat(1_000_000)));
    line.send(&said).await;
    assert_eq!(host.line().await, said);
    drop(line);
    let message = host.fault(1, "outcome_unknown").await;
    assert!(message.contains("(a[2Jbxxx") && message.len() < 800, "{} {message:.99}", message.len());
    // What it said before it said something else is not why it ended.
    let home = Home::new();
    let (_far, mut host, mut line) = met(&home).await;
    host.say(call(1, "tools/call")).await;
    line.expect(call(1, "tools/call")).await;
    for message in [notice("a"), call("s", "ping")] {
        line.send(&message).await;
        assert_eq!(host.line().await, message);
    }
    drop(line);
    let message = loop {
        let told = host.hear().await;
        if told["id"] == 1 {
            break told["error"]["message"].to_string();
        }
    };
    assert!(message.contains("truncated"), "{message}");
}
