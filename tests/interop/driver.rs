//! rmcp's client visits one server, and prints what it gets: a line `step<TAB>JSON` for each step.
//!
//! ```text
//! interop_driver SERVER ERA URL                             rmcp over its own reqwest
//! interop_driver SERVER ERA URL IDENTITY NODE binary|json   rmcp over SealLayer
//! interop_driver SERVER ERA -- COMMAND ARG…                 rmcp over the pipes of a child process
//! ```
//!
//! SERVER is `everything`, `python`, `filesystem` or `memory`, and ERA `2025-11-25` or `2026-07-28`. The folder that
//! this is started in is shown to servers as the client's root.
//!
//! `main.py` in this folder starts it: first straight to the server, and then every other way.

use std::{env, error::Error, fmt::Display, time::Duration};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient,
    model::*,
    service::{NotificationContext, PeerRequestOptions, RequestContext, RequestHandle, RunningService},
    transport::{StreamableHttpClientTransport, TokioChildProcess},
};
use serde_json::{Value, json};
use tokio::{process::Command, sync::mpsc, time::timeout};
use tower::Layer;
use tower_seal::{
    Config, Identity, NodeId,
    config::{Encoding, Signatures},
    http::{Reqwest, SealLayer},
    mcp::{self, Repeatable},
    trust::Pinned,
};

/// How long a visit may take, with every wait in it. None comes near this: what is not done by then hangs.
const LIMIT: Duration = Duration::from_secs(120);

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Updated = ResourceUpdatedNotificationParam;

const WATCHED: &str = "test://watched-resource";
const GRAPH: &str = "memory://knowledge-graph";
/// The tools of server-memory that change something.
const CHANGES: [&str; 3] = ["create_", "add_", "delete_"];

/// What the server says unasked.
enum Heard {
    Progress(ProgressNotificationParam),
    Updated(Updated),
    Log(String),
}

struct Listener(mpsc::UnboundedSender<Heard>);

