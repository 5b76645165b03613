//! `connect` to `http://` in the era of sessions, against a server played by hand.

use serde_json::json;

use crate::{
    connect_hand::{INITIALIZE, INITIALIZED, WELCOME, call, result},
    connect_server::Server,
    support::Home,
};

#[tokio::test]
async fn messages_are_posted_in_the_session_and_answers_come_as_json_or_events() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let unasked = server.greet(&mut host, "one").await;

    host.say(call(1, "tools/list")).await;
    server.expect_in("one", call(1, "tools/list")).await.json(200, None, result(1) + "\n");
    assert_eq!(host.line().await, result(1));

    host.say(call(2, "tools/call")).await;
    let events = server.expect_in("one", call(2, "tools/call")).await.events();
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
    events.send(": a comment\n\nid: 1\ndata:\n\nevent: ping\ndata: {}\n\n");
    events.send(format!("event: message\nid: 2\ndata: {progress}\n\n"));
    assert_eq!(host.line().await, progress);
    // In two lines, each of which begins with `data:`.
    events.send("data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":2,\"result\":{}}\n\n");
    assert_eq!(host.line().await, r#"{"jsonrpc":"2.0", "id":2,"result":{}}"#);

    // Many at once, answered in any order.
    for id in 3..=5 {
        host.say(call(id, "tools/call")).await;
    }
    let mut asked = Vec::new();
    for _ in 3..=5 {
        asked.push(server.next().await);
    }
    for asked in asked.into_iter().rev() {
        let id = serde_json::from_str::<serde_json::Value>(&asked.body).unwrap()["id"].clone();
        asked.json(200, None, result(id.clone()));
        assert_eq!(host.line().await, result(id));
    }

    // What the server says unasked, and what it asks.
    unasked.message(call("s", "sampling/createMessage"));
    assert_eq!(host.line().await, call("s", "sampling/createMessage"));
    host.say(result("s")).await;
    server.expect_in("one", result("s")).await.accept();
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    host.say(changed).await;
    server.expect_in("one", changed).await.accept();

    assert!(server.ended(host, "one").await.lines().all(|line| line.contains("without any protection")));
    unasked.closed().await;
}

#[tokio::test]
async fn a_server_may_speak_within_its_answer_to_initialize() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    host.say(INITIALIZE).await;
    // Whoever does not wait waits here.
    host.say(INITIALIZED).await;
    host.say(call(1, "tools/list")).await;
    let asked = server.expect(INITIALIZE).await;
    let events = asked.events();
    events.message(call("s", "ping"));
    assert_eq!(host.line().await, call("s", "ping"));
    host.say(result("s")).await;
    server.expect(result("s")).await.accept();
    events.message(WELCOME);
    assert_eq!(host.line().await, WELCOME);
    let asked = server.expect(INITIALIZED).await;
    assert_eq!(asked.field("mcp-session-id"), None, "there is none");
    asked.accept();
    let asked = server.expect(call(1, "tools/list")).await;
    assert_eq!(asked.field("mcp-protocol-version"), Some("2025-11-25"));
    asked.json(200, None, result(1));
    assert_eq!(host.line().await, result(1));
    // No session, no DELETE.
    host.end().await;
}

