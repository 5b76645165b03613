//! `connect` to `http://` and the session that it has there: lost, and refused in every way that there is.

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::json;

use crate::{
    connect_hand::{INITIALIZE, INITIALIZED, WELCOME, call, result},
    connect_server::Server,
    support::Home,
};

/// What the reference servers of npm say after a restart.
const NO_SESSION: &str = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}"#;

#[tokio::test]
async fn a_session_may_be_refused_with_400_too() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    host.say(call(1, "tools/call")).await;
    server.expect_in("one", call(1, "tools/call")).await.json(400, None, NO_SESSION);
    let _unasked = server.greet_again("two").await;
    server.expect_in("two", call(1, "tools/call")).await.json(200, None, result(1));
    assert_eq!(host.line().await, result(1));
    // That is about something else, and an answer.
    for message in [
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"the database has no session"}}"#,
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32600,"message":"no such tool"}}"#,
    ] {
        host.say(call(2, "tools/call")).await;
        server.expect_in("two", call(2, "tools/call")).await.json(400, None, message);
        assert_eq!(host.line().await, message);
    }
    server.ended(host, "two").await;
}

#[tokio::test]
async fn what_is_answered_with_404_is_answered_and_not_asked_again() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such tool"}}"#;
    host.say(call(1, "tools/call")).await;
    server.expect_in("one", call(1, "tools/call")).await.json(404, None, error);
    assert_eq!(host.line().await, error);
    server.ended(host, "one").await;
}

/// Says that it has begun, and breaks.
fn broken() -> Body {
    Body::from_stream(stream::iter([
        Ok(Bytes::from(r#"{"jsonrpc":"2.0","#)),
        Err(std::io::Error::other("broken")),
    ]))
}

#[tokio::test]
async fn an_answer_that_breaks_is_no_reason_to_ask_again_unless_that_does_no_harm() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    let json = [("content-type", "application/json")];
    for (method, code, words) in [
        ("tools/call", "outcome_unknown", "Look whether it was done before you repeat it."),
        ("tools/list", "connection_lost", "try again."),
    ] {
        host.say(call(1, method)).await;
        server.expect_in("one", call(1, method)).await.answer(200, &json, broken());
        let message = host.fault(1, code).await;
        assert!(message.ends_with(words) && !message.contains("x=1"), "{message}");
        // It is not let go on with, which is no loss of the session.
        host.say(call(2, method)).await;
        let events = server.expect_in("one", call(2, method)).await.events();
        events.send("id: a\nretry: 0\ndata:\n\n");
        drop(events);
        server.listener().await.answer(405, &[], "");
        let message = host.fault(2, code).await;
        assert!(
            message.contains("does not let it be gone on with") && !message.contains("session"),
            "{message}"
        );
    }
    server.ended(host, "one").await;
}

#[tokio::test]
async fn what_was_to_be_answered_on_a_stream_that_there_is_not_is_not_waited_for() {
    let (home, mut server) = (Home::new(), Server::start().await);
    for (status, body, code) in
        [(405, "", "unexpected_answer"), (404, "", "outcome_unknown"), (400, NO_SESSION, "outcome_unknown")]
    {
        let mut host = server.connect(&home);
        host.say(INITIALIZE).await;
        server.expect(INITIALIZE).await.json(200, Some("one"), WELCOME);
        host.line().await;
        host.say(INITIALIZED).await;
        server.expect_in("one", INITIALIZED).await.accept();
        let listener = server.listener().await;
        host.say(call(1, "tools/call")).await;
        server.expect_in("one", call(1, "tools/call")).await.accept();
        listener.json(status, None, body);
        host.fault(1, code).await;
        // Nor is it later.
        host.say(call(2, "tools/call")).await;
        server.expect_in("one", call(2, "tools/call")).await.accept();
        host.fault(2, code).await;
        server.ended(host, "one").await;
    }
}

#[tokio::test]
async fn a_cancellation_that_hung_in_a_lost_session_holds_up_none_in_the_next() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    let cancel = |id: u64| {
        json!({ "method": "notifications/cancelled", "params": { "requestId": id, "reason": "?" } })
            .to_string()
    };
    host.say(call(1, "tools/call")).await;
    let _first = server.expect_in("one", call(1, "tools/call")).await;
    host.say(cancel(1)).await;
    let _hanging = server.expect_in("one", cancel(1)).await;
    host.say(call(2, "tools/call")).await;
    server.expect_in("one", call(2, "tools/call")).await.json(404, None, "");
    let _unasked = server.greet_again("two").await;
    let second = server.expect_in("two", call(2, "tools/call")).await;
    host.say(cancel(2)).await;
    server.expect_in("two", cancel(2)).await.accept();
    second.abandoned().await;
    server.ended(host, "two").await;
}

#[tokio::test]
async fn what_was_to_be_answered_on_the_stream_of_a_session_that_is_no_more_is_not_waited_for() {
    let (home, mut server) = (Home::new(), Server::start().await);
    // The server has lost it, and takes the host in no more.
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    host.say(call(1, "tools/call")).await;
    server.expect_in("one", call(1, "tools/call")).await.accept();
    host.say(call(2, "tools/call")).await;
    server.expect_in("one", call(2, "tools/call")).await.json(404, None, "");
    host.fault(1, "outcome_unknown").await;
    let refusal = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#;
    server.expect(INITIALIZE).await.json(200, None, refusal);
    host.fault(2, "begun_anew").await;
    host.end().await;
    // The host begins anew.
    let mut host = server.connect(&home);
    let _unasked = server.greet(&mut host, "one").await;
    host.say(call(1, "tools/call")).await;
    server.expect_in("one", call(1, "tools/call")).await.accept();
    host.say(INITIALIZE).await;
    host.fault(1, "outcome_unknown").await;
}

#[tokio::test]
async fn one_of_a_batch_that_has_not_left_may_be_cancelled_without_the_others() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    host.say(INITIALIZE).await;
    let greeting = server.expect(INITIALIZE).await;
    let batch = format!("[{},{}]", call(1, "tools/call"), call(2, "tools/call"));
    host.say(&batch).await;
    host.say(r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#).await;
    // It has read as far as to this.
    assert_eq!(host.ask("{").await["error"]["code"], -32700);
    greeting.json(200, Some("one"), WELCOME);
    assert_eq!(host.line().await, WELCOME);
    server.expect_in("one", &batch).await.json(200, None, format!("[{}]", result(2)));
    assert_eq!(host.line().await, format!("[{}]", result(2)));
    server.ended(host, "one").await;
}
