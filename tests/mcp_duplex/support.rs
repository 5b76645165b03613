//! An MCP server and a client of rmcp, and the ways between them.

#[path = "../support/recorder.rs"]
mod recorder;

use std::{
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse as _, routing::get};
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient, RoleServer,
    ServerHandler, ServiceExt as _,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::*,
    schemars,
    service::{NotificationContext, RequestContext, RunningService},
    tool, tool_handler, tool_router,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tower_seal::{
    Config, Verified,
    config::Hybrid,
    duplex::{
        Acceptor, Sealed, Transport, pipe,
        websocket::{self, ClientSocket, Options, Upgrade, Upgraded, WebSocket},
    },
    mcp,
    protocol::Destination,
    trust::Pinned,
};

pub(crate) const MIB: usize = 1 << 20;

// ---- two sides ----

/// Who they are, and whom they trust: each other. Without ML-KEM, for speed.
pub(crate) struct Sides {
    pub(crate) server: Config,
    pub(crate) client: Config,
    _watchdog: Watchdog,
}

impl Sides {
    pub(crate) fn new() -> Self {
        let (server, client) = (recorder::new_identity(), recorder::new_identity());
        let (server_id, client_id) = (server.node_id(), client.node_id());
        Sides {
            server: Config::new(server, Pinned::new([client_id])).hybrid(Hybrid::Off),
            client: Config::new(client, Pinned::new([server_id])).hybrid(Hybrid::Off),
            _watchdog: Watchdog::start(),
        }
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor::new(self.server.clone())
    }

    pub(crate) async fn websocket(&self) -> (Sealed<ClientSocket>, Sealed<WebSocket<TcpStream>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, acceptor) = (format!("ws://{}/mcp", listener.local_addr().unwrap()), self.acceptor());
        let accept = async { websocket::accept(listener.accept().await.unwrap().0, &acceptor).await };
        let options = Options::new();
        tokio::try_join!(websocket::connect(&url, &self.client, &options), accept).unwrap()
    }

    pub(crate) async fn axum(&self) -> (Sealed<ClientSocket>, Sealed<WebSocket<Upgraded>>) {
        let (give, mut accepted) = mpsc::unbounded_channel();
        let handler = async move |upgrade: Upgrade, State(acceptor): State<Acceptor>| {
            let (response, connection) = match upgrade.accept(&acceptor) {
                Ok(accepted) => accepted,
                Err(refusal) => return refusal.into_response(),
            };
            tokio::spawn(async move { give.send(connection.await) });
            response
        };
        let app = Router::new().route("/mcp", get(handler)).with_state(self.acceptor());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, app).into_future());
        let client = websocket::connect(&url, &self.client, &Options::new()).await.unwrap();
        (client, accepted.recv().await.unwrap().unwrap())
    }

    pub(crate) async fn unix(&self) -> (Sealed<pipe::Pipe<UnixStream>>, Sealed<pipe::Pipe<UnixStream>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mcp");
        let listener = UnixListener::bind(&path).unwrap();
        let acceptor = self.acceptor();
        let accept = async { pipe::accept(listener.accept().await.unwrap().0, &acceptor).await };
        let connect = async {
            let socket = UnixStream::connect(&path).await.unwrap();
            pipe::connect(socket, &self.client, Destination::default()).await
        };
        tokio::try_join!(connect, accept).unwrap()
    }

    pub(crate) async fn pipe(&self) -> (Sealed<InProcess>, Sealed<InProcess>) {
        let (here, there) = tokio::io::duplex(4096);
        let acceptor = self.acceptor();
        let connect = pipe::connect(here, &self.client, Destination::default());
        tokio::try_join!(connect, pipe::accept(there, &acceptor)).unwrap()
    }
}

pub(crate) type InProcess = pipe::Pipe<tokio::io::DuplexStream>;

