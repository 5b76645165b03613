//! A stock rmcp client through the seal: `cargo run --features mcp,reqwest --example rmcp_client URL NODE_ID`
//!
//! URL and NODE_ID are what the example `rmcp_server` prints.

use rmcp::{ServiceExt, model::CallToolRequestParams};
use tower::Layer;
use tower_seal::{
    Config, Identity, NodeId,
    http::{Reqwest, SealLayer},
    mcp::{self, Repeatable},
    trust::Pinned,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [url, node] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "URL NODE_ID")?;
    let server: NodeId = node.parse()?;

    let config = Config::new(Identity::generate(), Pinned::new([server]));
    let seal = SealLayer::new(config).repeat_if(Repeatable::new().into_predicate());
    let client = ().serve(mcp::client(seal.layer(Reqwest::new()?), format!("{url}/mcp"))).await?;

    for tool in client.list_all_tools().await? {
        println!("{}: {}", tool.name, tool.description.unwrap_or_default());
        let answer = client.call_tool(CallToolRequestParams::new(tool.name)).await?;
        for content in answer.content {
            println!("  {}", content.as_text().map_or("", |text| &text.text));
        }
    }
    client.cancel().await?;
    Ok(())
}
