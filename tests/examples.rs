//! The examples, run as a reader would run them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

/// Cargo builds the examples beside the tests.
fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Command::new(path.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION))
}

struct Server {
    child: Child,
    url: String,
    node: String,
}

impl Server {
    fn start(name: &str) -> Self {
        let mut child = example(name).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["node", node, "listening", "on", url] = words[..] else { panic!("{line}") };
        Server { url: url.to_owned(), node: node.to_owned(), child }
    }

    fn visit(&self, client: &str) -> Output {
        example(client).args([&self.url, &self.node]).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

fn is_node_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn axum_and_reqwest() {
    let server = Server::start("axum_server");
    let lines = lines(&server.visit("reqwest_client"));
    assert_eq!(lines[0], "200 OK");
    assert!(is_node_id(lines[1].strip_prefix("hello, ").unwrap()), "{lines:?}");
}

#[test]
fn rmcp_on_both_sides() {
    let server = Server::start("rmcp_server");
    let lines = lines(&server.visit("rmcp_client"));
    assert_eq!(lines[0], "whoami: Says who you are");
    assert!(is_node_id(lines[1].trim()), "{lines:?}");
}

#[test]
fn another_node_is_not_talked_to() {
    let server = Server::start("axum_server");
    let other = "36faa1a28c5d2680cf553292e23500d35df0e9dbc19a0b3a724ad8c1eb96f9d7";
    let output = example("reqwest_client").args([&server.url, other]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("WrongAudience"), "{output:?}");
}

#[test]
fn by_hand() {
    let lines = lines(&example("by_hand").output().unwrap());
    assert!(lines[0].starts_with("session "), "{lines:?}");
    assert!(lines[1].starts_with("{\"type\":\"encrypted\""), "{lines:?}");
    assert!(lines[2].ends_with("asks: 2 + 2"), "{lines:?}");
    assert!(lines[3].starts_with("again: replayed"), "{lines:?}");
    assert_eq!(lines[4], "answer: 4");
}

#[test]
fn rpc_queue() {
    let lines = lines(&example("rpc_queue").output().unwrap());
    // A hello, and two requests.
    assert_eq!(lines.iter().filter(|line| line.starts_with("in the queue: ")).count(), 3, "{lines:?}");
    let answers: Vec<_> = lines.iter().filter(|line| line.starts_with("{\"jsonrpc\"")).collect();
    assert!(answers.len() == 2 && answers.iter().all(|answer| answer.contains("hello, ")), "{lines:?}");
}

#[test]
fn websocket() {
    let lines = lines(&example("websocket").output().unwrap());
    assert!(lines[0].starts_with("node ") && lines[0].contains(" listening on ws://"), "{lines:?}");
    assert_eq!(lines[1..], [r#"Some(b"hello")"#, "None"]);
}

#[test]
fn rmcp_websocket() {
    let lines = lines(&example("rmcp_websocket").output().unwrap());
    let name = lines[0].strip_prefix("I am ").unwrap().trim_end_matches('…');
    assert!(is_node_id(&lines[1]) && lines[1].starts_with(name), "{lines:?}");
}

#[test]
fn each_has_one_idea_and_at_most_sixty_lines() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 60, "{}: {lines}", path.display());
    }
}
