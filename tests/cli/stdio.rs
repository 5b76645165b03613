//! A stdio server behind `serve`: who gets to it, and what goes through.

use std::fs;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest as _},
};
use tower_seal::{
    Config, Error, Identity,
    config::{Encoding, Signatures},
    duplex::websocket::{self, Options, SUBPROTOCOL},
    error::Code,
    protocol::{Destination, Initiator},
    trust::Pinned,
};

use crate::{
    support::{Home, Upstream, get, mode, problem},
    wrapped::{ECHO, Wrapped, count, has_ended, hello, until},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn a_message_is_a_line_either_way() {
    let home = Home::new();
    let serve = home.wrap(&[], &["cat"]).await;
    assert_eq!(serve.scheme, "ws");
    let mut client = Wrapped::connect(&serve).await;
    for _ in 0..3 {
        client.say(PING).await;
        assert_eq!(client.raw().await.unwrap().unwrap(), PING.as_bytes(), "byte for byte");
    }
    // A line break in JSON is as good as a space, and would make two lines.
    client.say("{\"jsonrpc\":\"2.0\",\r\n\"method\":\n\"a\\n\"}\n").await;
    client.say("").await;
    let heard = client.raw().await.unwrap().unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), r#"{"jsonrpc":"2.0",  "method": "a\n"} "#);
    // The most that a record carries.
    let frame = r#"{"jsonrpc":"2.0","method":""}"#;
    let long = frame.replace("\"\"", &format!("\"{}\"", "x".repeat((1 << 20) - frame.len())));
    client.say(&long).await;
    assert_eq!(client.raw().await.unwrap().unwrap(), long.as_bytes());
    client.close().await;
    client.ends().await;
}

#[tokio::test]
async fn every_encoding_and_signature_policy_works() {
    let home = Home::new();
    let serve = home.wrap(&[], &["cat"]).await;
    for encoding in [Encoding::Json, Encoding::Binary] {
        for signatures in [Signatures::Every, Signatures::Handshake] {
            let trust = Pinned::new([serve.node.parse().unwrap()]);
            let config = Config::new(Identity::generate(), trust).encoding(encoding).signatures(signatures);
            let url = format!("ws://{}", serve.address);
            let mut client = Wrapped(websocket::connect(&url, &config, &Options::new()).await.unwrap());
            client.say(PING).await;
            assert_eq!(client.raw().await.unwrap().unwrap(), PING.as_bytes());
            client.close().await;
            client.ends().await;
        }
    }
}

#[tokio::test]
async fn each_connection_has_a_child_of_its_own_that_knows_its_caller_on_any_path() {
    let home = Home::new();
    let mut command = home.wrapping(&[], ECHO);
    command.env("TOWER_SEAL_PEER", "somebody else");
    let serve = crate::support::Daemon::start(command, "serve").await;
    let mut pids = Vec::new();
    let mut clients = Vec::new();
    for path in ["", "/", "/mcp", "/a/b?token=1"] {
        let identity = Identity::generate();
        let node = identity.node_id().to_string();
        let mut client = Wrapped::at(&serve, path, identity).await.unwrap();
        let hello = client.hear().await;
        assert_eq!(hello["params"][1], *node);
        pids.push(hello["params"][0].as_u64().unwrap());
        clients.push(client);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        client.say(&json!({ "jsonrpc": "2.0", "id": index }).to_string()).await;
    }
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.hear().await["id"], index);
    }
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4);
}

