//! `tower-seal connect` as a child with its standard streams in the test's hands, and far sides played by hand.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};
use tower_seal::{
    Config, Identity,
    duplex::{
        Acceptor, Sealed,
        websocket::{self, WebSocket},
    },
    trust::AnyIdentity,
};

use crate::support::{Home, LONG, kept};

pub(crate) const INITIALIZE: &str = r#"{"jsonrpc": "2.0","id":0, "method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"hand","version":"1"}}}"#;
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0",  "method":"notifications/initialized"}"#;
pub(crate) const WELCOME: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"far","version":"1"}}}"#;

/// The tool, which runs until its stdin ends.
pub(crate) struct Connect {
    child: Child,
    input: Option<ChildStdin>,
    out: Lines<BufReader<ChildStdout>>,
    err: Arc<Mutex<Vec<u8>>>,
    errs: JoinHandle<()>,
}

impl Connect {
    pub(crate) fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::run(home.command(&[&["connect"], arguments].concat()))
    }

    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let (err, errs) = kept(child.stderr.take());
        let input = child.stdin.take();
        Connect { child, input, out, err, errs }
    }

    /// A line on its stdin.
    pub(crate) async fn say(&mut self, line: impl std::fmt::Display) {
        let line = format!("{line}\n");
        let input = self.input.as_mut().unwrap();
        timeout(LONG, input.write_all(line.as_bytes())).await.expect("it reads").unwrap();
        input.flush().await.unwrap();
    }

    /// The next line on its stdout.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(LONG, self.out.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("nothing was said; the log:\n{}", self.logged()));
        line.unwrap().unwrap_or_else(|| panic!("it ended; the log:\n{}", self.logged()))
    }

    pub(crate) async fn hear(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    }

    pub(crate) async fn ask(&mut self, message: impl std::fmt::Display) -> Value {
        self.say(message).await;
        self.hear().await
    }

    /// The next line is an error of the tool's own for request `id`: its sentence.
    pub(crate) async fn fault(&mut self, id: impl Into<Value>, name: &str) -> String {
        let told = self.hear().await;
        let (code, message) = (&told["error"]["code"], told["error"]["message"].as_str().unwrap_or_default());
        let error = json!({ "code": code, "message": message, "data": { "code": name } });
        assert_eq!(told, json!({ "jsonrpc": "2.0", "id": id.into(), "error": error }));
        assert!((400..600).contains(&code.as_i64().unwrap()), "{told}");
        assert!(message.ends_with('.') && !message.contains(".."), "{message}");
        message.to_owned()
    }

    pub(crate) fn end_stdin(&mut self) {
        self.input = None;
    }

    pub(crate) fn end_stdout(&mut self) {
        let (_, nobody) = std::io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        let nobody = ChildStdout::from_std(to_child_stdout(nobody)).unwrap();
        self.out = BufReader::new(nobody).lines();
    }

    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id().unwrap());
        assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    pub(crate) fn logged(&self) -> String {
        String::from_utf8(self.err.lock().unwrap().clone()).unwrap()
    }

    /// Waits until it has ended with status 0, and reads nothing of what it says.
    pub(crate) async fn ended_unread(mut self) {
        let status = timeout(LONG, self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(0));
    }

    /// Waits until it has ended with status 0 and nothing more on stdout: what it logged.
    pub(crate) async fn ended(mut self) -> String {
        let rest = timeout(LONG, self.out.next_line()).await.expect("its stdout ends").unwrap();
        assert_eq!(rest, None);
        let status = timeout(LONG, self.child.wait()).await.expect("it ends").unwrap();
        (&mut self.errs).await.unwrap();
        let logged = self.logged();
        assert_eq!(status.code(), Some(0), "{logged}");
        logged
    }

    /// Ends its stdin, and waits as [`Connect::ended`].
    pub(crate) async fn end(mut self) -> String {
        self.end_stdin();
        self.ended().await
    }
}

