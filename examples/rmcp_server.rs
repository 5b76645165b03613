//! An MCP server of the rmcp SDK behind the seal: `cargo run --features mcp --example rmcp_server`
//!
//! Its tool knows who calls. Reach it with the example `rmcp_client`.

use std::sync::Arc;

use axum::Router;
use rmcp::{
    handler::server::tool::Extension,
    tool, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use tower::Layer;
use tower_seal::{Config, Identity, Verified, http::UnsealLayer, trust::AnyIdentity};

struct Server;

#[tool_router(server_handler)]
impl Server {
    #[tool(description = "Says who you are")]
    fn whoami(&self, Extension(request): Extension<http::request::Parts>) -> String {
        match request.extensions.get::<Verified>() {
            Some(caller) => caller.node_id().to_string(),
            None => "nobody".to_owned(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::generate();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("node {} listening on http://{}", identity.node_id(), listener.local_addr()?);

    let sessions = Arc::new(LocalSessionManager::default());
    let mcp = StreamableHttpService::new(|| Ok(Server), sessions, StreamableHttpServerConfig::default());
    let sealed = UnsealLayer::new(Config::new(identity, AnyIdentity)).layer(mcp);

    axum::serve(listener, Router::new().fallback_service(sealed)).await?;
    Ok(())
}
