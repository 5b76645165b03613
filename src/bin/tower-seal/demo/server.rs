//! The MCP server: four tools of the rmcp SDK, behind the seal or without it.

use std::{
    future::IntoFuture,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use rmcp::{
    ErrorData, RoleServer,
    handler::server::{tool::Extension, wrapper::Parameters},
    model::ProgressNotificationParam,
    schemars,
    service::RequestContext,
    tool, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};
use tower_layer::Layer;
use tower_seal::{Config, Verified, http::UnsealLayer};

/// Between two steps of the countdown, so that people can follow it.
const PACE: Duration = Duration::from_millis(150);

/// How long the countdown waits for a step to be shown.
const PATIENCE: Duration = Duration::from_secs(5);

/// A handle on the running server. A clone is the same server.
#[derive(Clone)]
pub(super) struct Server {
    address: SocketAddr,
    tools: Tools,
}

impl Server {
    /// Starts it on a port that the system chooses; behind the seal, if there is a config for that.
    pub(super) async fn start(seal: Option<Config>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let tools = Tools { paid: Arc::default(), shown: watch::Sender::default() };
        let server = Server { address: listener.local_addr()?, tools: tools.clone() };

        let sessions = Arc::new(LocalSessionManager::default());
        // Plain JSON where there are no events to stream: a unary answer is one record.
        let config = StreamableHttpServerConfig::default().with_json_response(true);
        let mcp = StreamableHttpService::new(move || Ok(tools.clone()), sessions, config);
        let router = match seal {
            Some(seal) => Router::new().fallback_service(UnsealLayer::new(seal).layer(mcp)),
            None => Router::new().fallback_service(mcp),
        };
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many invoices have been paid.
    pub(super) fn paid(&self) -> usize {
        self.tools.paid.load(Ordering::SeqCst)
    }

    /// Says that this step of the countdown has arrived at the client and been shown.
    pub(super) fn shown(&self, step: u32) {
        self.tools.shown.send_replace(step);
    }
}

#[derive(Clone)]
struct Tools {
    paid: Arc<AtomicUsize>,
    shown: watch::Sender<u32>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Numbers {
    a: i64,
    b: i64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Invoice {
    payee: String,
    euros: u32,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Start {
    from: u32,
}

#[tool_router(server_handler)]
impl Tools {
    #[tool(description = "Adds two numbers", annotations(read_only_hint = true))]
    async fn add_numbers(&self, Parameters(Numbers { a, b }): Parameters<Numbers>) -> String {
        a.saturating_add(b).to_string()
    }

    #[tool(description = "Pays an invoice, each time it is called")]
    async fn pay_invoice(&self, Parameters(Invoice { payee, euros }): Parameters<Invoice>) -> String {
        self.paid.fetch_add(1, Ordering::SeqCst);
        format!("{payee} has been paid {euros} euros")
    }

    #[tool(description = "Says whose key the caller has", annotations(read_only_hint = true))]
    async fn who_am_i(&self, Extension(head): Extension<http::request::Parts>) -> String {
        match head.extensions.get::<Verified>() {
            Some(caller) => caller.node_id().to_string(),
            None => "nobody in particular".to_owned(),
        }
    }

    /// Makes no step before the client has shown the one before, which it can't if anybody keeps that back.
    #[tool(description = "Counts down, and reports each step", annotations(read_only_hint = true))]
    async fn count_down(
        &self,
        Parameters(Start { from }): Parameters<Start>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        let token = context.meta.get_progress_token();
        let token = token.ok_or_else(|| ErrorData::invalid_params("a progress token is needed", None))?;
        let mut shown = self.shown.subscribe();
        self.shown.send_replace(0);
        for step in 1..=from {
            sleep(PACE).await;
            let progress = ProgressNotificationParam::new(token.clone(), step.into())
                .with_total(from.into())
                .with_message(format!("ignition in {}", from - step + 1));
            context.peer.notify_progress(progress).await.map_err(internal)?;
            let seen = timeout(PATIENCE, shown.wait_for(|shown| *shown >= step)).await;
            seen.map_err(|_| internal(format!("step {step} was not shown")))?.map_err(internal)?;
        }
        Ok("lift-off".to_owned())
    }
}

fn internal(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
