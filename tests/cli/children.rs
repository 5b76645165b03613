//! How a child of `serve` and its client's connection end.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::SinkExt as _;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    support::{Daemon, Home, LONG},
    wrapped::{ECHO, Wrapped, count, has_ended, hello, lives, until},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// A line of shell that says `method`.
fn tell(method: &str) -> String {
    format!(r#"echo '{{"jsonrpc":"2.0","method":"{method}"}}'; "#)
}

async fn wrap(home: &Home, script: &str) -> Daemon {
    home.wrap(&[], &["sh", "-c", &[hello!(), script].concat()]).await
}

#[tokio::test]
async fn a_child_that_ends_well_has_said_everything_before() {
    let home = Home::new();
    let serve = wrap(&home, r#"for i in $(seq 500); do echo '{"jsonrpc":"2.0","id":'$i'}'; done"#).await;
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    // It has ended long before all of it is read.
    has_ended(pid).await;
    for id in 1..=500 {
        assert_eq!(client.hear().await, json!({ "jsonrpc": "2.0", "id": id }));
    }
    client.ends().await;
    client.close().await;
}

#[tokio::test]
async fn a_child_that_fails_is_told_to_its_client_and_to_no_other() {
    let home = Home::new();
    let script =
        [&*tell("bye"), "read line; case $line in *1*) exit 3;; *2*) kill -KILL $$;; esac; cat"].concat();
    let serve = wrap(&home, &script).await;
    let mut other = Wrapped::connect(&serve).await;
    for (message, words) in [(PING, "exit status: 3"), (&*PING.replace("1,", "2,"), "signal: 9")] {
        // The version has a 2, too.
        let message = message.replace("2.0", "x.0");
        let mut client = Wrapped::connect(&serve).await;
        client.pid().await;
        assert_eq!(client.hear().await["method"], "bye");
        client.say(&message).await;
        client.fails(words).await;
    }
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    client.hear().await;
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &format!("kill -TERM {pid}")])
            .status()
            .unwrap()
            .success()
    );
    client.fails("signal: 15").await;
    other.pid().await;
    assert_eq!(other.hear().await["method"], "bye");
    let third = PING.replace("2.0", "x.0").replace("1,", "3,");
    other.say(&third).await;
    other.say(PING).await;
    assert_eq!(other.raw().await.unwrap().unwrap(), PING.as_bytes());
}

