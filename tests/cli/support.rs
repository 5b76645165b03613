//! Processes of the tool, and a server to put behind it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    net::{TcpListener, TcpSocket},
    process::{Child, ChildStderr, ChildStdout, Command},
    sync::Notify,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Far more than anything takes; whoever waits longer has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What a process that has ended leaves behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Panics unless it ended with `code`, nothing on stdout, and all of `words` on stderr.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, &*self.out), (Some(code), ""), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} in\n{}", self.err);
        }
        // Ours have one line; clap's begin with `error:` and end with the usage.
        let clap = self.err.starts_with("error: ") && self.err.contains("--help");
        assert!(
            clap || self.err.starts_with("tower-seal: ") && self.err.lines().count() == 1,
            "{}",
            self.err
        );
    }

    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
        self.out
    }
}

/// A user's folder, removed at the end.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn written(&self, name: &str, text: &str) -> String {
        std::fs::write(self.file(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tower-seal"));
        for variable in ["RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TOWER_SEAL_PLAINTEXT"] {
            command.env_remove(variable);
        }
        command.env("HOME", self.0.path()).env_remove("XDG_DATA_HOME").args(arguments).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let output = timeout(LONG, self.command(arguments).output()).await.expect("it ends").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The node id in the key file `name`, made on first use.
    pub(crate) async fn id(&self, name: &str) -> String {
        self.run(&["id", "--identity", &self.path(name)]).await.done().trim().to_owned()
    }

    /// With a key of its own, unless `arguments` name one: a node does not talk to itself.
    pub(crate) async fn serve(&self, upstream: &Upstream, arguments: &[&str]) -> Daemon {
        let (url, key) = (upstream.url(), self.path("serve.pem"));
        let mut own = vec!["serve", "--listen", "127.0.0.1:0", "--upstream", &url];
        if !arguments.contains(&"--identity") {
            own.extend(["--identity", &key]);
        }
        Daemon::start(self.command(&[&own[..], arguments].concat()), "serve").await
    }

    /// `serve --allow-anyone` with the identity `name`, where `address` says.
    pub(crate) async fn serve_at(&self, address: &str, upstream: &Upstream, name: &str) -> Daemon {
        let (url, identity) = (upstream.url(), self.path(name));
        let arguments =
            ["serve", "--listen", address, "--upstream", &url, "--allow-anyone", "--identity", &identity];
        Daemon::start(self.command(&arguments), "serve").await
    }

    pub(crate) async fn proxy(&self, url: &str, arguments: &[&str]) -> Daemon {
        let own = ["proxy", "--listen", "127.0.0.1:0", url];
        Daemon::start(self.command(&[&own[..], arguments].concat()), "proxy").await
    }
}

/// A `serve` or `proxy` that runs, and is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Arc<Mutex<Vec<u8>>>,
    errs: JoinHandle<()>,
    pub(crate) scheme: String,
    pub(crate) node: String,
    pub(crate) address: String,
}

