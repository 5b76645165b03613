//! What children do to their clients, to each other and to the operator's terminal; and who is told of it.

use std::fs;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::{connect_async, tungstenite::Message};
use tower_seal::Identity;

use crate::{
    support::{Daemon, Home},
    wrapped::{ECHO, Wrapped, count, has_ended, hello, lives, until},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn a_child_does_nothing_to_the_terminal() {
    let home = Home::new();
    let script =
        r"printf 'a\033[2Jb\rc\td\233\n' >&2; printf '\033]0;x\007\n'; printf 'e\342\200\256f\n' >&2; cat";
    let serve = home.wrap(&[], &["sh", "-c", script]).await;
    let _client = Wrapped::connect(&serve).await;
    serve.logs("] a\\u{1b}[2Jb\\rc\td\u{fffd}\n").await;
    serve.logs("] \\u{1b}]0;x\\u{7}\n").await;
    serve.logs("] e\\u{202e}f\n").await;
}

#[tokio::test]
async fn lines_that_are_no_messages_have_a_bound_and_no_character_is_cut() {
    let home = Home::new();
    let python =
        "import sys\nfor to in sys.stdout, sys.stderr: print('ä€' * 5000, file=to, flush=True)\ninput()";
    let serve = home.wrap(&[], &["python3", "-X", "utf8", "-c", python]).await;
    let _client = Wrapped::connect(&serve).await;
    serve.logs("… (16808 bytes more)").await;
    until("all of stderr", async || serve.logged().matches("€").count() == 5000 + 1638).await;
    let logged = serve.logged();
    assert!(logged.lines().all(|line| line.len() < 8400), "{logged}");
    assert!(!logged.contains('\u{fffd}'), "{logged}");
}

/// In plaintext, so that the pings are the test's own.
#[tokio::test]
async fn a_client_is_heard_while_its_child_is_busy() {
    let home = Home::new();
    let serve = home.wrap(&["--plaintext"], &["sh", "-c", concat!(hello!(), "exec sleep 1000")]).await;
    let (mut socket, _) = connect_async(format!("ws://{}/", serve.address)).await.unwrap();
    let hello = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let hello: serde_json::Value = serde_json::from_str(&hello).unwrap();
    let long = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "x".repeat(1_000_000));
    for number in 0..4_u8 {
        socket.send(Message::text(&long)).await.unwrap();
        socket.send(Message::Ping(vec![number].into())).await.unwrap();
        let pong = tokio::time::timeout(crate::support::LONG, socket.next()).await.expect("it is heard");
        assert_eq!(pong.unwrap().unwrap(), Message::Pong(vec![number].into()));
    }
    drop(socket);
    has_ended(hello["params"][0].as_u64().unwrap().try_into().unwrap()).await;
}

#[tokio::test]
async fn one_node_does_not_take_the_places_of_another() {
    let home = Home::new();
    let most = ["--max-children", "3", "--max-children-per-node", "2", "--metrics", "127.0.0.1:0"];
    let mut command = home.wrapping(&most, ECHO);
    command.env("RUST_LOG", "info");
    let serve = Daemon::start(command, "serve").await;
    let greedy = || Identity::load_or_create(home.file("greedy")).unwrap();
    let mut first = Wrapped::at(&serve, "/", greedy()).await.unwrap();
    let mut second = Wrapped::at(&serve, "/", greedy()).await.unwrap();
    let pid = first.pid().await;
    second.pid().await;
    let mut third = Wrapped::at(&serve, "/", greedy()).await.unwrap();
    third.fails("busy: there are as many servers for this node as --max-children-per-node allows").await;
    assert_eq!(count(&serve, "tower_seal_children_refused_total").await, 1);
    let mut other = Wrapped::connect(&serve).await;
    other.pid().await;
    drop(first);
    has_ended(pid).await;
    until("room", async || count(&serve, "tower_seal_children_live").await == 2).await;
    let mut fourth = Wrapped::at(&serve, "/", greedy()).await.unwrap();
    fourth.pid().await;
}

#[tokio::test]
async fn what_a_wrapper_has_started_gets_its_time_after_sigterm() {
    let home = Home::new();
    let (mark, up) = (home.path("mark"), home.path("up"));
    // It is not told of before it can be sent a signal.
    let server = format!(
        "(trap 'sleep 3; echo done > {mark}; exit' TERM; : > {up}; while :; do sleep 0.1; done) > /dev/null 2>&1 & \
         until [ -e {up} ]; do sleep 0.1; done; "
    );
    let tell = r#"echo '{"jsonrpc":"2.0","method":"second","params":['$!']}'; "#;
    let serve = home.wrap(&[], &["sh", "-c", &[hello!(), &server, tell, "read line"].concat()]).await;
    let mut client = Wrapped::connect(&serve).await;
    client.pid().await;
    let server = client.pid().await;
    drop(client);
    has_ended(server).await;
    assert_eq!(fs::read_to_string(mark).unwrap(), "done\n");
    assert!(!lives(server));
}

#[tokio::test]
async fn the_operator_is_told_of_children_that_end_by_themselves() {
    let home = Home::new();
    for (script, words) in [
        ("exit 3", "a server ended by itself"),
        ("echo '{\"jsonrpc\":\"2.0\",\"method\":\"up\"}'; exit 3", "exit status: 3"),
        ("exit 0", "a server ended by itself before it said anything"),
    ] {
        let serve = home.wrap(&[], &["sh", "-c", script]).await;
        let mut client = Wrapped::connect(&serve).await;
        while let Some(Ok(_)) = client.raw().await {}
        serve.logs(words).await;
        assert_eq!(serve.logged().matches("WARN").count(), 1, "{}", serve.logged());
    }
    // Not of those whose client has gone.
    let serve = home.wrap(&[], &["sh", "-c", "cat; exit 3"]).await;
    for goes in [true, false] {
        let mut client = Wrapped::connect(&serve).await;
        client.say(PING).await;
        client.raw().await.unwrap().unwrap();
        if goes {
            drop(client);
        } else {
            client.close().await;
            client.fails("exit status: 3").await;
        }
    }
    serve.signal("TERM");
    assert_eq!(serve.ended().await, (Some(0), String::new()));
}

#[tokio::test]
async fn an_answer_that_no_record_can_carry_is_refused_and_the_child_goes_on() {
    let home = Home::new();
    let python = concat!(
        "import sys, json\n",
        "for line in sys.stdin:\n",
        "  id = json.loads(line)['id']\n",
        "  at = {'jsonrpc': '2.0', 'id': id}\n",
        "  what = {'result': {'id': 9, 'text': 'x' * (5 if id == 3 else 3 << 20)}}\n",
        "  print(json.dumps({**at, **what} if id == 1 else {**what, **at}), flush=True)\n",
    );
    let serve = home.wrap(&[], &["python3", "-c", python]).await;
    let mut client = Wrapped::connect(&serve).await;
    for id in [1, 2] {
        client.say(&PING.replace('1', &id.to_string())).await;
        let told = client.hear().await;
        assert_eq!((&told["id"], &told["error"]["code"]), (&json!(id), &json!(413)), "{told}");
        assert_eq!(told["error"]["data"]["code"], "too_large");
        assert!(told["error"]["message"].as_str().unwrap().contains("ask for less"), "{told}");
    }
    client.say(&PING.replace('1', "3")).await;
    assert_eq!(client.hear().await["result"]["text"], "xxxxx");
    client.close().await;
    client.ends().await;
}
