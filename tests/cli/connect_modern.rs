//! `connect` to `http://` in the era without sessions, against a server played by hand.

use serde_json::{Value, json};

use crate::{
    connect_hand::{INITIALIZE, WELCOME, result},
    connect_server::{Asked, Server},
    support::Home,
};

fn message(id: u64, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// The fields that mirror it, and no session.
fn mirrored(asked: &Asked) -> Vec<(&str, &str)> {
    assert_eq!(asked.field("mcp-session-id"), None);
    assert_eq!(asked.field("mcp-protocol-version"), Some("2026-07-28"));
    let own = |name: &str| name.starts_with("mcp-") && name != "mcp-protocol-version";
    let mut fields: Vec<_> = asked
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .filter(|(name, _)| own(name))
        .collect();
    fields.sort_unstable();
    fields
}

#[tokio::test]
async fn fields_mirror_each_message() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let discover = message(1, "server/discover", json!({}));
    host.say(&discover).await;
    let asked = server.expect(&discover).await;
    assert_eq!(mirrored(&asked), [("mcp-method", "server/discover")]);
    asked.json(200, None, result(1));
    assert_eq!(host.line().await, result(1));

    let call =
        message(2, "tools/call", json!({ "name": "deploy é", "arguments": { "region": " eu", "n": 7 } }));
    let plain = [("mcp-method", "tools/call"), ("mcp-name", "=?base64?ZGVwbG95IMOp?=")];
    host.say(&call).await;
    let asked = server.expect(&call).await;
    assert_eq!(mirrored(&asked), plain);
    asked.json(200, None, result(2));
    host.line().await;

    // Once the tool is known, its arguments too.
    let list = message(3, "tools/list", json!({}));
    host.say(&list).await;
    let properties = json!({
        "region": { "type": "string", "x-mcp-header": "Region" }, "n": { "type": "integer", "x-mcp-header": "N" },
        "other": { "type": "string", "x-mcp-header": "Other" },
    });
    let tools =
        json!([{ "name": "deploy é", "inputSchema": { "type": "object", "properties": properties } }]);
    let listed = json!({ "jsonrpc": "2.0", "id": 3, "result": { "tools": tools } }).to_string();
    let events = server.expect(&list).await.events();
    events.message(&listed);
    assert_eq!(host.line().await, listed, "the list stays as it is");
    host.say(&call).await;
    let asked = server.expect(&call).await;
    let params = [("mcp-param-n", "7"), ("mcp-param-region", "=?base64?IGV1?=")];
    assert_eq!(mirrored(&asked), [&plain[..], &params].concat());
    asked.json(200, None, result(2));
    host.line().await;

    let read = message(4, "resources/read", json!({ "uri": "note://one" }));
    host.say(&read).await;
    let asked = server.expect(&read).await;
    assert_eq!(mirrored(&asked), [("mcp-method", "resources/read"), ("mcp-name", "note://one")]);
    asked.json(200, None, result(4));
    host.line().await;
    // No session, no GET, no DELETE.
    host.end().await;
}

#[tokio::test]
async fn a_tool_that_the_host_knew_before_is_learned_when_its_call_is_refused() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let call = |id| message(id, "tools/call", json!({ "name": "deploy", "arguments": { "region": "eu" } }));
    let refusal =
        |id| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32020, "message": "Header mismatch" } });
    host.say(call(1)).await;
    server.expect(call(1)).await.json(400, None, refusal(1).to_string());
    let properties = json!({ "region": { "type": "string", "x-mcp-header": "Region" } });
    let tool = json!({ "name": "deploy", "inputSchema": { "type": "object", "properties": properties } });
    for (cursor, result) in
        [(None, json!({ "tools": [], "nextCursor": "two" })), (Some("two"), json!({ "tools": [tool] }))]
    {
        let list = server.next().await;
        let asked: Value = serde_json::from_str(&list.body).unwrap();
        assert_eq!(mirrored(&list), [("mcp-method", "tools/list")]);
        assert_eq!(
            (asked["method"].as_str(), asked["params"]["cursor"].as_str()),
            (Some("tools/list"), cursor)
        );
        let page = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
        list.json(200, None, page.to_string());
    }
    let asked = server.expect(call(1)).await;
    assert!(mirrored(&asked).contains(&("mcp-param-region", "eu")));
    asked.json(200, None, result(1));
    assert_eq!(host.line().await, result(1), "and nothing else");
    // Once is enough.
    host.say(call(2)).await;
    server.expect(call(2)).await.json(400, None, refusal(2).to_string());
    assert_eq!(host.hear().await, refusal(2));
    host.end().await;
}

#[tokio::test]
async fn the_end_of_its_stream_says_that_a_request_is_cancelled() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let cancel = |id: u64| json!({ "method": "notifications/cancelled", "params": { "requestId": id } });
    let call = |id| message(id, "tools/call", json!({ "name": "hang" }));
    host.say(call(1)).await;
    let events = server.expect(call(1)).await.events();
    host.say(cancel(1)).await;
    events.closed().await;
    // Before there is an answer at all.
    host.say(call(2)).await;
    let asked = server.expect(call(2)).await;
    host.say(cancel(2)).await;
    asked.abandoned().await;
    // Nothing of that was posted, and nothing is waited for.
    host.say(call(3)).await;
    server.expect(call(3)).await.json(200, None, result(3));
    assert_eq!(host.line().await, result(3));
    host.end().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_lost() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let call = message(1, "tools/call", json!({ "name": "count" }));
    host.say(&call).await;
    let events = server.expect(&call).await.events();
    events.send("id: 1\nretry: 0\ndata:\n\n");
    drop(events);
    let words = host.fault(1, "outcome_unknown").await;
    assert!(words.ends_with("Look whether it was done before you repeat it."), "{words}");
    // 404 is about the method here.
    host.say(&call).await;
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}"#;
    server.expect(&call).await.json(404, None, error);
    assert_eq!(host.line().await, error);
    host.say(&call).await;
    server.expect(&call).await.answer(404, &[], "");
    assert!(host.fault(1, "http_status").await.contains("Check the path in the URL"));
    host.say(&call).await;
    server.expect(&call).await.accept();
    host.fault(1, "unexpected_answer").await;
    host.end().await;
}

#[tokio::test]
async fn a_host_of_both_eras_falls_back_by_itself() {
    let (home, mut server) = (Home::new(), Server::start().await);
    let mut host = server.connect(&home);
    let discover = message(9, "server/discover", json!({}));
    host.say(&discover).await;
    server.expect(&discover).await.answer(400, &[], "Bad Request: no session");
    assert!(host.fault(9, "http_status").await.contains("Bad Request: no session"));
    let _unasked = server.greet(&mut host, "one").await;
    host.say(INITIALIZE.replace("\"id\":0", "\"id\":1")).await;
    // Once more, by itself: the old session is ended.
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let asked = server.next().await;
        kinds.push(asked.method.to_string());
        if asked.method == "DELETE" {
            assert_eq!(asked.field("mcp-session-id"), Some("one"));
            asked.accept();
        } else {
            asked.json(200, Some("two"), WELCOME.replace("\"id\":0", "\"id\":1"));
        }
    }
    kinds.sort();
    assert_eq!(kinds, ["DELETE", "POST"]);
    assert_eq!(host.hear().await["id"], 1);
    server.ended(host, "two").await;
}
