//! Stdio servers behind `serve`, and clients that come to them by WebSocket.

use std::{fs, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_seal::{
    Config, Error, Identity,
    duplex::{
        Sealed,
        websocket::{self, ClientSocket, Options},
    },
    error::Code,
    trust::Pinned,
};

use crate::support::{Daemon, Home, LONG, client};

/// A line of shell that tells the process id of the child, and its caller.
macro_rules! hello {
    () => {
        r#"echo '{"jsonrpc":"2.0","method":"hello","params":['$$',"'$TOWER_SEAL_PEER'"]}'; "#
    };
}
pub(crate) use hello;

/// Says who it is and who called, and then what it is told.
pub(crate) const ECHO: &[&str] = &["sh", "-c", concat!(hello!(), "exec cat")];

impl Home {
    /// `serve --allow-anyone` of `command`, with a key of its own.
    pub(crate) async fn wrap(&self, arguments: &[&str], command: &[&str]) -> Daemon {
        Daemon::start(self.wrapping(arguments, command), "serve").await
    }

    pub(crate) fn wrapping(&self, arguments: &[&str], command: &[&str]) -> tokio::process::Command {
        let key = self.path("serve.pem");
        let own = ["serve", "--listen", "127.0.0.1:0", "--identity", &key];
        let trust: &[&str] = if arguments.contains(&"--allow") { &[] } else { &["--allow-anyone"] };
        self.command(&[&own[..], trust, arguments, &["--"], command].concat())
    }
}

impl Daemon {
    /// Waits until its log has these words: all of it.
    pub(crate) async fn logs(&self, words: &str) -> String {
        until(words, async || self.logged().contains(words)).await;
        self.logged()
    }
}

/// A client of a wrapped server.
pub(crate) struct Wrapped(pub(crate) Sealed<ClientSocket>);

impl Wrapped {
    pub(crate) async fn connect(daemon: &Daemon) -> Self {
        Self::at(daemon, "/", Identity::generate()).await.unwrap()
    }

    pub(crate) async fn at(daemon: &Daemon, path: &str, identity: Identity) -> Result<Self, Error> {
        let config = Config::new(identity, Pinned::new([daemon.node.parse().unwrap()]));
        let url = format!("ws://{}{path}", daemon.address);
        let options = Options::new();
        let connect = websocket::connect(&url, &config, &options);
        timeout(LONG, connect).await.expect("in time").map(Wrapped)
    }

    pub(crate) async fn say(&mut self, message: &str) {
        timeout(LONG, self.0.send(message.to_owned().into())).await.expect("in time").unwrap();
    }

    pub(crate) async fn raw(&mut self) -> Option<Result<Vec<u8>, Error>> {
        let message = timeout(LONG, self.0.next()).await.expect("in time");
        message.map(|message| message.map(Vec::from))
    }

    pub(crate) async fn hear(&mut self) -> Value {
        let message = self.raw().await.expect("a message").unwrap();
        serde_json::from_slice(&message).unwrap()
    }

    /// The process id that the child says.
    pub(crate) async fn pid(&mut self) -> u32 {
        let hello = self.hear().await;
        hello["params"][0].as_u64().unwrap_or_else(|| panic!("{hello}")).try_into().unwrap()
    }

    /// Ends this direction: it is the other one's turn.
    pub(crate) async fn close(&mut self) {
        timeout(LONG, self.0.close()).await.expect("in time").unwrap();
    }

    /// The other side ends as it should.
    pub(crate) async fn ends(&mut self) {
        let end = self.raw().await;
        assert!(end.is_none(), "{:?}", end.map(|end| end.map(|end| String::from_utf8(end).unwrap())));
    }

    /// The other side says what went wrong, and breaks off.
    pub(crate) async fn fails(&mut self, words: &str) {
        let notice = self.hear().await;
        assert_eq!((&notice["jsonrpc"], &notice["method"]), (&json!("2.0"), &json!("notifications/message")));
        assert_eq!(notice["params"]["level"], "error");
        let said = notice["params"]["data"].as_str().unwrap();
        assert!(said.contains(words), "{words:?} in {said:?}");
        let end = self.raw().await;
        assert!(matches!(&end, Some(Err(error)) if error.code() == Some(Code::Truncated)), "{end:?}");
    }
}

/// Whether a process does anything; one that has ended and is not asked for does not.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

/// Waits for what has to come.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, holds).await.unwrap_or_else(|_| panic!("{what}"));
}

pub(crate) async fn has_ended(pid: u32) {
    until(&format!("{pid} ends"), async || !lives(pid)).await;
}

/// A number of a daemon that was started with `--metrics` and `RUST_LOG=info`.
pub(crate) async fn count(daemon: &Daemon, name: &str) -> u64 {
    let log = daemon.logs("/metrics").await;
    let url = log.split("metrics on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let text = client().get(url).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("{name} in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}
