//! What the tool itself says with `RUST_LOG=trace`: no key, and not a word of what goes through it.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::{process::Command, time::timeout};

use crate::{
    connect_hand::{INITIALIZE, INITIALIZED, WELCOME},
    recorder,
    support::{Daemon, Home, LONG, Upstream, client, kept, problem, told},
};

/// Stands for everything that is said. One word, so that it can be a token, a path and the name of a method too.
const WORDS: &str = "attack-at-dawn-by-the-northern-gate";

/// In every line that anything logs; what names the methods of MCP, rmcp would say by itself.
fn tracing(mut command: Command) -> Command {
    command.env("RUST_LOG", "trace,rmcp=off");
    command
}

/// Nobody may say what is in this key file.
fn unsaid(home: &Home, name: &str) {
    let pem = fs::read_to_string(home.file(name)).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
    recorder::secret("a seed", &der[16..]);
}

fn assert_says_nothing(name: &str, log: &str) {
    assert!(log.lines().count() > 3, "{name} says\n{log}");
    assert_eq!(recorder::shown(log), None, "{name} says\n{log}");
    assert!(!log.contains(WORDS), "{name} says\n{log}");
}

#[tokio::test]
async fn serve_and_proxy_log_no_secret() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    home.id("server").await;
    home.id("client").await;
    ["server", "client"].into_iter().for_each(|name| unsaid(&home, name));
    for format in ["text", "json"] {
        let (url, key, log) = (upstream.url(), home.path("server"), ["--log", format]);
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--upstream", &url, "--identity", &key];
        let arguments = [&arguments[..], &["--allow-anyone"], &log].concat();
        let serve = Daemon::start(tracing(home.command(&arguments)), "serve").await;
        let (url, key, known) = (serve.url(), home.path("client"), home.path("known"));
        let arguments = ["proxy", "--listen", "127.0.0.1:0", &url, "--first-use", "--peers", &known];
        let arguments = [&arguments[..], &["--identity", &key], &log].concat();
        let proxy = Daemon::start(tracing(home.command(&arguments)), "proxy").await;

        let post = |url: String| {
            let fields = [("authorization", WORDS), ("cookie", WORDS), ("x-secret", WORDS)];
            let request = client().post(url + "/?token=" + WORDS).body(WORDS.repeat(3));
            fields.into_iter().fold(request, |request, (name, value)| request.header(name, value))
        };
        assert_eq!(told(post(proxy.url())).await.0, 200);
        // What the application closes without an answer, and what is not sealed.
        let silent = told(post(proxy.url() + "/silent")).await.0;
        assert!((200..600).contains(&silent));
        assert!(post(serve.url()).send().await.unwrap().status().is_client_error());
        proxy.signal("TERM");
        serve.signal("TERM");
        for (name, daemon) in [("proxy", proxy), ("serve", serve)] {
            let (code, log) = daemon.ended().await;
            assert_eq!(code, Some(0));
            assert!(log.contains("session made"), "{name} says\n{log}");
            assert_says_nothing(name, &log);
        }
    }
    // What went wrong, said once more.
    let nobody = crate::support::Nobody::new();
    let known = home.path("known");
    let command =
        home.command(&["proxy", "--listen", "127.0.0.1:0", &nobody.url(), "--first-use", "--peers", &known]);
    let proxy = Daemon::start(tracing(command), "proxy").await;
    let message = problem(&(proxy.url() + "/" + WORDS), "unreachable").await;
    assert!(!message.contains(WORDS), "{message}");
    assert!(!proxy.logged().contains(WORDS), "{}", proxy.logged());
}

#[tokio::test]
async fn connect_and_a_child_behind_serve_log_no_secret() {
    let home = Home::new();
    home.id("server").await;
    home.id("client").await;
    ["server", "client"].into_iter().for_each(|name| unsaid(&home, name));
    let (key, own) = (home.path("server"), home.path("client"));
    let child = format!("read -r hello; echo '{WELCOME}'; exec cat");
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--identity", &key, "--allow-anyone", "--", "sh", "-c", &child];
    let serve = Daemon::start(tracing(home.command(&arguments)), "serve").await;
    let url = format!("ws://{}", serve.address);
    let mut command = tracing(home.command(&["connect", &url, "--peer", &serve.node, "--identity", &own]));
    command.stdin(std::process::Stdio::piped());
    let mut connect = command.spawn().unwrap();
    let (err, errs): (Arc<Mutex<Vec<u8>>>, _) = kept(connect.stderr.take());
    let mut out = BufReader::new(connect.stdout.take().unwrap());
    let mut stdin = connect.stdin.take().unwrap();
    let line = json!({ "jsonrpc": "2.0", "method": "notifications/x", "params": { "token": WORDS } });
    stdin.write_all(format!("{INITIALIZE}\n{INITIALIZED}\n{line}\n").as_bytes()).await.unwrap();
    let mut heard = String::new();
    while !heard.contains(WORDS) {
        assert_ne!(timeout(LONG, out.read_line(&mut heard)).await.expect("an echo").unwrap(), 0, "{heard}");
    }
    stdin.write_all(format!("{WORDS} is no message\n").as_bytes()).await.unwrap();
    drop(stdin);
    timeout(LONG, out.read_to_string(&mut heard)).await.expect("the end").unwrap();
    timeout(LONG, connect.wait()).await.expect("it ends").unwrap();
    errs.await.unwrap();
    let log = String::from_utf8(err.lock().unwrap().clone()).unwrap();
    assert_says_nothing("connect", &log);
    serve.signal("TERM");
    assert_says_nothing("serve", &serve.ended().await.1);
}
