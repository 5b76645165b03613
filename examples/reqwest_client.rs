//! reqwest through the seal: `cargo run --features reqwest --example reqwest_client URL NODE_ID`
//!
//! URL and NODE_ID are what the example `axum_server` prints.

use http::Request;
use http_body_util::{BodyExt, Empty};
use tower::{Layer, ServiceExt};
use tower_seal::{
    Config, Identity, NodeId,
    http::{Reqwest, SealLayer},
    trust::Pinned,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [url, node] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "URL NODE_ID")?;
    let server: NodeId = node.parse()?;

    let config = Config::new(Identity::generate(), Pinned::new([server]));
    let client = SealLayer::new(config).layer(Reqwest::new()?);

    let request = Request::get(format!("{url}/hello")).body(Empty::<bytes::Bytes>::new())?;
    let response = client.oneshot(request).await?;
    println!("{}", response.status());
    println!("{}", String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()));
    Ok(())
}
