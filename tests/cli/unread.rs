//! Whoever started the tool does not read what it says: it works, and ends, all the same.

use std::io::{BufRead as _, BufReader};

use serde_json::json;

use crate::{
    connect_hand::{Connect, Far, INITIALIZE, call},
    support::{Daemon, Home, Nobody},
    wrapped::Wrapped,
};

#[tokio::test]
async fn connect_works_and_ends_while_nobody_reads_its_stderr() {
    let (home, nobody) = (Home::new(), Nobody::new());
    for signal in [None, Some("TERM")] {
        let (_unread, stderr) = std::io::pipe().unwrap();
        let mut command = home.command(&["connect", "--first-use", &nobody.url()]);
        command.env("RUST_LOG", "trace").stderr(stderr);
        let mut host = Connect::run(command);
        // Far more than a pipe holds is logged of these.
        for id in 0..500 {
            host.say(call(id, "tools/call")).await;
            host.fault(id, "unreachable").await;
        }
        match signal {
            None => host.end_stdin(),
            Some(signal) => host.signal(signal),
        }
        host.ended_unread().await;
    }
}

#[tokio::test]
async fn serve_works_and_ends_while_nobody_reads_its_stderr_and_tells_later_that_lines_are_lost() {
    let home = Home::new();
    let script = concat!(
        "yes 'more and more and more and more and more and more' | head -c 8000000 >&2; ",
        "echo '{\"jsonrpc\":\"2.0\",\"method\":\"done\"}'; cat"
    );
    let mark = home.path("mark");
    let script = format!("[ -e {mark} ] && exit 3; {script}");
    for reads in [false, true] {
        let (unread, stderr) = std::io::pipe().unwrap();
        let mut command = home.wrapping(&[], &["sh", "-c", &script]);
        command.stderr(stderr);
        let serve = Daemon::start(command, "serve").await;
        let mut client = Wrapped::connect(&serve).await;
        assert_eq!(client.hear().await["method"], "done", "the child is not held up");
        if reads {
            // However much a child has said there is room for what its operator has to know.
            std::fs::write(&mark, "").unwrap();
            Wrapped::connect(&serve).await.fails("exit status: 3").await;
            let lines = move || {
                let mut lines = BufReader::new(unread).lines();
                ["a server ended by itself", "some of what servers said"]
                    .map(|words| lines.any(|line| line.unwrap().contains(words)))
            };
            assert_eq!(tokio::task::spawn_blocking(lines).await.unwrap(), [true; 2]);
            client.close().await;
            client.ends().await;
            serve.kill().await;
        } else {
            client.close().await;
            client.ends().await;
            serve.signal("TERM");
            assert_eq!(serve.ended().await.0, Some(0));
        }
    }
}

#[tokio::test]
async fn connect_ends_after_its_stdin_while_nobody_reads_its_stdout() {
    let (home, far) = (Home::new(), Far::start().await);
    for signal in [None, Some("TERM")] {
        let mut host = far.connect(&home, &[]);
        host.say(INITIALIZE).await;
        let mut line = far.accept().await;
        line.greet(&mut host).await;
        host.say(call(1, "tools/call")).await;
        line.expect(call(1, "tools/call")).await;
        let long = json!({ "jsonrpc": "2.0", "method": "m", "params": "x".repeat(100_000) }).to_string();
        // More than fits into the pipe and the queue before it.
        for _ in 0..10 {
            line.send(&long).await;
        }
        match signal {
            None => host.end_stdin(),
            Some(signal) => host.signal(signal),
        }
        host.ended_unread().await;
    }
}