/// A hello for one path is of no use at another.
#[tokio::test]
async fn the_path_that_was_opened_is_the_one_in_the_hello_after_the_prefix() {
    let home = Home::new();
    let serve = home.wrap(&["--strip-prefix", "/tools"], &["cat"]).await;
    let refused = Wrapped::at(&serve, "/mcp", Identity::generate()).await.err().unwrap();
    assert!(matches!(refused, Error::Refused { code: Code::PathMismatch, .. }), "{refused:?}");
    let config = Config::new(Identity::generate(), Pinned::new([serve.node.parse().unwrap()]));
    for (target, right) in [("/tools/mcp", true), ("/tools/other", false)] {
        let mut request = format!("ws://{}/mcp", serve.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        let (mut socket, _) = connect_async(request).await.unwrap();
        let destination = Destination { target: Some(target), ..Destination::default() };
        let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
        let (hello, _) = Initiator::start(&config, destination, rng).unwrap();
        socket.send(Message::text(String::from_utf8(hello.to_vec()).unwrap())).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
        assert_eq!(answer.contains("path_mismatch"), !right, "{answer}");
    }
}

#[tokio::test]
async fn nothing_is_started_for_whom_is_not_known() {
    let home = Home::new();
    let friend = Identity::load_or_create(home.file("friend")).unwrap();
    let friend_id = friend.node_id().to_string();
    let metrics = ["--metrics", "127.0.0.1:0", "--allow", &friend_id];
    let mut command = home.wrapping(&metrics, ECHO);
    command.env("RUST_LOG", "info");
    let serve = crate::support::Daemon::start(command, "serve").await;

    let refused = Wrapped::at(&serve, "/", Identity::generate()).await.err().unwrap();
    assert!(matches!(refused, Error::Refused { code: Code::UntrustedPeer, .. }), "{refused:?}");
    // Somebody who has a friend's hello, and cannot go on.
    let config = Config::new(friend, Pinned::new([serve.node.parse().unwrap()]));
    let mut request = format!("ws://{}/", serve.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    let destination = Destination { target: Some("/"), ..Destination::default() };
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    let (hello, _) = Initiator::start(&config, destination, rng).unwrap();
    socket.send(Message::text(String::from_utf8(hello.to_vec()).unwrap())).await.unwrap();
    let reply = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(reply.contains("\"key_exchange\""), "{reply}");
    socket.send(Message::binary(vec![1; 200])).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(answer.contains("\"error\""), "{answer}");
    assert_eq!(count(&serve, "tower_seal_children_started_total").await, 0);

    let friend = Identity::load_or_create(home.file("friend")).unwrap();
    let mut client = Wrapped::at(&serve, "/", friend).await.unwrap();
    assert_eq!(client.hear().await["params"][1], *friend_id);
    assert_eq!(count(&serve, "tower_seal_children_started_total").await, 1);
}

#[tokio::test]
async fn what_is_no_message_goes_to_stderr_with_whose_it_is() {
    let home = Home::new();
    let script = concat!(
        "echo Ready; echo '[INFO] on stdio'; echo; echo '{\"level\":\"info\"}'; echo one >&2; ",
        "printf two >&2; echo '{\"jsonrpc\":\"2.0\",\"method\":\"up\"}'; cat"
    );
    for format in ["text", "json"] {
        let serve = home.wrap(&["--log", format], &["sh", "-c", script]).await;
        let identity = Identity::generate();
        let node = identity.node_id();
        let mut client = Wrapped::at(&serve, "/", identity).await.unwrap();
        assert_eq!(client.hear().await["method"], "up", "and nothing before it");
        client.close().await;
        client.ends().await;
        let said = ["Ready", "[INFO] on stdio", r#"{"level":"info"}"#, "one", "two"];
        until("all is said", async || serve.logged().lines().count() == said.len()).await;
        let log = serve.logged();
        for said in said {
            let from_stdout = !["one", "two"].contains(&said);
            let line = |line: &str| match format {
                "text" => {
                    let on = if from_stdout { ", no message on stdout" } else { "" };
                    line == format!("[child 1 of {}{on}] {said}", node.short())
                }
                _ => {
                    let line: Value = serde_json::from_str(line).unwrap();
                    let stream = if from_stdout { "stdout" } else { "stderr" };
                    let fields = json!({
                        "message": said, "child": 1, "peer": node.to_string(), "stream": stream,
                    });
                    line["fields"] == fields && line["target"] == "child" && line["timestamp"].is_string()
                }
            };
            assert!(log.lines().any(line), "{said} in\n{log}");
        }
    }
}

#[tokio::test]
async fn one_port_serves_http_and_websocket_clients() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.wrap(&["--upstream", &upstream.url()], ECHO).await;
    assert_eq!(serve.scheme, "http");
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    let mut client = Wrapped::at(&serve, "/mcp", Identity::generate()).await.unwrap();
    client.hear().await;
    for id in 0..3 {
        let (status, told) = get(&(proxy.url() + "/mcp")).await;
        assert_eq!((status, &told["peer"]), (200, &json!([proxy.node])));
        client.say(&json!({ "jsonrpc": "2.0", "id": id }).to_string()).await;
        assert_eq!(client.hear().await["id"], id);
    }
    assert_eq!(get(&serve.url()).await.0, 403, "plaintext is still not taken");
}

#[tokio::test]
async fn sealed_http_to_a_command_alone_is_told_where_to_go() {
    let home = Home::new();
    let serve = home.wrap(&[], ECHO).await;
    let (status, told) = get(&serve.url()).await;
    assert_eq!((status, &told["error"]["code"]), (426, &json!("websocket_only")));
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains("`tower-seal connect`") && message.contains("--upstream"), "{message}");
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    let message = problem(&(proxy.url() + "/mcp"), "unsealed").await;
    assert!(message.contains("`tower-seal connect`") && message.contains("ws://"), "{message}");
}

#[tokio::test]
async fn in_plaintext_it_is_mcp_over_websocket() {
    let home = Home::new();
    let script = concat!(hello!(), "cat; exit 3");
    let serve = home.wrap(&["--plaintext"], &["sh", "-c", script]).await;
    for offered in [None, Some("mcp"), Some("other, mcp")] {
        let mut request = format!("ws://{}/mcp", serve.address).into_client_request().unwrap();
        if let Some(offered) = offered {
            request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        }
        let (mut socket, response) = connect_async(request).await.unwrap();
        let chosen = response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap());
        assert_eq!(chosen, offered.map(|_| "mcp"));
        let hello = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let hello: Value = serde_json::from_str(&hello).unwrap();
        assert_eq!(hello["params"][1], "", "nobody knows who calls");
        socket.send(Message::text(PING)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(PING));
        // No record limits it, but a line does.
        if offered.is_none() {
            socket.send(Message::text(format!("\"{}\"", "x".repeat(1 << 20)))).await.unwrap();
            let notice = socket.next().await.unwrap().unwrap().into_text().unwrap();
            assert!(notice.contains("too_large: "), "{notice}");
            assert!(!matches!(socket.next().await, Some(Ok(Message::Text(_)))));
        }
        drop(socket);
        has_ended(hello["params"][0].as_u64().unwrap().try_into().unwrap()).await;
    }
}