#[expect(deprecated, reason = "MCP 2025-11-25 has them")]
impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let able =
            ClientCapabilities::builder().enable_roots().enable_sampling().enable_elicitation().build();
        ClientConfig::new(able, Implementation::new("interop", "1.0.0"))
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> std::result::Result<CreateMessageResult, ErrorData> {
        asked("sampling", params)?;
        let message = SamplingMessage::assistant_text("sampled, überall");
        Ok(CreateMessageResult::new(message, "none".to_owned()).with_stop_reason("endTurn"))
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> std::result::Result<ElicitResult, ErrorData> {
        asked("elicitation", params)?;
        let content = json!({ "name": "Zoë", "check": true, "integer": 7 });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> std::result::Result<ListRootsResult, ErrorData> {
        let root = root().map_err(internal)?;
        Ok(ListRootsResult::new(vec![Root::new(format!("file://{root}")).with_name("root")]))
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let _ = self.0.send(Heard::Log(params.data.as_str().unwrap_or_default().to_owned()));
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let _ = self.0.send(Heard::Progress(params));
    }

    async fn on_resource_updated(&self, params: Updated, _: NotificationContext<RoleClient>) {
        let _ = self.0.send(Heard::Updated(params));
    }
}

/// One client, and what it heard.
struct Visit {
    client: RunningService<RoleClient, Listener>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Visit {
    /// Stock rmcp over HTTP or with a child, or else with the seal below it.
    async fn new(era: &str, far: &[&str]) -> Result<Self> {
        let mode = match era {
            "2025-11-25" => ClientLifecycleMode::Initialize,
            _ => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        };
        let (hear, heard) = mpsc::unbounded_channel();
        let listener = Listener(hear);
        let client = match far {
            ["--", command, arguments @ ..] => {
                let mut command = Command::new(command);
                command.args(arguments);
                listener.serve_with_lifecycle(TokioChildProcess::new(command)?, mode).await?
            }
            [url] => {
                listener.serve_with_lifecycle(StreamableHttpClientTransport::from_uri(*url), mode).await?
            }
            [url, identity, node, encoding] => {
                let server: NodeId = node.parse()?;
                let mut config = Config::new(Identity::load(identity)?, Pinned::new([server]));
                if *encoding == "json" {
                    config = config.encoding(Encoding::Json).signatures(Signatures::Handshake);
                }
                let seal = SealLayer::new(config).repeat_if(Repeatable::new().into_predicate());
                let service = seal.layer(Reqwest::new()?);
                listener.serve_with_lifecycle(mcp::client(service, *url), mode).await?
            }
            _ => return Err("URL, or URL IDENTITY NODE binary|json, or -- COMMAND ARG…".into()),
        };
        Ok(Self { client, heard })
    }

    async fn call(&self, tool: &str, arguments: Value) -> Result<CallToolResult> {
        Ok(self.client.call_tool(params(tool, arguments)).await?)
    }

    /// A call with its progress, which comes over SSE: so many events, and then the answer.
    async fn slow(&mut self, tool: &str, arguments: Value, events: usize) -> Result<()> {
        let answer = self.call(tool, arguments).await?;
        for event in 0..events {
            show(format_args!("progress {event}"), self.progress().await?)?;
        }
        show(tool, answer)
    }

    async fn progress(&mut self) -> Result<ProgressNotificationParam> {
        loop {
            match self.heard.recv().await {
                Some(Heard::Progress(params)) => return Ok(params),
                Some(Heard::Updated(_)) => return Err("an update where progress was to come".into()),
                Some(Heard::Log(_)) => {} // some are random
                None => return Err("the client ended where progress was to come".into()),
            }
        }
    }

    /// What `calls.json` has for the server. Where something is subscribed to, each change is told.
    async fn calls(&mut self, server: &str) -> Result<()> {
        let calls = include_str!("calls.json").replace(r#""WIDE""#, &json!(wide()).to_string());
        let mut calls: Value = serde_json::from_str(&calls)?;
        let calls: Vec<(String, Value)> = serde_json::from_value(calls[server].take())?;
        for (number, (tool, arguments)) in calls.into_iter().enumerate() {
            let answer = self.call(&tool, arguments).await?;
            let is_change = server == "memory" && CHANGES.iter().any(|change| tool.starts_with(change));
            if is_change && answer.is_error != Some(true) {
                let Some(Heard::Updated(params)) = self.heard.recv().await else {
                    return Err("something else where an update was to come".into());
                };
                show(format_args!("{number} updated"), params)?;
            }
            show(format_args!("{number} {tool}"), answer)?;
        }
        Ok(())
    }

    /// The first message of the log that begins so. The server may name its session after that.
    async fn logged(&mut self, beginning: &str) -> Result<()> {
        loop {
            match self.heard.recv().await {
                Some(Heard::Log(text)) if text.starts_with(beginning) => {
                    let text = text.split(" from session").next().unwrap_or_default();
                    return show("log", text.trim());
                }
                Some(_) => {}
                None => return Err("the client ended where a log message was to come".into()),
            }
        }
    }

    /// What comes over the GET stream. That may open later than the first calls are made: so again and again.
    #[expect(deprecated, reason = "MCP 2025-11-25 has it")]
    async fn updated(&mut self, uri: &str, tool: &str, arguments: Value) -> Result<()> {
        self.client.subscribe(SubscribeRequestParams::new(uri)).await?;
        let updated = loop {
            self.call(tool, arguments.clone()).await?;
            match timeout(Duration::from_millis(200), self.heard.recv()).await {
                Ok(Some(Heard::Updated(params))) => break params,
                // Progress of a call that was cancelled, on a stream of its own.
                Ok(Some(Heard::Progress(_) | Heard::Log(_))) => {}
                Ok(None) => return Err("the client ended where an update was to come".into()),
                Err(_) => {}
            }
        };
        self.client.unsubscribe(UnsubscribeRequestParams::new(uri)).await?;
        show("updated", updated)
    }

    /// Starts a call that does not end by itself, up to its first event: that must not wait for the answer.
    async fn hang(&mut self, tool: &str, arguments: Value) -> Result<RequestHandle<RoleClient>> {
        let step = format!("{tool} {arguments} has begun");
        let call = CallToolRequest::new(params(tool, arguments));
        let options = PeerRequestOptions::no_options();
        let call = self.client.send_cancellable_request(call.into(), options).await?;
        show(step, self.progress().await?)?;
        Ok(call)
    }

    /// Asks until the server has noticed that the calls with these tags are cancelled.
    async fn noticed(&self, tags: &[&str]) -> Result<()> {
        loop {
            let state = self.call("state", json!({})).await?;
            let text = state.content.first().and_then(|content| content.as_text());
            let state: Value = serde_json::from_str(text.map_or("", |text| &text.text))?;
            if state == json!({ "running": [], "cancelled": tags }) {
                return show(format_args!("{} cancelled", tags.len()), state);
            }
        }
    }
}

fn params(tool: &str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool.to_owned())
        .with_arguments(arguments.as_object().cloned().unwrap_or_default())
}

/// Some 300 KiB: many frames, and not ASCII.
fn wide() -> String {
    "ünïcode \u{1f389} \\ \" \u{7f}".repeat(12_000)
}

fn show(step: impl Display, answer: impl serde::Serialize) -> Result<()> {
    println!("{step}\t{}", serde_json::to_value(answer)?);
    Ok(())
}

/// What the server wants of the client.
fn asked(what: &str, params: impl serde::Serialize) -> std::result::Result<(), ErrorData> {
    show(format_args!("asked: {what}"), params).map_err(internal)
}

fn internal(error: Box<dyn Error>) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn root() -> Result<String> {
    Ok(env::current_dir()?.display().to_string())
}

// One thread: so what comes in order is handled in order.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [server, era, far @ ..] = arguments.as_slice() else { return Err("SERVER ERA URL".into()) };
    let ended = timeout(LIMIT, visit(server, era, far)).await;
    ended.map_err(|_| format!("what comes after the last step did not end within {} s", LIMIT.as_secs()))?
}

async fn visit(server: &str, era: &str, far: &[&str]) -> Result<()> {
    let mut visit = Visit::new(era, far).await?;
    let about = visit.client.peer_info();
    let able = about.as_ref().map(|about| about.capabilities.clone()).unwrap_or_default();
    show("server", about.as_deref())?;
    show("tools", visit.client.list_tools(None).await?)?;
    if able.resources.is_some() {
        show("resources", visit.client.list_resources(None).await?)?;
        show("templates", visit.client.list_resource_templates(None).await?)?;
    }
    if able.prompts.is_some() {
        show("prompts", visit.client.list_prompts(None).await?)?;
    }
    show("no such tool", visit.call("no_such_tool", json!({})).await.map_err(|error| error.to_string()))?;
    let another = || Visit::new(era, far);
    match (server, era) {
        ("everything", _) => everything(&mut visit).await?,
        ("filesystem", _) => filesystem(&mut visit).await?,
        ("memory", _) => memory(&mut visit, another).await?,
        (_, "2025-11-25") => legacy(&mut visit).await?,
        _ => modern(&mut visit, another).await?,
    }
    visit.client.cancel().await?;
    Ok(())
}

/// The npm server. Its tools do not tell whether they were cancelled; what comes after that has to go on.
async fn everything(visit: &mut Visit) -> Result<()> {
    let uri = "demo://resource/static/document/features.md";
    show("read", visit.client.read_resource(ReadResourceRequestParams::new(uri)).await?)?;
    show("echo", visit.call("echo", json!({ "message": wide() })).await?)?;
    show("image", visit.call("get-tiny-image", json!({})).await?)?;
    show("structured", visit.call("get-structured-content", json!({ "location": "Chicago" })).await?)?;
    for (tool, arguments) in [
        ("trigger-sampling-request", json!({ "prompt": "to and fro", "maxTokens": 9 })),
        ("trigger-elicitation-request", json!({})),
        ("get-roots-list", json!({})),
    ] {
        show(tool, visit.call(tool, arguments).await?)?;
    }
    let long = "trigger-long-running-operation";
    visit.slow(long, json!({ "duration": 0.2, "steps": 4 }), 4).await?;
    visit.hang(long, json!({ "duration": 60, "steps": 600 })).await?.cancel(None).await?;
    visit.updated(uri, "toggle-subscriber-updates", json!({})).await?;
    visit.logged("Received Unsubscribe").await
}

/// The server asks for the client's roots, and from then on they are all that it lets anybody see.
async fn filesystem(visit: &mut Visit) -> Result<()> {
    let root = root()?;
    let listed = loop {
        let listed = visit.call("list_allowed_directories", json!({})).await?;
        if listed.content.iter().filter_map(|block| block.as_text()).any(|block| block.text.contains(&root)) {
            break listed;
        }
    };
    show("roots", listed)?;
    visit.calls("filesystem").await
}

/// The graph is in one file: another child reads it too.
#[expect(deprecated, reason = "MCP 2025-11-25 has it")]
async fn memory<F: Future<Output = Result<Visit>>>(visit: &mut Visit, another: impl Fn() -> F) -> Result<()> {
    visit.client.subscribe(SubscribeRequestParams::new(GRAPH)).await?;
    visit.calls("memory").await?;
    show("graph", visit.client.read_resource(ReadResourceRequestParams::new(GRAPH)).await?)?;
    let another = another().await?;
    show("graph of another child", another.call("read_graph", json!({})).await?)?;
    another.client.cancel().await?;
    Ok(())
}

/// `server.py`, in either era.
async fn common(visit: &mut Visit) -> Result<()> {
    show("read", visit.client.read_resource(ReadResourceRequestParams::new(WATCHED)).await?)?;
    show("echo", visit.call("echo", json!({ "text": "plain", "more": wide() })).await?)?;
    visit.slow("test_tool_with_progress", json!({}), 3).await?;
    visit.hang("hang", json!({ "tag": "call" })).await?.cancel(None).await?;
    visit.noticed(&["call"]).await
}

async fn legacy(visit: &mut Visit) -> Result<()> {
    common(visit).await?;
    visit.updated(WATCHED, "touch", json!({ "uri": WATCHED })).await
}

async fn modern<F: Future<Output = Result<Visit>>>(visit: &mut Visit, another: impl Fn() -> F) -> Result<()> {
    let filter = SubscriptionFilter::builder().resource_subscription(WATCHED).build();
    let mut events = visit.client.listen(filter).await?;
    visit.call("touch", json!({ "uri": WATCHED })).await?;
    show("updated", events.next().await?)?;
    events.cancel().await?;
    common(visit).await?;
    // In this era whoever goes cancels what it asked for.
    let mut leaving = another().await?;
    let hanging = leaving.hang("hang", json!({ "tag": "client" })).await?;
    drop((leaving, hanging));
    visit.noticed(&["call", "client"]).await
}