impl Daemon {
    pub(crate) async fn start(mut command: Command, what: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let (err, errs) = kept(child.stderr.take());
        let line = timeout(LONG, out.next_line()).await.expect("a first line").unwrap();
        let Some(line) = line else {
            errs.await.unwrap();
            panic!("it ended: {}", String::from_utf8_lossy(&err.lock().unwrap()));
        };
        let words: Vec<&str> = line.split(' ').collect();
        let [_, name, "node", node, "listening", "on", url] = words[..] else { panic!("{line}") };
        assert_eq!(line, format!("tower-seal {what}: node {node} listening on {url}"));
        assert_eq!(name, format!("{what}:"));
        assert!(node.len() == 64 && node.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{line}");
        let (scheme, address) = url.split_once("://").unwrap();
        let address: SocketAddr = address.parse().unwrap();
        assert_ne!(address.port(), 0);
        let (scheme, node, address) = (scheme.to_owned(), node.to_owned(), address.to_string());
        Daemon { child, out, err, errs, scheme, node, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn logged(&self) -> String {
        String::from_utf8(self.err.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id().unwrap());
        assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    /// Waits until it has ended; its exit status and stderr. Nothing follows the first line on stdout.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let status = timeout(LONG, self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!(self.out.next_line().await.unwrap(), None);
        (&mut self.errs).await.unwrap();
        (status.code(), self.logged())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Keeps what comes on a stderr, until it ends.
pub(crate) fn kept(stderr: Option<ChildStderr>) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let kept = all.clone();
    let task = tokio::spawn(async move {
        let Some(mut stderr) = stderr else { return };
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
            kept.lock().unwrap().extend_from_slice(&buffer[..length]);
        }
    });
    (all, task)
}

/// A server in this process. It answers with what it was asked; `/stream` with events, the second of which
/// comes when [`Upstream::finish`] says so; `/silent` closes the connection.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Told>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    hits: AtomicUsize,
    finish: Notify,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Told>::default();
        let app = Router::new().route("/stream", any(stream)).fallback(echo).with_state(state.clone());
        let task = tokio::spawn(async move {
            // Ends its connections too when it is aborted.
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let app = TowerToHyperService::new(app.clone());
                connections.spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tcp), app)
                        .await;
                });
            }
        });
        Upstream { address, state, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn hits(&self) -> usize {
        self.state.hits.load(Ordering::SeqCst)
    }

    pub(crate) fn finish(&self) {
        self.state.finish.notify_one();
    }

    pub(crate) async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

async fn echo(State(state): State<Arc<Told>>, request: Request) -> Response {
    state.hits.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 8 << 20).await.unwrap();
    let all = |name: &str| -> Vec<String> {
        head.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    // As a server sees them that knows no difference between `-` and `_`.
    let named = |name: &str| -> Vec<&str> {
        let is_it = |(found, _): &(&axum::http::HeaderName, _)| found.as_str().replace('_', "-") == name;
        head.headers.iter().filter(is_it).map(|(_, value)| value.to_str().unwrap()).collect()
    };
    let told = json!({
        "method": head.method.as_str(), "uri": head.uri.to_string(), "host": all("host"),
        "peer": named("tower-seal-peer"), "length": body.len(), "body": String::from_utf8_lossy(&body),
    });
    ([("content-type", "application/json"), ("x-told", "yes")], told.to_string()).into_response()
}

async fn stream(State(state): State<Arc<Told>>) -> Response {
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from("data: one\n\n"))]);
    let second = futures_util::stream::once(async move {
        state.finish.notified().await;
        Ok(Bytes::from("data: two\n\n"))
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(first, second));
    ([("content-type", "text/event-stream")], body).into_response()
}

/// A client of its own, which asks the way for nobody.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Status and JSON of an answer.
pub(crate) async fn told(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = timeout(LONG, request.send()).await.expect("an answer").unwrap();
    let status = response.status().as_u16();
    let json = response.headers()["content-type"].to_str().unwrap().contains("json");
    let text = response.text().await.unwrap();
    assert!(json, "{status} {text}");
    (status, serde_json::from_str(&text).unwrap())
}

pub(crate) async fn get(url: &str) -> (u16, Value) {
    told(client().get(url)).await
}

/// Asks for `url`, which is refused with 502: the sentence in the answer.
pub(crate) async fn problem(url: &str, code: &str) -> String {
    let (status, told) = get(url).await;
    let message = told["error"]["message"].as_str().unwrap_or_else(|| panic!("{status} {told}"));
    assert_eq!(told, json!({ "error": { "code": code, "message": message } }));
    assert_eq!(status, 502, "{told}");
    assert!(message.ends_with('.') && !message.contains(".."), "{message}");
    message.to_owned()
}

/// An address where nobody listens, nor can as long as this lives.
pub(crate) struct Nobody(TcpSocket);

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Nobody(socket)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

/// Gives a file this mode.
pub(crate) fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
