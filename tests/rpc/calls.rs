//! `rpc::Client`: answers find their calls.

use bytes::Bytes;
use serde_json::{Value, json};
use tower::{Service as _, ServiceExt as _};
use tower_seal::{
    Config, Error,
    rpc::{Client, Message, NoService, serve},
    telemetry::Metric,
};

use crate::{far::*, support::*};

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_in_flight_and_answers_in_any_order() {
    let (client, mut far, _end) = client(&Config::plaintext(), 16);
    let calls: Vec<_> = (0..1000)
        .map(|i| {
            // Numbers and strings alike.
            let id: Value = if i % 2 == 0 { json!(i) } else { json!(i.to_string()) };
            let client = client.clone();
            tokio::spawn(async move { (i, call(&client, request(id, &format!("m{i}"))).await) })
        })
        .collect();
    let mut requests = Vec::new();
    for _ in 0..1000 {
        requests.push(far.receive().await);
    }
    // 7919 has no factor in common with 1000.
    for i in 0..1000 {
        let request = &requests[i * 7919 % 1000];
        far.send(response(request["id"].clone(), request["method"].clone())).await;
    }
    for call in calls {
        let (i, answer) = call.await.unwrap();
        assert_eq!(parse(&answer.unwrap().unwrap())["result"], format!("m{i}"));
    }
}

