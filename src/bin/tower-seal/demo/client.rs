//! The MCP client: rmcp's own, over any service that speaks HTTP.

use std::{error::Error, fmt};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceError,
    model::{CallToolRequestParams, CallToolResult, ProgressNotificationParam, ProtocolVersion, Tool},
    service::{ClientInitializeError, NotificationContext, RunningService},
    transport::{
        DynamicTransportError, StreamableHttpClientTransport,
        streamable_http_client::{StreamableHttpClient, StreamableHttpError},
    },
};
use serde_json::Value;
use tokio::sync::mpsc;
use tower_seal::mcp::{HttpClient, HttpClientError};

use super::server::Server;

/// A client that is connected to a server.
pub(super) struct Client {
    service: RunningService<RoleClient, Listener>,
    heard: mpsc::UnboundedReceiver<ProgressNotificationParam>,
}

impl Client {
    /// Connects, as of MCP 2026-07-28: no session of MCP's own, each request stands for itself.
    pub(super) async fn connect<S>(service: S, url: &str) -> Result<Self, Failure>
    where
        S: Send + 'static,
        HttpClient<S>: StreamableHttpClient<Error = HttpClientError> + Clone,
    {
        let transport: StreamableHttpClientTransport<_> = tower_seal::mcp::client(service, url);
        let (hear, heard) = mpsc::unbounded_channel();
        let mode = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
        Ok(Client { service: Listener(hear).serve_with_lifecycle(transport, mode).await?, heard })
    }

    pub(super) async fn tools(&self) -> Result<Vec<Tool>, Failure> {
        Ok(self.service.list_all_tools().await?)
    }

    /// Calls `tool` with a JSON object, and returns the text that it answers with.
    pub(super) async fn call(&self, tool: &'static str, arguments: Value) -> Result<String, Failure> {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let answer =
            self.service.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
        Ok(text(&answer))
    }

    /// Calls the countdown; `show` gets each step as it arrives, and `server` learns that it was shown.
    pub(super) async fn count_down<E: From<Failure>>(
        &mut self,
        server: &Server,
        mut show: impl FnMut(&ProgressNotificationParam) -> Result<(), E>,
    ) -> Result<String, E> {
        let Client { service, heard } = self;
        let arguments = serde_json::json!({ "from": 3 }).as_object().cloned().unwrap_or_default();
        let call = CallToolRequestParams::new("count_down").with_arguments(arguments);
        let mut answer = std::pin::pin!(service.call_tool(call));
        loop {
            tokio::select! {
                biased;
                Some(step) = heard.recv() => {
                    show(&step)?;
                    server.shown(step.progress as u32);
                }
                answer = &mut answer => {
                    return Ok(text(&answer.map_err(Failure::from)?));
                }
            }
        }
    }
}

fn text(answer: &CallToolResult) -> String {
    answer.content.iter().filter_map(|content| content.as_text()).map(|text| &*text.text).collect()
}

/// Hands on the progress that it hears of.
struct Listener(mpsc::UnboundedSender<ProgressNotificationParam>);

impl ClientHandler for Listener {
    async fn on_progress(&self, step: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let _ = self.0.send(step);
    }
}

/// Why a call or a connection failed. If the seal refused something, that is what it prints.
#[derive(Debug)]
pub(super) struct Failure {
    sealed: Option<tower_seal::Error>,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// What the seal had against it.
    pub(super) fn sealed(&self) -> Option<&tower_seal::Error> {
        self.sealed.as_ref()
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::TransportSend(transport) => transport.into(),
            error => Failure { sealed: None, error: error.into() },
        }
    }
}

impl From<ClientInitializeError> for Failure {
    fn from(error: ClientInitializeError) -> Self {
        match error {
            ClientInitializeError::TransportError { error, .. } => error.into(),
            error => Failure { sealed: None, error: error.into() },
        }
    }
}

/// The error of the layer, from within those of rmcp.
impl From<DynamicTransportError> for Failure {
    fn from(transport: DynamicTransportError) -> Self {
        let sealed = match transport.error.downcast_ref() {
            Some(StreamableHttpError::<HttpClientError>::Client(client)) => client.inner().downcast_ref(),
            _ => None,
        };
        Failure { sealed: sealed.cloned(), error: transport.error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sealed {
            Some(sealed) => sealed.fmt(f),
            None => self.error.fmt(f),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.sealed {
            Some(sealed) => sealed.source(),
            None => self.error.source(),
        }
    }
}
