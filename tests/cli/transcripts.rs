//! What the commands print, whole and to the letter: see the `.txt` files beside this one. With
//! `TOWER_SEAL_BLESS=1` the tests write them anew, to be looked through.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use axum::{Router, http::StatusCode};
use tokio::net::TcpListener;
use tower_seal::{Error, error::Code, protocol::error_message};

use crate::support::{Daemon, Home, Nobody, Upstream, client, mode};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Commands and what came of them.
struct Transcript {
    home: Home,
    text: String,
}

impl Transcript {
    fn new() -> Self {
        Transcript { home: Home::new(), text: String::new() }
    }

    /// Runs a command, whose words have no spaces, to its end.
    async fn run(&mut self, line: &str) {
        let ran = self.home.run(&line.split(' ').collect::<Vec<_>>()).await;
        self.shown(line, ran.code, &(ran.out + &ran.err));
    }

    fn shown(&mut self, line: &str, code: Option<i32>, said: &str) {
        let _ = writeln!(self.text, "$ tower-seal {line}");
        self.text.push_str(said);
        match code {
            Some(0) => self.text.push('\n'),
            code => drop(writeln!(self.text, "[exit status {}]\n", code.unwrap())),
        }
    }

    /// Runs a daemon while `requests` are made of it, and then tells it to stop.
    async fn daemon(&mut self, line: &str, requests: &[&str]) {
        let what = if line.starts_with("serve") { "serve" } else { "proxy" };
        let daemon = Daemon::start(self.home.command(&line.split(' ').collect::<Vec<_>>()), what).await;
        let mut said = format!("tower-seal {what}: node {} listening on {}\n", daemon.node, daemon.url());
        for path in requests {
            self.asked(&mut said, &daemon, path).await;
        }
        daemon.signal("TERM");
        let (code, logged) = daemon.ended().await;
        // A line of the log begins with the time.
        for line in logged.lines() {
            let _ = writeln!(said, "TIME{}", line.split_once('Z').map_or(line, |(_, line)| line));
        }
        self.shown(line, code, &said);
    }