/// Nothing here waits for real time, so a test that stands still has failed.
pub(crate) struct Watchdog {
    _alive: std_mpsc::Sender<()>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let (alive, end) = std_mpsc::channel();
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        std::thread::spawn(move || {
            if end.recv_timeout(Duration::from_secs(120)) == Err(std_mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test} stands still");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

// ---- rmcp on both sides ----

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    WebSocket,
    Axum,
    Unix,
    Pipe,
}

pub(crate) const WAYS: [Way; 4] = [Way::WebSocket, Way::Axum, Way::Unix, Way::Pipe];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

pub(crate) type RunningServer = RunningService<RoleServer, Server>;

pub(crate) struct World {
    pub(crate) sides: Sides,
    pub(crate) client: RunningService<RoleClient, Client>,
    /// With MCP 2026-07-28 rmcp's server runs from the first call on.
    pub(crate) server: JoinHandle<RunningServer>,
    /// Progress that was reported.
    pub(crate) heard: mpsc::UnboundedReceiver<f64>,
    pub(crate) hangs: watch::Receiver<Hangs>,
}

impl World {
    pub(crate) async fn over(way: Way, era: Era) -> Self {
        let sides = Sides::new();
        match way {
            Way::WebSocket => Self::between(sides.websocket().await, sides, era).await,
            Way::Axum => Self::between(sides.axum().await, sides, era).await,
            Way::Unix => Self::between(sides.unix().await, sides, era).await,
            Way::Pipe => Self::between(sides.pipe().await, sides, era).await,
        }
    }

    pub(crate) async fn between<A, B>((near, far): (Sealed<A>, Sealed<B>), sides: Sides, era: Era) -> Self
    where
        A: Transport + Send + 'static,
        B: Transport + Send + 'static,
    {
        let server = Server::new();
        let hangs = server.hangs.subscribe();
        let (tell, heard) = mpsc::unbounded_channel();
        let mode = match era {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Modern => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
        };
        let server = tokio::spawn(async { server.serve(mcp::transport(far)).await.unwrap() });
        let client = Client { tell }.serve_with_lifecycle(mcp::transport(near), mode).await.unwrap();
        World { sides, client, server, heard, hangs }
    }

    pub(crate) async fn call(&self, tool: &'static str, arguments: serde_json::Value) -> String {
        text(&self.client.call_tool(params(tool, arguments)).await.unwrap())
    }

    /// A call that never ends, and has begun.
    pub(crate) async fn hang(&mut self) -> rmcp::service::RequestHandle<RoleClient> {
        let begun = self.hangs.borrow().started;
        let call = CallToolRequest::new(params("hang", json!({})));
        let options = rmcp::service::PeerRequestOptions::no_options();
        let handle = self.client.send_cancellable_request(call.into(), options).await.unwrap();
        self.hangs.wait_for(|hangs| hangs.started > begun).await.unwrap();
        handle
    }
}

pub(crate) fn params(tool: &'static str, arguments: serde_json::Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool).with_arguments(arguments.as_object().cloned().unwrap_or_default())
}

pub(crate) fn text(result: &CallToolResult) -> String {
    let text = result.content.first().and_then(|content| content.as_text());
    text.map(|text| text.text.clone()).unwrap_or_default()
}

fn node(extensions: &Extensions) -> String {
    extensions.get::<Verified>().map_or_else(|| "nobody".to_owned(), |caller| caller.node_id().to_string())
}

/// How many calls of `hang` there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hangs {
    pub(crate) started: usize,
    pub(crate) cancelled: usize,
}

#[derive(Clone)]
pub(crate) struct Server {
    tool_router: ToolRouter<Self>,
    pub(crate) hangs: Arc<watch::Sender<Hangs>>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Number {
    number: usize,
}

#[tool_router]
impl Server {
    pub(crate) fn new() -> Self {
        Server { tool_router: Self::tool_router(), hangs: Arc::default() }
    }

    #[tool(description = "Answers with who calls")]
    async fn whoami(&self, context: RequestContext<RoleServer>) -> String {
        node(&context.extensions)
    }

    #[tool(description = "Counts, and reports progress")]
    async fn count(
        &self,
        Parameters(Number { number }): Parameters<Number>,
        context: RequestContext<RoleServer>,
    ) {
        let token = context.meta.get_progress_token().unwrap();
        for step in 1..=number {
            let progress = ProgressNotificationParam::new(token.clone(), step as f64);
            context.peer.notify_progress(progress).await.unwrap();
        }
    }

    #[tool(description = "Asks the client for its roots and its model")]
    async fn consult(&self, context: RequestContext<RoleServer>) -> String {
        let roots = context.peer.list_roots().await.unwrap();
        let question = CreateMessageRequestParams::new(vec![SamplingMessage::user_text("who?")], 9);
        let answer = context.peer.create_message(question).await.unwrap();
        format!("{} {}", roots.roots[0].uri, answer.model)
    }

    #[tool(description = "Answers with that many bytes")]
    async fn large(&self, Parameters(Number { number }): Parameters<Number>) -> String {
        "x".repeat(number)
    }

    #[tool(description = "Answers once it is cancelled")]
    async fn hang(&self, context: RequestContext<RoleServer>) {
        self.hangs.send_modify(|hangs| hangs.started += 1);
        context.ct.cancelled().await;
        self.hangs.send_modify(|hangs| hangs.cancelled += 1);
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// A client that passes on what progress it hears of, and whose model is named after who asks.
pub(crate) struct Client {
    tell: mpsc::UnboundedSender<f64>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_roots().enable_sampling().build();
        ClientConfig::new(capabilities, Implementation::new("client", "1"))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, context: NotificationContext<RoleClient>) {
        // Notifications come with their sender, too.
        assert!(context.extensions.get::<Verified>().is_some());
        let _ = self.tell.send(params.progress);
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///here")]))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("you"), node(&context.extensions)))
    }
}
