//! `connect` with rmcp at both ends: its stock client with the tool as its child process, and its server behind
//! `serve`, or at `ws://`.

use std::{process::Stdio, sync::Arc};

use axum::Router;
use futures_util::{SinkExt as _, StreamExt as _};
use rmcp::{
    ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServiceError, ServiceExt as _,
    model::*,
    service::{PeerRequestOptions, RunningService},
    transport::{TokioChildProcess, streamable_http_server::StreamableHttpServerConfig},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tower_seal::{
    Config, Identity,
    duplex::{Acceptor, websocket},
    trust::AnyIdentity,
};

use crate::{
    mcp_server::{Hangs, Heard, Listener, Log, McpServer, NOTE, params, text},
    support::{Daemon, Home, LONG},
};

type Client = RunningService<RoleClient, Listener>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Era {
    Legacy,
    Modern,
}

impl Era {
    fn mode(self) -> ClientLifecycleMode {
        match self {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Modern => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
        }
    }
}

/// A client whose child is `connect`.
async fn client(home: &Home, era: Era, arguments: &[&str]) -> (Client, mpsc::UnboundedReceiver<Heard>) {
    let command = home.command(&[&["connect"], arguments].concat());
    let (child, errs) = TokioChildProcess::builder(command).stderr(Stdio::piped()).spawn().unwrap();
    tokio::spawn(async move {
        let mut lines = BufReader::new(errs.unwrap()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("connect: {line}");
        }
    });
    let (listener, heard) = Listener::new();
    let client = timeout(LONG, listener.serve_with_lifecycle(child, era.mode())).await;
    (client.expect("it answers").unwrap(), heard)
}

async fn call(
    client: &Client,
    tool: &'static str,
    arguments: serde_json::Value,
) -> Result<String, ServiceError> {
    let answer = timeout(LONG, client.call_tool(params(tool, arguments))).await.expect("an answer");
    answer.map(|result| text(&result))
}

/// An rmcp server over HTTP, which can be stopped with all that it knows.
struct Http {
    url: String,
    address: std::net::SocketAddr,
    hangs: watch::Receiver<Hangs>,
    log: watch::Receiver<Log>,
    task: AbortHandle,
}

impl Http {
    async fn start(address: &str) -> Self {
        let server = McpServer::new()
            .with_caller(|head| Some(head.headers.get("tower-seal-peer")?.to_str().ok()?.to_owned()));
        let hangs = server.hangs();
        let config = StreamableHttpServerConfig::default().with_json_response(true);
        let (router, log): (Router, _) = server.into_router(config);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let app = hyper_util::service::TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let io = hyper_util::rt::TokioIo::new(tcp);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, app).await;
                });
            }
        });
        Http { url: format!("http://{address}"), address, hangs, log, task: task.abort_handle() }
    }

    /// `serve` in front of it, at `address`.
    async fn serve(&self, home: &Home, address: &str) -> Daemon {
        let identity = home.path("server");
        let arguments = [
            "serve",
            "--listen",
            address,
            "--upstream",
            &self.url,
            "--allow-anyone",
            "--identity",
            &identity,
        ];
        // Its first line names a scheme for each kind of client that it serves.
        Daemon::start(home.command(&arguments), "serve").await
    }
}

/// All that a client does with a server of [`McpServer`]'s kind.
async fn works(client: &Client, heard: &mut mpsc::UnboundedReceiver<Heard>, era: Era, caller: &str) {
    let tools = timeout(LONG, client.list_all_tools()).await.unwrap().unwrap();
    assert_eq!(tools.len(), 5);
    assert_eq!(call(client, "echo", json!({ "text": "a\n\u{1F600}" })).await.unwrap(), "a\n\u{1F600}");
    assert_eq!(call(client, "whoami", json!({})).await.unwrap(), caller);
    assert_eq!(call(client, "count", json!({ "to": 3 })).await.unwrap(), "3");
    for step in [1.0, 2.0, 3.0] {
        assert_eq!(timeout(LONG, heard.recv()).await.unwrap(), Some(Heard::Progress(step)));
    }
    let note = client.read_resource(ReadResourceRequestParams::new(NOTE));
    assert!(format!("{:?}", timeout(LONG, note).await.unwrap().unwrap()).contains("noted"));
    let missing = client.read_resource(ReadResourceRequestParams::new("note://none"));
    assert!(matches!(timeout(LONG, missing).await.unwrap(), Err(ServiceError::McpError(_))));
    if era == Era::Legacy {
        call(client, "announce", json!({})).await.unwrap();
        assert_eq!(timeout(LONG, heard.recv()).await.unwrap(), Some(Heard::ResourcesChanged));
    }
    let calls = (0..32).map(|n| call(client, "echo", json!({ "text": n.to_string() })));
    let answers = futures_util::future::join_all(calls).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), n.to_string());
    }
}