/// One that nobody writes to, and so at its end.
fn to_child_stdout(reader: std::io::PipeReader) -> std::process::ChildStdout {
    std::os::fd::OwnedFd::from(reader).into()
}

/// A far side at `ws://`.
pub(crate) struct Far {
    listener: TcpListener,
    acceptor: Acceptor,
}

/// Where one will be: nobody else can be there meanwhile.
pub(crate) struct Absent(TcpSocket);

/// A connection to it.
pub(crate) struct Line(Sealed<WebSocket<TcpStream>>);

impl Absent {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Absent(socket)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/mcp", self.0.local_addr().unwrap())
    }

    pub(crate) fn comes(self, config: Config) -> Far {
        Far { listener: self.0.listen(64).unwrap(), acceptor: Acceptor::new(config) }
    }
}

impl Far {
    pub(crate) async fn start() -> Self {
        Self::with(Config::new(Identity::generate(), AnyIdentity)).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Absent::new().comes(config)
    }

    /// Another one in its place, with this config.
    pub(crate) fn becomes(&mut self, config: Config) {
        self.acceptor = Acceptor::new(config);
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/mcp", self.listener.local_addr().unwrap())
    }

    pub(crate) fn node(&self) -> String {
        self.acceptor.config().node_id().to_string()
    }

    /// A `connect` that trusts it.
    pub(crate) fn connect(&self, home: &Home, arguments: &[&str]) -> Connect {
        Connect::start(home, &[&["--peer", &self.node(), &self.url()], arguments].concat())
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Line {
        let accept = async {
            let (socket, _) = self.listener.accept().await.unwrap();
            Line(websocket::accept(socket, &self.acceptor).await.unwrap())
        };
        timeout(LONG, accept).await.expect("a connection")
    }

    /// The next connection, which is refused.
    pub(crate) async fn refuse(&self) {
        let refuse = async {
            let (socket, _) = self.listener.accept().await.unwrap();
            websocket::accept(socket, &self.acceptor).await.unwrap_err();
        };
        timeout(LONG, refuse).await.expect("a connection");
    }
}

impl Line {
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        timeout(LONG, self.0.next()).await.expect("a message").transpose().unwrap()
    }

    /// The next message is these bytes.
    pub(crate) async fn expect(&mut self, message: impl AsRef<str>) {
        let found = self.next().await.expect("a message");
        assert_eq!(std::str::from_utf8(&found).unwrap(), message.as_ref());
    }

    pub(crate) async fn send(&mut self, message: impl Into<String>) {
        self.send_bytes(message.into()).await;
    }

    pub(crate) async fn send_bytes(&mut self, message: impl Into<Bytes>) {
        timeout(LONG, self.0.send(message.into())).await.expect("it reads").unwrap();
    }

    /// The far end has ended, with words that verify, and so does this one.
    pub(crate) async fn ended(mut self) {
        assert_eq!(self.next().await, None);
        timeout(LONG, self.0.close()).await.expect("it ends").unwrap();
    }

    /// Ends it tidily from here.
    pub(crate) async fn end(mut self) {
        timeout(LONG, self.0.close()).await.expect("it ends").unwrap();
        assert_eq!(self.next().await, None);
    }

    /// Plays the first messages of a server, `say` being the host.
    pub(crate) async fn greet(&mut self, host: &mut Connect) {
        self.expect(INITIALIZE).await;
        self.send(WELCOME).await;
        assert_eq!(host.line().await, WELCOME);
        host.say(INITIALIZED).await;
        self.expect(INITIALIZED).await;
    }
}

/// A request.
pub(crate) fn call(id: impl Into<Value>, method: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method }).to_string()
}

/// Its answer.
pub(crate) fn result(id: impl Into<Value>) -> String {
    json!({ "jsonrpc": "2.0", "id": id.into(), "result": {} }).to_string()
}