#[tokio::test]
async fn plaintext_and_sealed_do_not_mix() {
    let home = Home::new();
    let serve = home.wrap(&[], ECHO).await;
    let refused = connect_async(format!("ws://{}/", serve.address)).await;
    let Err(WsError::Http(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.status(), 400);
    assert!(String::from_utf8_lossy(refused.body().as_ref().unwrap()).contains(SUBPROTOCOL));
    let serve = home.wrap(&["--plaintext"], ECHO).await;
    let refused = Wrapped::at(&serve, "/", Identity::generate()).await.err().unwrap();
    assert!(matches!(refused, Error::Unsealed { status: 101 }), "{refused:?}");
}

#[tokio::test]
async fn one_too_many_is_told_busy_until_there_is_room() {
    let home = Home::new();
    let arguments = ["--max-children", "2", "--metrics", "127.0.0.1:0"];
    let mut command = home.wrapping(&arguments, ECHO);
    command.env("RUST_LOG", "info");
    let serve = crate::support::Daemon::start(command, "serve").await;
    let mut first = Wrapped::connect(&serve).await;
    let pid = first.pid().await;
    let mut second = Wrapped::connect(&serve).await;
    second.pid().await;
    for _ in 0..3 {
        let busy = Wrapped::at(&serve, "/", Identity::generate()).await.err().unwrap();
        assert!(matches!(busy, Error::Refused { code: Code::Busy, .. }), "{busy:?}");
    }
    for (name, value) in [
        ("tower_seal_children_live", 2),
        ("tower_seal_children_started_total", 2),
        ("tower_seal_children_refused_total", 3),
        ("tower_seal_connections_live", 2),
        ("tower_seal_duplex_handshakes_total", 2),
    ] {
        assert_eq!(count(&serve, name).await, value, "{name}");
    }
    drop(first);
    has_ended(pid).await;
    until("room", async || count(&serve, "tower_seal_children_live").await == 1).await;
    let mut third = Wrapped::connect(&serve).await;
    third.pid().await;
    second.say(PING).await;
    assert_eq!(second.raw().await.unwrap().unwrap(), PING.as_bytes(), "the others notice nothing");
}

/// Those who come at once are all let in before it is known who is first.
#[tokio::test]
async fn of_many_at_once_no_more_get_a_child_than_may() {
    let home = Home::new();
    let serve = home.wrap(&["--max-children", "2"], ECHO).await;
    let come = async || {
        match Wrapped::at(&serve, "/", Identity::generate()).await {
            Ok(mut client) => {
                let first = client.hear().await;
                if first["method"] == "hello" {
                    return Some(client);
                }
                assert!(first["params"]["data"].as_str().unwrap().starts_with("busy: "), "{first}");
                assert_eq!(client.raw().await.unwrap().unwrap_err().code(), Some(Code::Truncated));
            }
            Err(busy) => assert!(matches!(busy, Error::Refused { code: Code::Busy, .. }), "{busy:?}"),
        }
        None
    };
    let came = futures_util::future::join_all((0..12).map(|_| come())).await;
    assert_eq!(came.iter().flatten().count(), 2);
}

#[tokio::test]
async fn in_plaintext_one_too_many_gets_503() {
    let home = Home::new();
    let serve = home.wrap(&["--plaintext", "--max-children", "1"], ECHO).await;
    let url = format!("ws://{}/", serve.address);
    let (mut socket, _) = connect_async(&url).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let refused = connect_async(&url).await;
    let Err(WsError::Http(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.status(), 503);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_found_before_anybody_comes() {
    let home = Home::new();
    let refused = async |command: &[&str], words: &[&str]| {
        let output = home.wrapping(&[], command).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = crate::support::Ran {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        ran.refused(2, words);
    };
    refused(&["no-such-server"], &["`no-such-server` cannot be started", "PATH", "give its path"]).await;
    let missing = home.path("missing");
    refused(&[&missing, "stdio"], &[&missing, "there is no such file", "after --"]).await;
    refused(&[&home.path("")], &["it is no file"]).await;
    let script = home.written("server.py", "print()");
    mode(&home.file("server.py"), 0o644);
    // To root everything that somebody may execute is executable, so nobody may.
    refused(&[&script], &[&script, "may not be executed", "`chmod +x", "`-- python3"]).await;
    refused(&[""], &["its name is empty"]).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_started_later_is_told_to_the_client() {
    let home = Home::new();
    let script = home.written("server", "#!/bin/sh\nexec cat\n");
    mode(&home.file("server"), 0o755);
    let serve = home.wrap(&[], &[&script]).await;
    let mut client = Wrapped::connect(&serve).await;
    client.say(PING).await;
    client.hear().await;
    fs::remove_file(&script).unwrap();
    let mut late = Wrapped::connect(&serve).await;
    late.fails("cannot be started").await;
    serve.logs(&format!("`{script}` cannot be started")).await;
    client.say(PING).await;
    client.hear().await;
}

#[tokio::test]
async fn the_command_line_has_to_make_sense() {
    let home = Home::new();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--allow-anyone"];
    let refused = async |arguments: &[&str], words: &[&str]| {
        home.run(&[&serve[..], arguments].concat()).await.refused(2, words);
    };
    refused(&[], &["what to serve?", "--upstream <URL>", "-- COMMAND"]).await;
    refused(&["--"], &["what to serve?"]).await;
    refused(&["cat"], &["unexpected argument 'cat'", "--help"]).await;
    refused(&["--max-children", "0", "--", "cat"], &["'0' for '--max-children", "--help"]).await;
    refused(&["--max-children", "5", "--upstream", "http://a"], &["COMMAND", "--help"]).await;
    refused(&["--authority", "a", "--", "cat"], &["--upstream <URL>", "--help"]).await;
    refused(&["--upstream-host", "a", "--", "cat"], &["--upstream <URL>", "--help"]).await;
    refused(&["--strip-prefix", "tools/", "--", "cat"], &["--strip-prefix tools/", "such as /tools"]).await;
    let nobody = ["serve", "--listen", "127.0.0.1:0", "--", "cat"];
    home.run(&nobody).await.refused(2, &["who may call?", "--allow NODE_ID", "--allow-anyone"]);
}