/// Cancels a call once it has begun.
async fn cancels(client: &Client, hangs: &mut watch::Receiver<Hangs>) {
    let before = *hangs.borrow();
    let request = ClientRequest::CallToolRequest(Request::new(params("hang", json!({ "quiet": true }))));
    let handle = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    let begun = hangs.wait_for(|hangs| hangs.started > before.started);
    timeout(LONG, begun).await.expect("it begins").unwrap();
    handle.cancel(None).await.unwrap();
    let ended = hangs.wait_for(|hangs| hangs.cancelled > before.cancelled);
    timeout(LONG, ended).await.expect("it is cancelled").unwrap();
}

#[tokio::test]
async fn a_stock_client_speaks_with_a_server_behind_serve_in_both_eras() {
    for era in [Era::Legacy, Era::Modern] {
        let (home, mut http) = (Home::new(), Http::start("127.0.0.1:0").await);
        let serve = http.serve(&home, "127.0.0.1:0").await;
        let me = home.id("me").await;
        let url = serve.url().replace("ws://", "http://") + "/mcp";
        let arguments = ["--peer", &serve.node, "--identity", &home.path("me"), &url];
        let (mut client, mut heard) = client(&home, era, &arguments).await;
        works(&client, &mut heard, era, &me).await;
        cancels(&client, &mut http.hangs).await;
        client.close().await.unwrap();
        let log = http.log.borrow().clone();
        let has = |method: &str| log.iter().any(|(found, _)| found == method);
        assert_eq!((has("GET"), has("DELETE")), (era == Era::Legacy, era == Era::Legacy), "{era:?} {log:?}");
        assert!(log.iter().all(|(_, status)| status.is_success()), "{era:?} {log:?}");
    }
}

#[tokio::test]
async fn serve_and_its_server_restart_and_a_stock_client_goes_on() {
    for era in [Era::Legacy, Era::Modern] {
        let (home, http) = (Home::new(), Http::start("127.0.0.1:0").await);
        let serve = http.serve(&home, "127.0.0.1:0").await;
        let url = serve.url().replace("ws://", "http://") + "/mcp";
        let (client, _heard) = client(&home, era, &["--peer", &serve.node, &url]).await;
        assert_eq!(call(&client, "echo", json!({ "text": "one" })).await.unwrap(), "one");

        // The server forgets its sessions; what it has not served for that reason is served in a new one.
        let address = http.address.to_string();
        http.task.abort();
        drop(http);
        let mut http = started_again(&address).await;
        assert_eq!(call(&client, "echo", json!({ "text": "two" })).await.unwrap(), "two");

        // With a call under way, `serve` is killed.
        let hang = ClientRequest::CallToolRequest(Request::new(params("hang", json!({ "quiet": true }))));
        let hang = client.send_cancellable_request(hang, PeerRequestOptions::no_options()).await.unwrap();
        timeout(LONG, http.hangs.wait_for(|hangs| hangs.started == 1)).await.unwrap().unwrap();
        let address = serve.address.clone();
        serve.kill().await;
        let lost = timeout(LONG, hang.await_response()).await.expect("it is told").unwrap_err();
        let ServiceError::McpError(lost) = lost else { panic!("{lost}") };
        assert!(lost.code.0 > 0 && lost.message.ends_with('.'), "{lost:?}");
        let ServiceError::McpError(away) = call(&client, "echo", json!({ "text": "x" })).await.unwrap_err()
        else {
            panic!()
        };
        assert!(away.message.contains("Check the URL, and that the far side runs."), "{away:?}");
        let _serve = http.serve(&home, &address).await;
        let tools = timeout(LONG, client.list_all_tools()).await.unwrap().unwrap();
        assert_eq!(tools.len(), 5, "{era:?}");
        assert_eq!(call(&client, "echo", json!({ "text": "three" })).await.unwrap(), "three");
        client.cancel().await.unwrap();
    }
}

