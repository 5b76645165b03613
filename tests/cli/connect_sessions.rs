//! `connect` to `http://` and the session that it has there: lost, and refused in every way that there is.

use axum::body::{Body, Bytes};
use futures_util::stream;

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
