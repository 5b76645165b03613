//! An MCP server to test with, and a client that listens to it. The server's tools:
//!
//! - `echo {text}` answers with `text`
//! - `count {to}` reports progress 1, 2, … `to` as it goes, and answers with `to`
//! - `whoami` answers with what [`McpServer::with_caller`] finds in the request
//! - `announce` says that the list of resources changed; MCP 2025-11-25 sends that over the session's GET stream
//! - `hang {quiet}` never answers, and unless `quiet` reports progress 0 first; [`McpServer::hangs`] counts
//!
//! There is one resource, [`NOTE`].

#![allow(dead_code, unreachable_pub, reason = "each user takes what it needs")]

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode},
    middleware::{self, Next},
};
use rmcp::{
    ClientHandler, ErrorData, Peer, RoleClient, RoleServer, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::*,
    schemars,
    service::{NotificationContext, RequestContext},
    tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use tokio::sync::{mpsc, watch};

/// The address of the resource, whose text is `noted`.
pub const NOTE: &str = "note://one";

/// How many calls of `hang` there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hangs {
    pub started: usize,
    pub cancelled: usize,
}

/// Method and status of each HTTP request that was answered.
pub type Log = Vec<(Method, StatusCode)>;

type Caller = dyn Fn(&http::request::Parts) -> Option<String> + Send + Sync;

/// The server; a clone is the same server for another session.
#[derive(Clone)]
pub struct McpServer {
    tool_router: ToolRouter<Self>,
    caller: Arc<Caller>,
    hangs: watch::Sender<Hangs>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    text: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Count {
    to: u32,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Hang {
    #[serde(default)]
    quiet: bool,
}

impl McpServer {
    /// A server to which every caller is `nobody`.
    pub fn new() -> Self {
        Self { tool_router: Self::tool_router(), caller: Arc::new(|_| None), hangs: watch::Sender::default() }
    }

    /// `whoami` answers with what `caller` finds in the head of the HTTP request, such as in its extensions.
    pub fn with_caller(
        mut self,
        caller: impl Fn(&http::request::Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.caller = Arc::new(caller);
        self
    }

    /// Counts the calls of `hang` in all sessions.
    pub fn hangs(&self) -> watch::Receiver<Hangs> {
        self.hangs.subscribe()
    }

    /// This server as a Tower service of HTTP requests, for any path, and for loopback hosts by default.
    pub fn into_service(
        self,
        config: StreamableHttpServerConfig,
    ) -> StreamableHttpService<Self, LocalSessionManager> {
        StreamableHttpService::new(move || Ok(self.clone()), Arc::default(), config)
    }

    /// This server at `/mcp`, and what it answered.
    pub fn into_router(self, config: StreamableHttpServerConfig) -> (Router, watch::Receiver<Log>) {
        let (logged, log) = watch::channel(Log::new());
        let keep = middleware::from_fn(move |request: Request, next: Next| {
            let (logged, method) = (logged.clone(), request.method().clone());
            async move {
                let response = next.run(request).await;
                logged.send_modify(|log| log.push((method, response.status())));
                response
            }
        });
        (Router::new().route_service("/mcp", self.into_service(config)).layer(keep), log)
    }
}

#[tool_router]
impl McpServer {
    #[tool(description = "Answers with its text", annotations(read_only_hint = true))]
    async fn echo(&self, Parameters(Echo { text }): Parameters<Echo>) -> String {
        text
    }

    #[tool(description = "Counts, and reports progress", annotations(idempotent_hint = true))]
    async fn count(
        &self,
        Parameters(Count { to }): Parameters<Count>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        for step in 1..=to {
            progress(&context, step).await?;
        }
        Ok(to.to_string())
    }

    #[tool(description = "Answers with who calls", annotations(read_only_hint = true))]
    async fn whoami(&self, context: RequestContext<RoleServer>) -> String {
        let caller = context.extensions.get::<http::request::Parts>().and_then(|head| (self.caller)(head));
        caller.unwrap_or_else(|| "nobody".to_owned())
    }

    #[tool(description = "Says that the list of resources changed")]
    async fn announce(&self, peer: Peer<RoleServer>) -> Result<(), ErrorData> {
        peer.notify_resource_list_changed()
            .await
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    #[tool(description = "Never answers")]
    async fn hang(
        &self,
        Parameters(Hang { quiet }): Parameters<Hang>,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.hangs.send_modify(|hangs| hangs.started += 1);
        if !quiet {
            progress(&context, 0).await?;
        }
        context.ct.cancelled().await;
        self.hangs.send_modify(|hangs| hangs.cancelled += 1);
        Ok(())
    }
}

async fn progress(context: &RequestContext<RoleServer>, step: u32) -> Result<(), ErrorData> {
    let token = context.meta.get_progress_token();
    let token = token.ok_or_else(|| ErrorData::invalid_params("a progress token is needed", None))?;
    let sent = context.peer.notify_progress(ProgressNotificationParam::new(token, step.into())).await;
    sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

#[tool_handler]
impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources();
        ServerConfig::new(capabilities.enable_resources_list_changed().build())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![Resource::new(NOTE, "note")]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != NOTE {
            return Err(ErrorData::resource_not_found("no such resource", None));
        }
        Ok(ReadResourceResult::new(vec![ResourceContents::text("noted", NOTE)]).into())
    }
}

/// A call of `tool` with the JSON object `arguments`.
pub fn params(tool: &'static str, arguments: serde_json::Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool).with_arguments(arguments.as_object().cloned().unwrap_or_default())
}

/// The text that a tool answered with.
pub fn text(result: &CallToolResult) -> String {
    let text = result.content.first().and_then(|content| content.as_text());
    text.map(|text| text.text.clone()).unwrap_or_default()
}

/// What the server said unasked.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Progress(f64),
    ResourcesChanged,
}

/// A client that hands on what it hears.
pub struct Listener(mpsc::UnboundedSender<Heard>);

impl Listener {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Heard>) {
        let (hear, heard) = mpsc::unbounded_channel();
        (Self(hear), heard)
    }
}

impl ClientHandler for Listener {
    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let _ = self.0.send(Heard::Progress(params.progress));
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        let _ = self.0.send(Heard::ResourcesChanged);
    }
}