/// The address is free once its last connection has gone.
async fn started_again(address: &str) -> Http {
    let again = async {
        loop {
            if TcpListener::bind(address).await.is_ok() {
                return Http::start(address).await;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, again).await.expect("the address is free again")
}

/// An rmcp server for each connection at `ws://`: the far end of a pipe of lines.
async fn at_websocket(server: McpServer) -> (String, String) {
    let acceptor = Acceptor::new(Config::new(Identity::generate(), AnyIdentity));
    let node = acceptor.config().node_id().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/mcp", listener.local_addr().unwrap());
    let acceptor = Arc::new(acceptor);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let (mut sender, mut receiver) =
                    websocket::accept(tcp, &acceptor).await.unwrap().into_split();
                let (near, far) = tokio::io::duplex(1 << 16);
                tokio::spawn(async move {
                    let _ = server.serve(far).await.unwrap().waiting().await;
                });
                let (near_out, mut near_in) = tokio::io::split(near);
                let to_client = async {
                    let mut lines = BufReader::new(near_out).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        if sender.send(line.into()).await.is_err() {
                            break;
                        }
                    }
                    let _ = sender.close().await;
                };
                let to_server = async {
                    while let Some(Ok(message)) = receiver.next().await {
                        let _ = near_in.write_all(&[&message[..], b"\n"].concat()).await;
                    }
                    let _ = near_in.shutdown().await;
                };
                tokio::join!(to_client, to_server);
            });
        }
    });
    (url, node)
}

#[tokio::test]
async fn a_stock_client_speaks_with_a_server_at_websocket_in_both_eras() {
    for era in [Era::Legacy, Era::Modern] {
        let home = Home::new();
        let server = McpServer::new();
        let mut hangs = server.hangs();
        let (url, node) = at_websocket(server).await;
        let (mut client, mut heard) = client(&home, era, &["--peer", &node, &url]).await;
        works(&client, &mut heard, era, "nobody").await;
        cancels(&client, &mut hangs).await;
        client.close().await.unwrap();
    }
}

/// The whole way: a stdio server here, one child for each connection there, which is `connect` itself, being the one
/// stdio server that is at hand.
#[tokio::test]
async fn a_stock_client_speaks_with_a_child_of_serve_which_is_killed_and_comes_back() {
    let (home, mut http) = (Home::new(), Http::start("127.0.0.1:0").await);
    let (url, key) = (format!("{}/mcp", http.url), home.path("server"));
    let command = [env!("CARGO_BIN_EXE_tower-seal"), "connect", "--plaintext", &url];
    for era in [Era::Legacy, Era::Modern] {
        let start = async |address: &str| {
            let own = ["serve", "--listen", address, "--allow-anyone", "--identity", &key, "--"];
            Daemon::start(home.command(&[&own[..], &command].concat()), "serve").await
        };
        let serve = start("127.0.0.1:0").await;
        let (address, node) = (serve.address.clone(), serve.node.clone());
        let (mut client, mut heard) =
            client(&home, era, &["--peer", &node, &format!("ws://{address}")]).await;
        works(&client, &mut heard, era, "nobody").await;
        cancels(&client, &mut http.hangs).await;

        let before = *http.hangs.borrow();
        let hang = ClientRequest::CallToolRequest(Request::new(params("hang", json!({ "quiet": true }))));
        let hang = client.send_cancellable_request(hang, PeerRequestOptions::no_options()).await.unwrap();
        let begun = http.hangs.wait_for(|hangs| hangs.started > before.started);
        timeout(LONG, begun).await.unwrap().unwrap();
        serve.kill().await;
        let lost = timeout(LONG, hang.await_response()).await.expect("it is told").unwrap_err();
        assert!(lost.to_string().contains("the connection was lost before the answer came"), "{lost}");
        let _serve = start(&address).await;
        works(&client, &mut heard, era, "nobody").await;
        client.close().await.unwrap();
    }
}

/// Everything that is said in a session, from a pipe and into one, as a shell would do it.
#[tokio::test]
async fn a_script_of_lines_in_a_pipe_is_answered() {
    let (home, http) = (Home::new(), Http::start("127.0.0.1:0").await);
    let serve = http.serve(&home, "127.0.0.1:0").await;
    let url = serve.url().replace("ws://", "http://") + "/mcp";
    let mut command = home.command(&["connect", "--first-use", &url]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let script = format!(
        "{}\n{}\n{}",
        crate::connect_hand::INITIALIZE,
        crate::connect_hand::INITIALIZED,
        crate::connect_hand::call(1, "tools/list")
    );
    let mut input = child.stdin.take().unwrap();
    input.write_all(script.as_bytes()).await.unwrap();
    drop(input);
    let (mut out, mut err) = (String::new(), String::new());
    timeout(LONG, child.stdout.take().unwrap().read_to_string(&mut out)).await.unwrap().unwrap();
    timeout(LONG, child.stderr.take().unwrap().read_to_string(&mut err)).await.unwrap().unwrap();
    assert_eq!((timeout(LONG, child.wait()).await.unwrap().unwrap().code(), &*err), (Some(0), ""));
    let ids: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, [json!(0), json!(1)], "{out}");
    let methods: Vec<_> = http.log.borrow().iter().map(|(method, _)| method.to_string()).collect();
    assert_eq!(methods.last().map(String::as_str), Some("DELETE"), "{methods:?}");
}