#[tokio::test]
async fn a_batch_is_posted_whole_and_answered_in_parts_or_whole() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    let batch = format!("[{},{}]", call(1, "ping"), call(2, "ping"));
    host.say(&batch).await;
    let events = server.expect_in("one", &batch).await.events();
    events.message(result(2));
    assert_eq!(host.line().await, result(2));
    drop(events);
    assert!(host.fault(1, "outcome_unknown").await.contains("broke off"));
    host.say(&batch).await;
    let whole = format!("[{},{}]", result(1), result(2));
    server.expect_in("one", &batch).await.json(200, None, &*whole);
    assert_eq!(host.line().await, whole);
    server.ended(host, "one").await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_gone_on_with_where_it_was() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let unasked = server.greet(&mut host, "one").await;
    host.say(call(1, "tools/call")).await;
    let events = server.expect_in("one", call(1, "tools/call")).await.events();
    for event in ["a", "b"] {
        events.send(format!("id: {event}\nretry: 0\ndata: {}\n\n", call(event, "ping")));
        assert_eq!(host.line().await, call(event, "ping"));
    }
    drop(events);
    let asked = server.listener().await;
    assert_eq!((asked.field("mcp-session-id"), asked.field("last-event-id")), (Some("one"), Some("b")));
    // Not yet.
    asked.answer(503, &[], "");
    let events = server.listener().await.events();
    events.send(format!("id: c\ndata: {}\n\n", result(1)));
    assert_eq!(host.line().await, result(1));

    unasked.send("id: u\nretry: 0\ndata:\n\n");
    drop(unasked);
    let asked = server.listener().await;
    assert_eq!(asked.field("last-event-id"), Some("u"));
    let unasked = asked.events();
    unasked.message(call("s", "ping"));
    assert_eq!(host.line().await, call("s", "ping"));
    server.ended(host, "one").await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_gone_on_with_is_told_to_who_waits() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    // It had no event to go on after.
    host.say(call(1, "tools/call")).await;
    drop(server.expect_in("one", call(1, "tools/call")).await.events());
    let message = host.fault(1, "outcome_unknown").await;
    assert!(message.ends_with("Look whether it was done before you repeat it."), "{message}");
    // The server has forgotten it; or has nothing of it, time and again.
    for (id, gone) in [(2, true), (3, false)] {
        host.say(call(id, "tools/call")).await;
        let events = server.expect_in("one", call(id, "tools/call")).await.events();
        events.send("id: a\nretry: 0\ndata:\n\n");
        drop(events);
        if gone {
            server.listener().await.answer(404, &[], "");
        } else {
            for _ in 0..5 {
                drop(server.listener().await.events());
            }
        }
        host.fault(id, "outcome_unknown").await;
    }
    server.ended(host, "one").await;
}

#[tokio::test]
async fn an_answer_may_come_unasked_for() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let unasked = server.greet(&mut host, "one").await;
    for accepted in [true, false] {
        host.say(call(1, "tools/call")).await;
        let asked = server.expect_in("one", call(1, "tools/call")).await;
        let asked = if accepted {
            asked.accept();
            None
        } else {
            Some(asked)
        };
        unasked.message(result(1));
        assert_eq!(host.line().await, result(1));
        if let Some(asked) = asked {
            asked.abandoned().await;
        }
    }
    server.ended(host, "one").await;
}

#[tokio::test]
async fn a_server_without_a_stream_of_its_own_does_without() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    host.say(INITIALIZE).await;
    server.expect(INITIALIZE).await.json(200, Some("one"), WELCOME);
    host.line().await;
    host.say(INITIALIZED).await;
    server.expect_in("one", INITIALIZED).await.answer(200, &[], "");
    server.listener().await.answer(405, &[], "");
    host.say(call(1, "ping")).await;
    server.expect_in("one", call(1, "ping")).await.json(200, None, result(1));
    assert_eq!(host.line().await, result(1));
    server.ended(host, "one").await;
}

#[tokio::test]
async fn a_cancelled_request_is_told_to_the_server_and_then_left() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    host.say(call(1, "tools/call")).await;
    let events = server.expect_in("one", call(1, "tools/call")).await.events();
    let cancelled = json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } }).to_string();
    host.say(&cancelled).await;
    server.expect_in("one", &cancelled).await.accept();
    events.closed().await;
    // Once more is for nobody.
    host.say(&cancelled).await;
    server.ended(host, "one").await;
}

