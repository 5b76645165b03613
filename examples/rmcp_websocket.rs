//! rmcp over a sealed WebSocket, both sides in one program:
//! `cargo run --features mcp,websocket --example rmcp_websocket`

use rmcp::{
    RoleServer, ServiceExt, model::CallToolRequestParams, service::RequestContext, tool, tool_router,
};
use tokio::net::{TcpListener, TcpStream};
use tower_seal::{
    Config, Identity, Verified,
    duplex::{
        Acceptor,
        websocket::{self, Options},
    },
    mcp,
    trust::{AnyIdentity, Pinned},
};

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

struct Server;

#[tool_router(server_handler)]
impl Server {
    #[tool(description = "Says who you are")]
    fn whoami(&self, context: RequestContext<RoleServer>) -> String {
        match context.extensions.get::<Verified>() {
            Some(caller) => caller.node_id().to_string(),
            None => "nobody".to_owned(),
        }
    }
}

async fn serve(socket: TcpStream, acceptor: Acceptor) -> Outcome {
    let sealed = websocket::accept(socket, &acceptor).await?;
    Server.serve(mcp::transport(sealed)).await?.waiting().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let identity = Identity::generate();
    let config = Config::new(Identity::generate(), Pinned::new([identity.node_id()]));
    let acceptor = Acceptor::new(Config::new(identity, AnyIdentity));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/mcp", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, acceptor.clone()));
        }
    });

    let sealed = websocket::connect(&url, &config, &Options::new()).await?;
    let client = ().serve(mcp::transport(sealed)).await?;
    let answer = client.call_tool(CallToolRequestParams::new("whoami")).await?;
    println!("I am {}", config.node_id().short());
    println!("{}", answer.content[0].as_text().map_or("", |text| &text.text));
    client.cancel().await?;
    Ok(())
}