#[tokio::test]
async fn when_the_client_has_said_all_the_child_may_answer_and_ends() {
    let home = Home::new();
    let serve = wrap(&home, &["cat; ", &*tell("bye")].concat()).await;
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    for _ in 0..100 {
        client.say(PING).await;
    }
    client.close().await;
    for _ in 0..100 {
        assert_eq!(client.raw().await.unwrap().unwrap(), PING.as_bytes());
    }
    assert_eq!(client.hear().await["method"], "bye");
    client.ends().await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn when_the_client_goes_the_child_ends_with_its_stdin() {
    let home = Home::new();
    let mark = home.path("eof");
    let serve = wrap(&home, &format!("cat; echo done > {mark}")).await;
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    client.say(PING).await;
    client.hear().await;
    drop(client);
    has_ended(pid).await;
    assert_eq!(fs::read_to_string(mark).unwrap(), "done\n", "by itself");
}

/// `exec`, so that it is one process.
const DEAF: &str = concat!(
    "exec python3 -c 'import signal, sys, time\n",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
    "while True: time.sleep(1000)'"
);

#[tokio::test]
async fn a_child_that_ignores_its_stdin_gets_sigterm() {
    let home = Home::new();
    let trap = format!("trap \"{} exit 0\" TERM; ", tell("term").replace('"', "\\\"").trim_end());
    let serve = wrap(&home, &[&*trap, &tell("ready"), "while :; do sleep 1000 & wait; done"].concat()).await;
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    assert_eq!(client.hear().await["method"], "ready");
    let began = Instant::now();
    client.close().await;
    assert_eq!(client.hear().await["method"], "term");
    assert!(began.elapsed() >= Duration::from_secs(4), "after its 5 s");
    client.ends().await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn a_child_that_ignores_everything_is_killed() {
    let home = Home::new();
    let serve = wrap(&home, DEAF).await;
    let mut client = Wrapped::connect(&serve).await;
    let mut gone = Wrapped::connect(&serve).await;
    let (pid, other) = (client.pid().await, gone.pid().await);
    client.close().await;
    drop(gone);
    client.fails("signal: ").await;
    has_ended(pid).await;
    has_ended(other).await;
}

#[tokio::test]
async fn what_a_child_has_started_ends_with_it() {
    let home = Home::new();
    let second = r#"sleep 1000 & echo '{"jsonrpc":"2.0","method":"second","params":['$!']}'; "#;
    // A wrapper that waits, as npx does, and passes nothing on; one that is gone before what it started; and one
    // whose grandchild takes SIGTERM for nothing.
    let stubborn = second.replace("sleep 1000", "(trap '' TERM; sleep 1000; sleep 1000)");
    for script in [[second, "wait"].concat(), [second, "read line"].concat(), [&*stubborn, "wait"].concat()] {
        let serve = wrap(&home, &script).await;
        for goes in [true, false] {
            let mut client = Wrapped::connect(&serve).await;
            let pids = [client.pid().await, client.pid().await];
            assert!(lives(pids[1]));
            if goes {
                drop(client);
            } else {
                client.close().await;
                while let Some(Ok(_)) = client.raw().await {}
            }
            for pid in pids {
                has_ended(pid).await;
            }
        }
    }
}

#[tokio::test]
async fn a_line_that_no_record_can_carry_ends_the_connection() {
    let home = Home::new();
    let frame = r#"print("{\"jsonrpc\":\"2.0\",\"method\":\"" + "x" * LENGTH + "\"}")"#;
    let script = |length: usize| frame.replace("LENGTH", &length.to_string());
    let frame = r#"{"jsonrpc":"2.0","method":""}"#.len();
    let limit = (1 << 20) - frame;
    let serve = home.wrap(&[], &["python3", "-c", &script(limit)]).await;
    let mut client = Wrapped::connect(&serve).await;
    assert_eq!(client.raw().await.unwrap().unwrap().len(), 1 << 20);
    client.ends().await;
    let python = format!("{}; input()", script(limit + 1));
    let serve = home.wrap(&[], &["python3", "-c", &python]).await;
    Wrapped::connect(&serve).await.fails("a line of more than 1 MiB").await;
    // Nor without an end.
    let endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)";
    let serve = home.wrap(&[], &["python3", "-c", endless]).await;
    Wrapped::connect(&serve).await.fails("a line of more than 1 MiB").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_child_back() {
    let home = Home::new();
    let mark = home.path("count");
    let python = format!(
        "import sys\nfor i in range(60):\n sys.stdout.write('{{\"jsonrpc\":\"2.0\",\"method\":\"' + 'x' * 1000000 + '\"}}\\n')\n \
         sys.stdout.flush(); open('{mark}', 'w').write(str(i))"
    );
    let serve = home.wrap(&[], &["python3", "-c", &python]).await;
    let mut client = Wrapped::connect(&serve).await;
    let written = || fs::read_to_string(&mark).ok().and_then(|text| text.parse::<u32>().ok());
    until("it begins", async || written().is_some()).await;
    let mut last = None;
    loop {
        // Until nothing changes; where it stops too early for that, the less there is.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = written();
        if now == last && now.is_some() {
            break;
        }
        last = now;
    }
    assert!(last.unwrap() < 45, "{last:?} of 60 MB have been taken by nobody");
    for _ in 0..60 {
        assert!(client.raw().await.unwrap().unwrap().len() > 1_000_000);
    }
    client.ends().await;
}

#[tokio::test]
async fn a_child_that_does_not_read_holds_its_client_back() {
    let home = Home::new();
    let go = home.path("go");
    let script =
        format!(r#"while ! [ -e {go} ]; do sleep 0.1; done; echo '{{"jsonrpc":"2.0","id":'$(wc -l)'}}'"#);
    let serve = wrap(&home, &script).await;
    let mut client = Wrapped::connect(&serve).await;
    client.pid().await;
    let message = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "x".repeat(1_000_000));
    let mut sent = 0;
    loop {
        sent += 1;
        // What was taken leaves with the next call.
        if timeout(Duration::from_secs(1), client.0.send(message.clone().into())).await.is_err() {
            break;
        }
        assert!(sent < 100, "{sent} MB have been taken by nobody");
    }
    fs::write(go, "").unwrap();
    client.close().await;
    assert_eq!(client.hear().await["id"], sent, "nothing is lost");
    client.ends().await;
}

#[tokio::test]
async fn fifty_connections_leave_nothing_behind() {
    let home = Home::new();
    let mut command = home.wrapping(&["--metrics", "127.0.0.1:0"], ECHO);
    command.env("RUST_LOG", "tower_seal=info");
    let serve = Daemon::start(command, "serve").await;
    let files = || fs::read_dir(format!("/proc/{}/fd", serve.pid())).unwrap().count();
    let before = files();
    let mut pids = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Wrapped::connect(&serve).await;
        pids.push(client.pid().await);
        clients.push(client);
    }
    assert_eq!(count(&serve, "tower_seal_children_live").await, 50);
    for (index, mut client) in clients.into_iter().enumerate() {
        if index % 2 == 0 {
            client.close().await;
            client.ends().await;
        }
    }
    for pid in pids {
        has_ended(pid).await;
    }
    for name in ["tower_seal_children_live", "tower_seal_connections_live"] {
        until(name, async || count(&serve, name).await == 0).await;
    }
    assert_eq!(count(&serve, "tower_seal_children_started_total").await, 50);
    // A few are the metrics' own connections.
    until("no descriptor is left", async || files() < before + 20).await;
}

#[tokio::test]
async fn sigterm_takes_nobody_new_and_ends_with_the_last_client() {
    let home = Home::new();
    let serve = home.wrap(&[], ECHO).await;
    let mut client = Wrapped::connect(&serve).await;
    client.pid().await;
    let began = Instant::now();
    serve.signal("TERM");
    timeout(LONG, async { while TcpStream::connect(&serve.address).await.is_ok() {} }).await.unwrap();
    client.say(PING).await;
    assert_eq!(client.raw().await.unwrap().unwrap(), PING.as_bytes(), "it runs on");
    client.close().await;
    client.ends().await;
    assert_eq!(serve.ended().await, (Some(0), String::new()));
    assert!(began.elapsed() < Duration::from_secs(9), "at once, not after the 10 s");
}

#[tokio::test]
async fn after_10_s_the_child_is_told_to_end_and_the_client_is_told_that_it_did() {
    let home = Home::new();
    let serve = wrap(&home, &["cat; ", &*tell("bye")].concat()).await;
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    let began = Instant::now();
    serve.signal("TERM");
    assert_eq!(client.hear().await["method"], "bye");
    assert!(began.elapsed() >= Duration::from_secs(9));
    client.ends().await;
    client.close().await;
    assert_eq!(serve.ended().await, (Some(0), String::new()));
    assert!(!lives(pid));
}

#[tokio::test]
async fn the_second_signal_kills_the_children() {
    let home = Home::new();
    let serve = wrap(&home, DEAF).await;
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    let began = Instant::now();
    serve.signal("TERM");
    timeout(LONG, async { while TcpStream::connect(&serve.address).await.is_ok() {} }).await.unwrap();
    assert!(lives(pid));
    serve.signal("INT");
    assert_eq!(serve.ended().await.0, Some(0));
    assert!(began.elapsed() < Duration::from_secs(9));
    has_ended(pid).await;
}

/// Nobody tells the children of one that was killed but their stdin.
#[tokio::test]
async fn the_children_of_a_serve_that_was_killed_end_with_their_stdin() {
    let home = Home::new();
    let serve = home.wrap(&[], ECHO).await;
    let mut client = Wrapped::connect(&serve).await;
    let pid = client.pid().await;
    serve.kill().await;
    has_ended(pid).await;
    assert!(client.raw().await.unwrap().is_err(), "an end that nobody sealed is no end");
}

#[tokio::test]
async fn all_that_a_client_said_reaches_a_child_that_takes_its_time() {
    let home = Home::new();
    let go = home.path("go");
    let script = format!(
        r#"while ! [ -e {go} ]; do sleep 0.1; done; while read -r line; do echo '{{"jsonrpc":"2.0","id":'${{#line}}'}}'; done"#
    );
    let serve = wrap(&home, &script).await;
    let mut client = Wrapped::connect(&serve).await;
    client.pid().await;
    // Each of them is more than a pipe holds.
    let message = format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "x".repeat(100 << 10));
    for _ in 0..3 {
        client.say(&message).await;
    }
    client.close().await;
    // More than a child gets once nothing follows.
    tokio::time::sleep(Duration::from_secs(6)).await;
    fs::write(go, "").unwrap();
    for _ in 0..3 {
        assert_eq!(client.hear().await["id"], message.len());
    }
    client.ends().await;
}