#[tokio::test]
async fn a_session_that_is_lost_is_begun_anew_unseen_by_the_host() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let unasked = server.greet(&mut host, "one").await;
    host.say(call(1, "tools/call")).await;
    let lost = server.expect_in("one", call(1, "tools/call")).await.events();
    unasked.message(call("s", "roots/list"));
    host.line().await;

    host.say(call(2, "tools/call")).await;
    server.expect_in("one", call(2, "tools/call")).await.answer(404, &[], "Not Found: Session not found");
    // What the old session asked is of no use any more.
    assert_eq!(host.hear().await["method"], "notifications/cancelled");
    unasked.closed().await;
    let _unasked = server.greet_again("two").await;
    // It was not served, and is now.
    server.expect_in("two", call(2, "tools/call")).await.json(200, None, result(2));
    let first = host.hear().await;
    let second = host.hear().await;
    let (lost_id, found) = if first["id"] == 1 { (first, second) } else { (second, first) };
    assert_eq!(found, serde_json::from_str::<serde_json::Value>(&result(2)).unwrap());
    assert_eq!(lost_id["error"]["data"]["code"], "outcome_unknown", "{lost_id}");
    lost.closed().await;

    // Twice is too much.
    host.say(call(3, "tools/call")).await;
    server.expect_in("two", call(3, "tools/call")).await.answer(404, &[], "");
    let _unasked = server.greet_again("three").await;
    server.expect_in("three", call(3, "tools/call")).await.answer(404, &[], "");
    let message = host.fault(3, "begun_anew").await;
    assert!(message.contains("lost the session"), "{message}");

    // The server does not want to.
    host.say(call(4, "tools/call")).await;
    server.expect_in("three", call(4, "tools/call")).await.answer(404, &[], "");
    server.expect(INITIALIZE).await.answer(500, &[], "");
    host.fault(4, "http_status").await;
    // Then perhaps later.
    host.say(call(5, "tools/call")).await;
    let _unasked = server.greet_again("four").await;
    server.expect_in("four", call(5, "tools/call")).await.json(200, None, result(5));
    assert_eq!(host.line().await, result(5));
    server.ended(host, "four").await;
}

#[tokio::test]
async fn sigterm_ends_the_session() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    host.say(call(1, "tools/call")).await;
    let asked = server.expect_in("one", call(1, "tools/call")).await;
    host.signal("TERM");
    host.fault(1, "stopped").await;
    asked.abandoned().await;
    server.next().await.answer(405, &[], "");
    host.ended().await;
}

#[tokio::test]
async fn refusals_are_answers_where_they_are_json_rpc_and_told_where_not() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    let error =
        |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602, "message":"no"}}}}"#);
    for (status, id, content) in
        [(400, "1", "1"), (400, "null", "1"), (500, "\"server-error\"", "1"), (200, "null", "1")]
    {
        host.say(call(1, "tools/call")).await;
        server.expect_in("one", call(1, "tools/call")).await.json(status, None, error(id));
        assert_eq!(host.line().await, error(content), "{status} {id}");
    }
    for (status, body, name, words) in [
        (
            500,
            "broken\n",
            "http_status",
            "HTTP 500 Internal Server Error (broken). See the log of the server.",
        ),
        (401, "", "http_status", "HTTP 401 Unauthorized. The server wants a right"),
        (429, "", "http_status", "Try again later."),
        (302, "", "http_status", "HTTP 302 Found"),
        (
            502,
            r#"{"error":{"code":"upstream_unreachable","message":"It does not answer."}}"#,
            "upstream_unreachable",
            "It does not answer.",
        ),
        (400, r#"{"jsonrpc":"2.0","id":1}"#, "http_status", "HTTP 400"),
    ] {
        host.say(call(1, "tools/call")).await;
        server.expect_in("one", call(1, "tools/call")).await.json(status, None, body);
        let message = host.fault(1, name).await;
        assert!(message.contains(words), "{message}");
    }
    for (kind, body) in [("text/html", "<p>"), ("application/json", "<p>"), ("application/json", "{}")] {
        host.say(call(1, "tools/call")).await;
        server.expect_in("one", call(1, "tools/call")).await.answer(200, &[("content-type", kind)], body);
        host.fault(1, "unexpected_answer").await;
    }
    server.ended(host, "one").await;
}

#[tokio::test]
async fn answers_and_events_have_a_bound() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    let long = |bytes: usize| format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(bytes));
    host.say(call(1, "tools/call")).await;
    server.expect_in("one", call(1, "tools/call")).await.json(200, None, long(15 << 20));
    assert_eq!(host.line().await, long(15 << 20));
    host.say(call(1, "tools/call")).await;
    server.expect_in("one", call(1, "tools/call")).await.json(200, None, long(16 << 20));
    host.fault(1, "too_large").await;
    host.say(call(1, "tools/call")).await;
    let events = server.expect_in("one", call(1, "tools/call")).await.events();
    events.message(long(16 << 20));
    assert!(host.fault(1, "outcome_unknown").await.contains("an event has more than"));
    server.ended(host, "one").await;
}
