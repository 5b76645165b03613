//! An axum server behind the seal: `cargo run --features axum --example axum_server`
//!
//! Its handlers know who calls. Reach it with the example `reqwest_client`.

use axum::{Router, routing::get};
use tower::Layer;
use tower_seal::{Config, Identity, Verified, http::UnsealLayer, trust::AnyIdentity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::generate(); // or Identity::load_or_create("identity.pem")
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("node {} listening on http://{}", identity.node_id(), listener.local_addr()?);

    let app = Router::new().route("/hello", get(hello));
    // Around the whole router, so that what is routed is the inner request.
    let sealed = UnsealLayer::new(Config::new(identity, AnyIdentity)).layer(app);
    axum::serve(listener, Router::new().fallback_service(sealed)).await?;
    Ok(())
}

async fn hello(caller: Verified) -> String {
    format!("hello, {}", caller.node_id())
}