    async fn asked(&self, said: &mut String, daemon: &Daemon, path: &str) {
        let answer = client().post(daemon.url() + path).body(r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#);
        let answer = answer.send().await.unwrap();
        let status = answer.status();
        let _ = writeln!(said, "  POST {path} -> {}\n  {}", status.as_u16(), answer.text().await.unwrap());
    }

    /// Compares all of it, with `~` for the home, and what is another one each time masked, with `file`.
    fn is(self, file: &str) {
        let text = masked(&self.text.replace(self.home.path("").trim_end_matches('/'), "~"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(file);
        if std::env::var_os("TOWER_SEAL_BLESS").is_some() {
            std::fs::write(path, text).unwrap();
            return;
        }
        let expected = std::fs::read_to_string(path).unwrap();
        for (line, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(line, expected, "in\n{text}");
        }
        assert_eq!(text.lines().count(), expected.lines().count(), "in\n{text}");
    }
}

/// Node ids that are those of no test, and ports that the system chose.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hex = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let port = digits >= 4 && ["127.0.0.1:", "localhost:"].iter().any(|host| out.ends_with(host));
        let system = digits > 0 && out.ends_with("(os error ");
        let known = [A, B].iter().any(|node| rest.starts_with(node));
        let (mask, length) = match () {
            () if hex == 64 && !known => ("<node>", hex),
            () if hex == 10 && rest[hex..].starts_with('…') => ("<node>", hex + '…'.len_utf8()),
            () if system => ("N", digits),
            () if hex > 0 => (if port { "PORT" } else { &rest[..hex] }, if port { digits } else { hex }),
            () => (&rest[..first.len_utf8()], first.len_utf8()),
        };
        out.push_str(mask);
        rest = &rest[length..];
    }
    out
}

#[tokio::test]
async fn id_and_peers() {
    let mut shell = Transcript::new();
    for line in ["id", "id --identity ~/new/key.pem"] {
        let line = line.replace('~', shell.home.path("").trim_end_matches('/'));
        shell.run(&line).await;
    }
    shell.home.written("text.pem", "hello\n");
    mode(&shell.home.file("text.pem"), 0o600);
    shell.home.id("open.pem").await;
    mode(&shell.home.file("open.pem"), 0o644);
    for name in ["text.pem", "open.pem", ""] {
        let line = format!("id --identity {}", shell.home.path(name).trim_end_matches('/'));
        shell.run(&line).await;
    }
    for line in [
        "peers list",
        &format!("peers trust HTTPS://Example.com:443 {A}"),
        &format!("peers trust http://127.0.0.1:80 {A}"),
        &format!("peers trust http://127.0.0.1:80 {B}"),
        "peers list",
        "peers forget http://127.0.0.1",
        "peers forget http://127.0.0.1",
        "peers forget https://example.com/mcp",
        &format!("peers trust https:// {A}"),
        "peers trust https://example.com 0x12",
        "peers list",
    ] {
        shell.run(line).await;
    }
    let file = shell.home.written("known", &format!("https://example.com {A}\nhttps://example.org\n"));
    shell.run(&format!("peers --peers {file} list")).await;
    shell.home.written("known", "");
    mode(&shell.home.file("known"), 0o666);
    shell.run(&format!("peers --peers {file} list")).await;
    shell.is("commands.txt");
}

#[tokio::test]
async fn serve_and_proxy() {
    let (mut shell, upstream, nobody) = (Transcript::new(), Upstream::start().await, Nobody::new());
    let (url, gone, home) = (upstream.url(), nobody.url(), shell.home.path(""));
    let own = format!("--listen 127.0.0.1:0 --identity {home}own.pem");
    shell.daemon(&format!("serve {own} --allow-anyone --upstream {url}"), &[]).await;
    shell.daemon(&format!("serve {own} --allow {A} {B} --upstream {url}"), &["/mcp"]).await;
    shell.daemon(&format!("proxy {own} --peer {A} {gone}"), &["/mcp"]).await;
    shell.daemon(&format!("proxy {own} --first-use {gone}"), &["/mcp"]).await;

    let serve = shell.home.serve(&upstream, &["--allow-anyone"]).await;
    let node = serve.node.clone();
    let away = shell.home.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--allow-anyone",
        "--upstream",
        &gone,
        "--identity",
        &shell.home.path("away"),
    ]);
    let away = Daemon::start(away, "serve").await;
    let strict = shell.home.serve(&upstream, &["--allow", A]).await;
    for (arguments, far) in [
        (format!("--peer {node}"), serve.url()),
        (format!("--peer {A}"), serve.url()),
        ("--first-use".to_owned(), serve.url()),
        ("--first-use".to_owned(), upstream.url()),
        (format!("--peer {node}"), strict.url()),
        ("--plaintext".to_owned(), strict.url()),
        (format!("--peer {}", away.node), away.url()),
    ] {
        shell.daemon(&format!("proxy {own} {arguments} {far}"), &["/mcp"]).await;
    }
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().map(|address| (address, taken)).unwrap();
    shell.home.id("own.pem").await;
    for line in [
        format!("serve {own} --upstream {url}"),
        format!("serve {own} --allow-anyone"),
        format!("serve {own} --allow {A} --allow-anyone --upstream {url}"),
        format!("serve --allow-anyone --upstream {url} --identity {home}own.pem --listen {}", taken.0),
        format!("serve {own} --allow-anyone --upstream {url} --strip-prefix tools/"),
        format!("serve {own} --allow-anyone --upstream ftp://127.0.0.1"),
        format!("serve {own} --allow-anyone --upstream {url} --ca {home}own.pem"),
        format!("proxy {own} {gone}"),
        format!("proxy {own} --peer {A} --first-use {gone}"),
        format!("proxy {own} --peer abc {gone}"),
        format!("proxy {own} --first-use --allow-origin null {gone}"),
        format!("proxy {own} --first-use"),
    ] {
        shell.run(&line).await;
    }
    shell.is("daemons.txt");
}

/// A far side, or somebody before it, that refuses with the code of the path.
async fn refusing() -> SocketAddr {
    let refuse = |path: axum::http::Uri| async move {
        let code: Code = path.path().trim_start_matches('/').parse().unwrap();
        let content = [("content-type", "application/vnd.tower-seal.error+json")];
        let error = Error::Unavailable { code, reason: "a test" };
        (StatusCode::from_u16(code.http_status()).unwrap(), content, error_message(&error))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(refuse)).await });
    address
}

#[tokio::test]
async fn every_code() {
    let mut shell = Transcript::new();
    let paths: Vec<String> = Code::ALL.iter().map(|code| format!("/{code}")).collect();
    let paths: Vec<&str> = paths.iter().map(|path| &**path).collect();
    let line = format!("proxy --listen 127.0.0.1:0 --peer {A} http://{}", refusing().await);
    shell.daemon(&line, &paths).await;
    shell.is("codes.txt");
}
