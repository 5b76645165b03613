//! rmcp's client visits one server, and prints what it gets: a line `step<TAB>JSON` for each step.
//!
//! ```text
//! interop_driver URL everything|python 2025-11-25|2026-07-28                             rmcp over its own reqwest
//! interop_driver URL everything|python 2025-11-25|2026-07-28 IDENTITY NODE binary|json   rmcp over SealLayer
//! ```
//!
//! `main.py` in this folder starts it: first straight to the server, and then every other way.

use std::{error::Error, fmt::Display, time::Duration};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient,
    model::*,
    service::{NotificationContext, PeerRequestOptions, RequestHandle, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tower::Layer;
use tower_seal::{
    Config, Identity, NodeId,
    config::{Encoding, Signatures},
    http::{Reqwest, SealLayer},
    mcp::{self, Repeatable},
    trust::Pinned,
};

/// How long a visit may take, with every wait in it. None comes near this: what is not done by then hangs.
const LIMIT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Updated = ResourceUpdatedNotificationParam;

const WATCHED: &str = "test://watched-resource";

/// What the server says unasked.
enum Heard {
    Progress(ProgressNotificationParam),
    Updated(Updated),
}

struct Listener(mpsc::UnboundedSender<Heard>);

impl ClientHandler for Listener {
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
    /// Stock rmcp, or else with the seal below it.
    async fn new(url: &str, era: &str, sealed: &[String]) -> Result<Self> {
        let mode = match era {
            "2025-11-25" => ClientLifecycleMode::Initialize,
            _ => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        };
        let (hear, heard) = mpsc::unbounded_channel();
        let listener = Listener(hear);
        let client = match sealed {
            [] => listener.serve_with_lifecycle(StreamableHttpClientTransport::from_uri(url), mode).await?,
            [identity, node, encoding] => {
                let server: NodeId = node.parse()?;
                let mut config = Config::new(Identity::load(identity)?, Pinned::new([server]));
                if encoding == "json" {
                    config = config.encoding(Encoding::Json).signatures(Signatures::Handshake);
                }
                let seal = SealLayer::new(config).repeat_if(Repeatable::new().into_predicate());
                let service = seal.layer(Reqwest::new()?);
                listener.serve_with_lifecycle(mcp::client(service, url), mode).await?
            }
            _ => return Err("IDENTITY NODE binary|json, or nothing".into()),
        };
        Ok(Self { client, heard })
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> Result<CallToolResult> {
        Ok(self.client.call_tool(params(tool, arguments)).await?)
    }

    /// A call with its progress, which comes over SSE: so many events, and then the answer.
    async fn slow(&mut self, tool: &'static str, arguments: Value, events: usize) -> Result<()> {
        let answer = self.call(tool, arguments).await?;
        for event in 0..events {
            show(format_args!("progress {event}"), self.progress().await?)?;
        }
        show(tool, answer)
    }

    async fn progress(&mut self) -> Result<ProgressNotificationParam> {
        match self.heard.recv().await {
            Some(Heard::Progress(params)) => Ok(params),
            Some(Heard::Updated(_)) => Err("an update where progress was to come".into()),
            None => Err("the client ended where progress was to come".into()),
        }
    }

    /// What comes over the GET stream. That may open later than the first calls are made: so again and again.
    #[expect(deprecated, reason = "MCP 2025-11-25 has it")]
    async fn updated(&mut self, uri: &str, tool: &'static str, arguments: Value) -> Result<()> {
        self.client.subscribe(SubscribeRequestParams::new(uri)).await?;
        let updated = loop {
            self.call(tool, arguments.clone()).await?;
            match timeout(Duration::from_millis(200), self.heard.recv()).await {
                Ok(Some(Heard::Updated(params))) => break params,
                Ok(Some(Heard::Progress(_))) => {} // of a call that was cancelled, on a stream of its own
                Ok(None) => return Err("the client ended where an update was to come".into()),
                Err(_) => {}
            }
        };
        self.client.unsubscribe(UnsubscribeRequestParams::new(uri)).await?;
        show("updated", updated)
    }

    /// Starts a call that does not end by itself, up to its first event: that must not wait for the answer.
    async fn hang(&mut self, tool: &'static str, arguments: Value) -> Result<RequestHandle<RoleClient>> {
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

fn params(tool: &'static str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool).with_arguments(arguments.as_object().cloned().unwrap_or_default())
}

/// Some 300 KiB: many frames, and not ASCII.
fn wide() -> String {
    "ünïcode \u{1f389} \\ \" \u{7f}".repeat(12_000)
}

fn show(step: impl Display, answer: impl serde::Serialize) -> Result<()> {
    println!("{step}\t{}", serde_json::to_value(answer)?);
    Ok(())
}

// One thread: so what comes in order is handled in order.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, server, era, sealed @ ..] = arguments.as_slice() else { return Err("URL SERVER ERA".into()) };
    let ended = timeout(LIMIT, visit(url, server, era, sealed)).await;
    ended.map_err(|_| format!("what comes after the last step did not end within {} s", LIMIT.as_secs()))?
}

async fn visit(url: &str, server: &str, era: &str, sealed: &[String]) -> Result<()> {
    let mut visit = Visit::new(url, era, sealed).await?;
    show("server", visit.client.peer_info().as_deref())?;
    show("tools", visit.client.list_tools(None).await?)?;
    show("resources", visit.client.list_resources(None).await?)?;
    show("templates", visit.client.list_resource_templates(None).await?)?;
    show("prompts", visit.client.list_prompts(None).await?)?;
    show("no such tool", visit.call("no_such_tool", json!({})).await.map_err(|error| error.to_string()))?;
    match (server, era) {
        ("everything", _) => everything(&mut visit).await?,
        (_, "2025-11-25") => legacy(&mut visit).await?,
        _ => modern(&mut visit, || Visit::new(url, era, sealed)).await?,
    }
    visit.client.cancel().await?;
    Ok(())
}

/// The npm server. Its tools do not tell whether they were cancelled; what comes after that has to go on.
async fn everything(visit: &mut Visit) -> Result<()> {
    let uri = "demo://resource/static/document/features.md";
    show("read", visit.client.read_resource(ReadResourceRequestParams::new(uri)).await?)?;
    show("echo", visit.call("echo", json!({ "message": wide() })).await?)?;
    let long = "trigger-long-running-operation";
    visit.slow(long, json!({ "duration": 0.2, "steps": 4 }), 4).await?;
    visit.hang(long, json!({ "duration": 60, "steps": 600 })).await?.cancel(None).await?;
    visit.updated(uri, "toggle-subscriber-updates", json!({})).await
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
