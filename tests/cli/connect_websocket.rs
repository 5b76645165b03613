//! `connect` to `ws://`: what goes through, and how it ends.

use serde_json::json;
use tower_seal::Config;

use crate::{
    connect_hand::{Connect, Far, INITIALIZE, INITIALIZED, WELCOME, call, result},
    support::Home,
};

#[tokio::test]
async fn messages_go_through_as_they_are_a_line_each() {
    let (home, far) = (Home::new(), Far::start().await);
    for arguments in [&[][..], &["--encoding", "json", "--signatures", "handshake"]] {
        let mut host = far.connect(&home, arguments);
        host.say(INITIALIZE).await;
        let mut line = far.accept().await;
        line.expect(INITIALIZE).await;
        // A server may speak before it answers.
        let early =
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"é"}}"#;
        line.send(early).await;
        assert_eq!(host.line().await, early);
        line.send("{\n  \"jsonrpc\": \"2.0\",\r\n  \"id\": 0,\n  \"result\": {\"x\": \"a\\nb\"}\n}\n").await;
        assert_eq!(host.line().await, r#"{   "jsonrpc": "2.0",    "id": 0,   "result": {"x": "a\nb"} }"#);
        host.say(INITIALIZED).await;
        line.expect(INITIALIZED).await;

        // In any order, with ids of all kinds; blank lines are nothing.
        let ids = [json!(1), json!("1"), json!(-7), json!("\u{1F600} \"")];
        for id in &ids {
            host.say(call(id.clone(), "tools/call")).await;
            host.say("").await;
        }
        for id in &ids {
            line.expect(call(id.clone(), "tools/call")).await;
        }
        for id in ids.iter().rev() {
            line.send(result(id.clone())).await;
            assert_eq!(host.line().await, result(id.clone()));
        }

        // The other way round, and at the same time.
        line.send(call("s", "sampling/createMessage")).await;
        assert_eq!(host.line().await, call("s", "sampling/createMessage"));
        host.say(result("s")).await;
        line.expect(result("s")).await;
        let batch = format!("[{}, {INITIALIZED},{}]", call(8, "ping"), call(9, "ping"));
        host.say(&batch).await;
        line.expect(&batch).await;
        line.send(format!("[{},{}]", result(9), result(8))).await;
        assert_eq!(host.line().await, format!("[{},{}]", result(9), result(8)));

        host.end_stdin();
        line.ended().await;
        assert_eq!(host.ended().await, "");
    }
}

#[tokio::test]
async fn at_the_end_of_stdin_answers_that_are_due_still_come() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    host.say(INITIALIZE).await;
    host.say(INITIALIZED).await;
    host.say(call(1, "tools/list")).await;
    host.end_stdin();
    let mut line = far.accept().await;
    for message in [INITIALIZE, INITIALIZED, &call(1, "tools/list")] {
        line.expect(message).await;
    }
    line.send(WELCOME).await;
    assert_eq!(host.line().await, WELCOME);
    line.send(result(1)).await;
    assert_eq!(host.line().await, result(1));
    line.ended().await;
    assert_eq!(host.ended().await, "");

    // Nothing was ever said: nobody is asked.
    assert_eq!(far.connect(&home, &[]).end().await, "");
}

#[tokio::test]
async fn sigterm_and_ctrl_c_end_it_at_once_and_tidily() {
    let (home, far) = (Home::new(), Far::start().await);
    for signal in ["TERM", "INT"] {
        let mut host = far.connect(&home, &[]);
        host.say(INITIALIZE).await;
        let mut line = far.accept().await;
        line.greet(&mut host).await;
        host.say(call("due", "tools/call")).await;
        line.expect(call("due", "tools/call")).await;
        host.signal(signal);
        let message = host.fault("due", "stopped").await;
        assert!(message.contains("ends before the answer came"), "{message}");
        line.ended().await;
        assert_eq!(host.ended().await, "");
    }
}

#[tokio::test]
async fn a_host_that_reads_no_more_ends_it() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    host.end_stdout();
    // The first one may still go into the pipe's last breath.
    line.send(call("s", "ping")).await;
    line.send(call("t", "ping")).await;
    line.ended().await;
    assert_eq!(host.ended().await, "");
}

#[tokio::test]
async fn what_is_no_message_is_answered_and_goes_nowhere() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    for (text, code) in [
        ("{", -32700),
        ("hello", -32700),
        ("7", -32600),
        ("{}", -32600),
        ("[]", -32600),
        (r#"{"id":[],"method":"m"}"#, -32600),
    ] {
        let told = host.ask(text).await;
        assert_eq!((told["id"].is_null(), &told["error"]["code"]), (true, &json!(code)), "{text}: {told}");
    }
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    // Nor does it come from there.
    for text in ["nonsense", "{}", "7"] {
        line.send(text).await;
    }
    line.send_bytes(&b"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"text\":\"\xff\"}}"[..]).await;
    line.send(call("s", "ping")).await;
    assert_eq!(host.line().await, call("s", "ping"));
    host.end_stdin();
    line.ended().await;
    let logged = host.ended().await;
    assert_eq!(logged.matches("a line on stdin is no JSON-RPC message").count(), 1, "{logged}");
    assert_eq!(logged.matches("the far side sent what is no JSON-RPC message").count(), 1, "{logged}");
}