#[tokio::test(start_paused = true)]
async fn ids_are_compared_as_json_values() {
    let (client, mut far, _end) = client(&Config::plaintext(), 16);
    // The id that is sent, how it comes back, and an id that is another.
    for (sent, back, other) in [
        ("1", "1", "\"1\""),
        ("\"1\"", "\"\\u0031\"", "1"),
        ("1.0", "1", "1.5"),
        ("100", "1e2", "1000"),
        ("0", "-0.0", "\"0\""),
        ("-9223372036854775808", "-9223372036854775808", "9223372036854775808"),
        ("9007199254740993", "9007199254740993", "9007199254740992"),
        // Beyond 2^63, where numbers with a fraction cannot tell neighbours apart.
        ("18446744073709551615", "18446744073709551615", "18446744073709551614"),
        ("18446744073709551616", "1.8446744073709551616e19", "18446744073709551615"),
        ("1e40", "10000000000000000000000000000000000000000", "1e39"),
        ("1e300", "1E+300", "1e301"),
        ("0.1", "1e-1", "0.2"),
        ("\"\"", "\"\"", "null"),
        ("\"a\\/b\"", "\"a/b\"", "\"a\\\\/b\""),
    ] {
        let asked = call(&client, format!("{{\"method\":\"m\",\"id\":{sent}}}"));
        let mut asked = Box::pin(asked);
        begin(&mut asked).await;
        far.receive().await;
        far.send(format!("{{\"id\":{other},\"result\":\"other\"}}")).await;
        let answer = format!("{{\"id\" : {back} ,\"result\":\"own\"}}");
        far.send(answer.clone()).await;
        assert_eq!(asked.await.unwrap().unwrap(), answer, "{sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_in_flight_is_not_taken_twice_and_may_be_used_again_afterwards() {
    let (client, mut far, _end) = client(&Config::plaintext(), 16);
    let mut first = Box::pin(call(&client, request(1, "first")));
    begin(&mut first).await;
    for message in
        ["{\"id\":1,\"method\":\"m\"}", "{\"id\":1.0,\"method\":\"m\"}", "[{\"id\":1,\"method\":\"m\"}]"]
    {
        let error = call(&client, message).await.unwrap_err();
        assert!(matches!(error, Error::Misuse { .. }), "{error:?}");
    }
    let mut text = Box::pin(call(&client, request("1", "text")));
    begin(&mut text).await;
    assert_eq!(far.receive().await["method"], "first");
    assert_eq!(far.receive().await["method"], "text");
    far.send(response("1", "text")).await;
    far.send(response(1, "first")).await;
    assert_eq!(parse(&first.await.unwrap().unwrap())["result"], "first");
    assert_eq!(parse(&text.await.unwrap().unwrap())["result"], "text");

    let mut again = Box::pin(call(&client, request(1, "again")));
    begin(&mut again).await;
    assert_eq!(far.receive().await["method"], "again");
    far.send(response(1, "again")).await;
    assert_eq!(parse(&again.await.unwrap().unwrap())["result"], "again");
    assert!(far.is_silent(), "what was refused was not sent");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_call_is_misuse() {
    let (client, mut far, _end) = client(&Config::plaintext(), 16);
    for message in [
        "",
        "junk",
        "1",
        "null",
        "{}",
        "{\"method\":1}",
        "{\"id\":null,\"method\":\"m\"}",
        "{\"id\":true,\"method\":\"m\"}",
        "{\"id\":[1],\"method\":\"m\"}",
        "{\"id\":1,\"method\":\"m\",\"id\":1}",
        "{\"id\":1,\"method\":\"m\"} {}",
        "{\"id\":\"\\ud800\",\"method\":\"m\"}",
        "[]",
        "[1]",
        "[[{\"id\":1,\"method\":\"m\"}]]",
        "[{\"id\":1,\"method\":\"m\"},{\"id\":1,\"method\":\"m\"}]",
    ] {
        let error = call(&client, message).await.unwrap_err();
        assert!(matches!(error, Error::Misuse { .. }), "{message} {error:?}");
    }
    let mut unready = client.clone();
    let error = unready.call(request(1, "m").into()).await.unwrap_err();
    assert!(matches!(error, Error::Misuse { .. }), "{error:?}");
    settle().await;
    assert!(far.is_silent());
}

#[tokio::test(start_paused = true)]
async fn what_wants_no_answer_is_done_when_it_is_on_its_way() {
    let (client, mut far, _end) = client(&Config::plaintext(), 1);
    let messages = [notification("n"), response(5, "r"), "[{\"method\":\"m\"}]".into()];
    for message in messages.clone() {
        assert_eq!(call(&client, message.clone()).await.unwrap(), None);
        assert_eq!(far.receiver.recv().await.unwrap(), message);
    }
    // The far side reads nothing: the first is in the connection, the second waits.
    assert_eq!(call(&client, messages[0].clone()).await.unwrap(), None);
    let mut second = Box::pin(call(&client, messages[1].clone()));
    begin(&mut second).await;
    settle().await;
    begin(&mut second).await;
    far.receive().await;
    assert_eq!(second.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_answered_by_an_array_of_its_answers() {
    let config = Config::plaintext();
    let (client, mut far, _end) = client(&config, 16);
    let batch = "[{\"id\":1,\"method\":\"a\"},{\"method\":\"n\"},{\"id\":\"1\",\"method\":\"b\"},{\"id\":2,\"method\":\"c\"}]";
    for answer in [
        "[{\"id\":\"1\",\"result\":1},{\"id\":1,\"result\":1},{\"id\":2,\"result\":1}]",
        " [ {\"id\":2,\"result\":1} ] ",
    ] {
        let mut asked = Box::pin(call(&client, batch));
        begin(&mut asked).await;
        assert_eq!(far.receiver.recv().await.unwrap(), batch, "as one message");
        // An answer to one of its members by itself is none to it.
        far.send(response(1, "alone")).await;
        settle().await;
        begin(&mut asked).await;
        far.send(answer).await;
        assert_eq!(asked.await.unwrap().unwrap(), answer);
        // All of its ids are free again.
        for id in [json!(1), json!("1"), json!(2)] {
            let mut single = Box::pin(call(&client, request(id.clone(), "m")));
            begin(&mut single).await;
            far.receive().await;
            far.send("[{\"id\":1,\"result\":\"no batch\"}]").await;
            far.send(response(id, "alone")).await;
            assert_eq!(parse(&single.await.unwrap().unwrap())["result"], "alone");
        }
    }
    assert_eq!(config.telemetry().value(Metric::LateAnswers), 2 + 2 * 3);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_batch_is_known_by_any_id_that_tells_calls_apart() {
    let (client, mut far, _end) = client(&Config::plaintext(), 16);
    for answer in [
        "[{\"id\":null,\"error\":{}},{\"id\":null,\"error\":{}},{\"id\":2,\"result\":1}]",
        "[{\"id\":1e999,\"error\":{}},{\"id\":1,\"result\":1},{\"id\":2,\"result\":1}]",
    ] {
        let mut asked = Box::pin(call(&client, "[{\"id\":1,\"method\":\"a\"},{\"id\":2,\"method\":\"b\"}]"));
        begin(&mut asked).await;
        far.receive().await;
        far.send(answer).await;
        assert_eq!(asked.await.unwrap().unwrap(), answer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_cannot_be_served_ends_its_call() {
    let batch = "[{\"id\":1,\"method\":\"a\"},{\"method\":\"n\"},{\"id\":2,\"method\":\"b\"}]";
    for (code, app) in [
        (-32603, App::new(tower::service_fn(|_| async { Err(Failure("no")) }))),
        (413, app(|_| async { Some(vec![b' '; 1000].into()) })),
        (-32601, App::new(NoService.map_err(|never| match never {}))),
    ] {
        let (mut left, right) = pipes(16);
        left.longest = 500;
        tokio::spawn(serve(&Config::plaintext(), left, app));
        let (client, driver) = Client::connect(&Config::plaintext(), right);
        tokio::spawn(driver);
        let answer = call(&client, batch).await.unwrap().unwrap();
        assert_eq!(faults(&answer), [(1.into(), code), (2.into(), code)]);
    }
    // As many errors as fit into a record, where the batch is full of requests.
    let many: Vec<_> = (0..40_000).map(|i| format!("{{\"id\":{i},\"method\":\"m\"}}")).collect();
    let (client, driver) = {
        let (left, right) = pipes(16);
        tokio::spawn(serve(&Config::plaintext(), left, NoService));
        Client::connect(&Config::plaintext(), right)
    };
    tokio::spawn(driver);
    let answer = call(&client, format!("[{}]", many.join(","))).await.unwrap().unwrap();
    assert!((MIB - 100..=MIB).contains(&answer.len()), "{}", answer.len());
}

#[tokio::test(start_paused = true)]
async fn a_response_may_have_a_method_that_is_null() {
    let (client, mut far, _end) = client(&Config::plaintext(), 16);
    let mut asked = Box::pin(call(&client, request(1, "m")));
    begin(&mut asked).await;
    far.receive().await;
    far.send("{\"id\":1,\"method\":null,\"error\":null,\"result\":\"r\"}").await;
    assert_eq!(parse(&asked.await.unwrap().unwrap())["result"], "r");
    assert!(far.is_silent());
}

// ---- what nobody waits for ----

#[tokio::test(start_paused = true)]
async fn cancelled_calls_leave_nothing_behind() {
    let config = config(|limits| limits.in_flight = 3);
    let (client, mut far, _end) = client(&config, 16);
    for round in 0..50 {
        // As many as there may be, each time: slots and ids are free again.
        let mut calls: Vec<_> = (0..3).map(|i| Box::pin(call(&client, request(i, "m")))).collect();
        for call in &mut calls {
            begin(call).await;
        }
        for _ in 0..3 {
            far.receive().await;
        }
        drop(calls);
        for i in 0..3 {
            far.send(response(i, "late")).await;
        }
        settle().await;
        assert_eq!(config.telemetry().value(Metric::LateAnswers), 3 * (round + 1));
    }
    let mut last = Box::pin(call(&client, request(1, "m")));
    begin(&mut last).await;
    far.receive().await;
    far.send(response(1, "in time")).await;
    assert_eq!(parse(&last.await.unwrap().unwrap())["result"], "in time");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_before_it_is_sent_is_not_sent() {
    let (client, mut far, _end) = client(&config(|limits| limits.in_flight = 4), 1);
    assert_eq!(call(&client, notification("fills the connection")).await.unwrap(), None);
    let mut held = Box::pin(call(&client, notification("held by the driver")));
    begin(&mut held).await;
    settle().await;
    let mut asked = Box::pin(call(&client, request(1, "cancelled")));
    let mut told = Box::pin(call(&client, notification("cancelled")));
    begin(&mut asked).await;
    begin(&mut told).await;
    drop((asked, told));
    let mut again = Box::pin(call(&client, request(1, "again")));
    begin(&mut again).await;
    for method in ["fills the connection", "held by the driver", "again"] {
        assert_eq!(far.receive().await["method"], method);
    }
    settle().await;
    assert!(far.is_silent());
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_cancelled_call_is_not_taken_for_a_later_one_with_its_id_dropped_late() {
    let (client, mut far, _end) = client(&Config::plaintext(), 16);
    let mut first = Box::pin(call(&client, request(1, "first")));
    begin(&mut first).await;
    far.receive().await;
    far.send(response(1, "first")).await;
    settle().await;
    // Answered, and not looked at yet. Its id is free, and its end does not end the next.
    let mut second = Box::pin(call(&client, request(1, "second")));
    begin(&mut second).await;
    drop(first);
    far.receive().await;
    far.send(response(1, "second")).await;
    assert_eq!(parse(&second.await.unwrap().unwrap())["result"], "second");
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_asked_for_are_dropped_and_counted() {
    let config = Config::plaintext();
    let (client, far, _end) = client(&config, 16);
    let answers: [Bytes; 6] = [
        response(1, "r"),
        "{\"id\":null,\"error\":{}}".into(),
        "{\"id\":1e999,\"result\":1}".into(),
        "{\"id\":\"\\ud800\",\"result\":1}".into(),
        "[{\"id\":1,\"result\":1}]".into(),
        "[{\"id\":null,\"result\":1},{\"id\":2,\"result\":1}]".into(),
    ];
    for (i, answer) in answers.into_iter().enumerate() {
        far.send(answer).await;
        settle().await;
        assert_eq!(config.telemetry().value(Metric::LateAnswers), i as u64 + 1);
    }
    drop(client);
}

// ---- bounds ----

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_bounded() {
    let (client, mut far, _end) = client(&config(|limits| limits.in_flight = 2), 16);
    let mut calls: Vec<_> = (0..2).map(|i| Box::pin(call(&client, request(i, "m")))).collect();
    for call in &mut calls {
        begin(call).await;
    }
    let mut third = client.clone();
    let mut ready = Box::pin(third.ready());
    begin(&mut ready).await;
    far.receive().await;
    begin(&mut ready).await;
    far.send(response(0, "r")).await;
    // Answered: the slot is the next one's, even before the first looks at its answer.
    calls.remove(0).await.unwrap();
    ready.await.unwrap();
    // A readiness that is not used is given back.
    drop(third);
    client.clone().ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clone_is_not_ready_because_its_original_is() {
    let (mut client, _far, _end) = client(&config(|limits| limits.in_flight = 1), 16);
    client.ready().await.unwrap();
    let mut clone = client.clone();
    let mut ready = Box::pin(clone.ready());
    begin(&mut ready).await;
    drop(client);
    ready.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_in_time_is_an_error_and_late_afterwards() {
    let config = config(|limits| limits.response = 7 * SECOND);
    let (client, mut far, _end) = client(&config, 16);
    let began = tokio::time::Instant::now();
    let error = call(&client, request(1, "m")).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert_eq!(began.elapsed(), 7 * SECOND);
    far.receive().await;
    far.send(response(1, "late")).await;
    settle().await;
    assert_eq!(config.telemetry().value(Metric::LateAnswers), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_a_service_that_can_go_anywhere() {
    fn anywhere<S>(_: &S)
    where
        S: tower::Service<Message, Response = Option<Bytes>, Error = Error> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
    }
    let (client, _far, end) = client(&Config::plaintext(), 16);
    anywhere(&client);
    // Its driver ends with it.
    drop(client);
    end.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_to_a_side_that_serves_nothing_find_no_method() {
    let (_client, mut far, _end) = client(&Config::plaintext(), 16);
    far.send(notification("n")).await;
    far.send(request("x", "m")).await;
    assert_eq!(fault(&far.receiver.recv().await.unwrap()), ("x".into(), -32601));
    far.send("[{\"method\":\"n\"},{\"id\":1,\"method\":\"m\"}]").await;
    assert_eq!(faults(&far.receiver.recv().await.unwrap()), [(1.into(), -32601)]);
    settle().await;
    assert!(far.is_silent());
}
