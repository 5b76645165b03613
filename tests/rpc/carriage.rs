//! What goes through the layers, and how it looks outside.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tower::{Layer as _, ServiceExt as _};
use tower_seal::{
    Error,
    config::Encoding,
    error::Code,
    rpc::{NoService, SealLayer, UnsealLayer},
    telemetry::Metric,
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_request_is_one_final_record_and_so_is_its_answer_in_the_same_encoding() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = frames.clone();
        let wire = middle(sides.serve(echo()), move |frame, next| {
            let seen = seen.clone();
            async move {
                let answer = next.oneshot(frame.clone()).await?;
                seen.lock().unwrap().push((frame, answer.clone().unwrap()));
                Ok(answer)
            }
        });
        let answer = ask(&sides.seal(wire), request(1, "tools/list")).await.unwrap().unwrap();
        assert_eq!(parse(&answer)["result"], "tools/list");

        let frames = frames.lock().unwrap();
        assert_eq!(frames.len(), 2, "hello and message");
        assert!(is_hello(&frames[0].0) && is_hello(&frames[0].1));
        for frame in [&frames[1].0, &frames[1].1] {
            // The first byte of the nonce is the flags (PROTOCOL section 4).
            let flags = match encoding {
                Encoding::Binary => {
                    assert_eq!(frame[0], 0x01);
                    frame[2 + 48]
                }
                Encoding::Json => {
                    assert_eq!(frame[0], 0x7b);
                    assert!(!frame.contains(&b'\n'));
                    let nonce = parse(frame)["nonce"].as_str().unwrap()[..2].to_owned();
                    u8::from_str_radix(&nonce, 16).unwrap()
                }
            };
            assert_eq!(flags, 1, "FINAL");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_are_carried_as_they_are() {
    let text: &[&str] = &[
        "{\"id\" : 1 ,\n\t\"method\":\"m\", \"jsonrpc\": \"2.0\", \"params\": {\"x\": 1.50, \"x\": \"\\u00e9é\"}}",
        "  {\"jsonrpc\":\"2.0\",\"id\":\"\\u0031\",\"method\":\"m\",\"unknown\":[null,{}]} ",
        "[{\"id\":1,\"method\":\"a\"}, {\"method\":\"b\"}]",
        // What is no JSON-RPC is the far side's affair.
        "no json",
        "",
    ];
    let sides = Sides::new();
    let rpc = sides.seal(sides.serve(app(|message| async { Some(message.bytes) })));
    for text in text {
        assert_eq!(ask(&rpc, *text).await.unwrap().unwrap(), *text);
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_knows_who_called() {
    let sides = Sides::new();
    let app = app(|message| async move {
        let caller = message.caller.unwrap().node_id();
        Some(response(1, caller.to_string()))
    });
    let answer = ask(&sides.seal(sides.serve(app)), request(1, "whoami")).await.unwrap().unwrap();
    assert_eq!(parse(&answer)["result"], sides.client.node_id().to_string());
}

#[tokio::test(start_paused = true)]
async fn what_wants_no_answer_needs_none() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (app, served) = counted(echo());
        let rpc = sides.seal(sides.serve(app));
        let messages: [Bytes; 4] = [
            notification("notifications/initialized"),
            response(7, "done"),
            "[{\"method\":\"a\"},{\"id\":1,\"result\":2}]".into(),
            "[{\"id\":1,\"result\":2}]".into(),
        ];
        for (i, message) in messages.into_iter().enumerate() {
            assert_eq!(ask(&rpc, message).await.unwrap(), None);
            assert_eq!(served.value(), i + 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_to_what_wants_one_is_an_error() {
    let sides = Sides::new();
    let rpc = sides.seal(sides.serve(app(|_| async { None })));
    for message in [
        &*request(1, "m"),
        &*request("1", "m"),
        b"{\"id\":null,\"method\":\"m\"}",
        b"[{\"method\":\"a\"},{\"id\":1,\"method\":\"b\"}]",
        b"[1]",
        b"[]",
        b"{\"id\":1,\"method\":\"m\",\"id\":2}",
        b"junk",
    ] {
        let error = ask(&rpc, message.to_vec()).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Truncated), "{}", String::from_utf8_lossy(message));
    }
    assert_eq!(ask(&rpc, notification("m")).await.unwrap(), None, "the session goes on");
}

#[tokio::test(start_paused = true)]
async fn a_batch_passes_as_one_message() {
    let sides = Sides::new();
    let (app, served) = counted(echo());
    let rpc = sides.seal(sides.serve(app));
    let batch = "[{\"id\":1,\"method\":\"a\"},{\"method\":\"b\"},{\"id\":\"1\",\"method\":\"c\"}]";
    let answer = parse(&ask(&rpc, batch).await.unwrap().unwrap());
    assert_eq!((answer[0]["result"].as_str(), answer[1]["result"].as_str()), (Some("a"), Some("c")));
    assert_eq!(served.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_have_at_most_a_mebibyte() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(app(|message| async move {
        let size = parse(&message.bytes)["params"].as_u64().unwrap_or(0) as usize;
        Some(Bytes::from(vec![b' '; size]))
    })));
    let rpc = sides.seal(wire);
    let error = ask(&rpc, vec![b' '; MIB + 1]).await.unwrap_err();
    assert!(matches!(error, Error::Misuse { .. }), "{error:?}");
    assert_eq!(traffic.values(), (0, 0), "not even a hello goes for it");
    let mut largest = request(1, "m").to_vec();
    largest.resize(MIB, b' ');
    assert_eq!(ask(&rpc, largest).await.unwrap().unwrap(), "");

    // The answer too. Its caller gets a JSON-RPC error, since the request has been served.
    let asking = |size: usize| format!("{{\"id\":\"a\\u0062\",\"method\":\"m\",\"params\":{size}}}");
    assert_eq!(ask(&rpc, asking(MIB)).await.unwrap().unwrap().len(), MIB);
    assert_eq!(fault(&ask(&rpc, asking(MIB + 1)).await.unwrap().unwrap()), ("ab".into(), 413));
    let batch = format!("[{}]", asking(0));
    let wire = sides.serve(app(|_| async { Some(Bytes::from(vec![b' '; MIB + 1])) }));
    let answer = ask(&sides.seal(wire), batch).await.unwrap().unwrap();
    assert_eq!(faults(&answer), [("ab".into(), 413)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_is_told_to_a_request_whose_id_fills_the_error_too() {
    let sides = Sides::new();
    let (app, served) = counted(app(|_| async { Some(Bytes::from(vec![b' '; MIB + 1])) }));
    let message = request("x".repeat(MIB - 60), "m");
    let answer = ask(&sides.seal(sides.serve(app)), message).await.unwrap().unwrap();
    assert_eq!((fault(&answer), served.value()), ((serde_json::Value::Null, 413), 1));
}

#[tokio::test(start_paused = true)]
async fn what_answers_a_notification_is_opened_and_dropped() {
    let sides = Sides::new();
    let rpc = sides.seal(sides.serve(app(|_| async { Some("unasked".into()) })));
    for message in [notification("n"), response(1, "r")] {
        assert_eq!(ask(&rpc, message).await.unwrap(), None);
    }
    assert_eq!(sides.client.telemetry().value(Metric::RecordsOpened), 2);
}

#[tokio::test(start_paused = true)]
async fn a_side_that_serves_nothing_says_so_to_what_wants_an_answer() {
    let sides = Sides::new();
    let rpc = sides.seal(sides.serve(App::new(NoService.map_err(|never| match never {}))));
    assert_eq!(ask(&rpc, notification("n")).await.unwrap(), None);
    assert_eq!(sides.client.telemetry().value(Metric::RecordsOpened), 0);
    assert_eq!(fault(&ask(&rpc, request(1, "m")).await.unwrap().unwrap()), (1.into(), -32601));
    let batch = "[{\"id\":1,\"method\":\"m\"},{\"method\":\"n\"}]";
    assert_eq!(faults(&ask(&rpc, batch).await.unwrap().unwrap()), [(1.into(), -32601)]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_is_the_transports_and_the_caller_gets_nothing_of_it() {
    let sides = Sides::new();
    let app = App::new(tower::service_fn(|_| async { Err(Failure("secret")) }));
    let wire = UnsealLayer::new(sides.server.clone()).layer(app);
    let rpc = SealLayer::new(sides.client.clone()).layer(wire);
    let error = rpc.oneshot(request(1, "m")).await.unwrap_err();
    // The layer tried the same bytes once more, and heard that they had been taken.
    assert!(matches!(error, Error::OutcomeUnknown), "{error:?}");
}
