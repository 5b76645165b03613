//! A sealed WebSocket, both sides in one program: `cargo run --features websocket --example websocket`

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tower_seal::{
    Config, Error, Identity,
    duplex::{
        Acceptor,
        websocket::{self, Options},
    },
    trust::{AnyIdentity, Pinned},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Identity::generate();
    let server_id = server.node_id();
    let acceptor = Acceptor::new(Config::new(server, AnyIdentity));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/echo", listener.local_addr()?);
    println!("node {server_id} listening on {url}");

    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Err(error) = echo(socket, &acceptor).await {
                    eprintln!("{error}");
                }
            });
        }
    });

    let config = Config::new(Identity::generate(), Pinned::new([server_id]));
    let mut connection = websocket::connect(&url, &config, &Options::new()).await?;
    connection.send("hello".into()).await?;
    println!("{:?}", connection.next().await.transpose()?);
    // The other direction ends when the server has seen that this one did.
    connection.close().await?;
    println!("{:?}", connection.next().await.transpose()?);
    Ok(())
}

async fn echo(socket: tokio::net::TcpStream, acceptor: &Acceptor) -> Result<(), Error> {
    let mut connection = websocket::accept(socket, acceptor).await?;
    while let Some(message) = connection.next().await {
        connection.send(message?).await?;
    }
    connection.close().await
}