#[tokio::test]
async fn a_message_of_more_than_1_mib_is_answered_and_the_rest_goes_on() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    let sized = |id: u64, bytes: usize| {
        let empty = json!({ "id": id, "method": "m", "params": { "x": "" } }).to_string().len();
        json!({ "id": id, "method": "m", "params": { "x": "x".repeat(bytes - empty) } }).to_string()
    };
    host.say(sized(1, (1 << 20) + 1)).await;
    assert!(host.fault(1, "too_large").await.contains("at most 1 MiB"));
    let most = sized(2, 1 << 20);
    host.say(&most).await;
    line.expect(&most).await;
    line.send(result(2)).await;
    assert_eq!(host.line().await, result(2));
    // An answer to the far side has to be one, too.
    line.send(call("s", "sampling/createMessage")).await;
    host.line().await;
    host.say(json!({ "id": "s", "result": "x".repeat(1 << 20) })).await;
    let told = line.next().await.unwrap();
    assert!(std::str::from_utf8(&told).unwrap().contains("too_large"));
    host.end_stdin();
    line.ended().await;
    host.ended().await;
}

#[tokio::test]
async fn a_cancelled_request_is_waited_for_no_more() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    let cancel = |id: u64| {
        json!({ "method": "notifications/cancelled", "params": { "requestId": id, "reason": "?" } })
            .to_string()
    };
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    host.say(call(1, "tools/call")).await;
    host.say(call(2, "tools/call")).await;
    line.expect(call(1, "tools/call")).await;
    line.expect(call(2, "tools/call")).await;
    host.say(cancel(1)).await;
    line.expect(cancel(1)).await;
    // Nobody has asked for 3, so that nobody is told of its end.
    host.say(cancel(3)).await;
    host.end_stdin();
    line.send(result(2)).await;
    assert_eq!(host.line().await, result(2));
    line.ended().await;
    assert_eq!(host.ended().await, "");
}

#[tokio::test]
async fn so_many_requests_may_be_under_way_and_no_more() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    for id in 1..=1024 {
        host.say(call(id, "tools/call")).await;
        line.expect(call(id, "tools/call")).await;
    }
    host.say(call(1025, "tools/call")).await;
    assert!(host.fault(1025, "busy").await.contains("was not sent"));
    // What is not asked goes on.
    line.send(call("s", "ping")).await;
    host.line().await;
    host.say(result("s")).await;
    line.expect(result("s")).await;
    line.send(result(7)).await;
    assert_eq!(host.line().await, result(7));
    host.say(call(1026, "tools/call")).await;
    line.expect(call(1026, "tools/call")).await;
    host.signal("TERM");
    for _ in 0..1024 {
        assert_eq!(host.hear().await["error"]["data"]["code"], "stopped");
    }
    line.ended().await;
    host.ended().await;
}

#[tokio::test]
async fn plaintext_goes_through_in_the_clear_and_says_so() {
    let (home, far) = (Home::new(), Far::with(Config::plaintext()).await);
    let mut host = Connect::start(&home, &["--plaintext", &far.url()]);
    host.say(INITIALIZE).await;
    let mut line = far.accept().await;
    line.greet(&mut host).await;
    host.say(call(1, "ping")).await;
    line.expect(call(1, "ping")).await;
    line.send(result(1)).await;
    assert_eq!(host.line().await, result(1));
    host.end_stdin();
    line.ended().await;
    assert!(host.ended().await.contains("without any protection"));
}

#[tokio::test]
async fn one_of_a_batch_that_has_not_left_may_be_cancelled_without_the_others() {
    let (home, far) = (Home::new(), Far::start().await);
    let mut host = far.connect(&home, &[]);
    let cancel =
        |id: u64| json!({ "method": "notifications/cancelled", "params": { "requestId": id } }).to_string();
    let batch = |ids: [u64; 2]| format!("[{},{}]", call(ids[0], "tools/call"), call(ids[1], "tools/call"));
    host.say(batch([1, 2])).await;
    host.say(batch([3, 4])).await;
    for id in [1, 2, 3] {
        host.say(cancel(id)).await;
    }
    // It has read as far as to this, and nobody has answered it there yet.
    assert_eq!(host.ask("{").await["error"]["code"], -32700);
    let mut line = far.accept().await;
    line.expect(batch([3, 4])).await;
    line.expect(cancel(3)).await;
    line.send(result(4)).await;
    assert_eq!(host.line().await, result(4));
    host.end_stdin();
    line.ended().await;
    host.ended().await;
}
