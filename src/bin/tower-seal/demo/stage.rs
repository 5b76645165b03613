//! Who takes part: the server, the middle before it, and what the client is made of.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_layer::Layer;
use tower_seal::{
    Config, Identity, NodeId,
    config::Encoding,
    http::{Seal, SealBody, SealLayer},
    trust::Pinned,
};

use super::{
    client::{Client, Failure},
    middle::Middle,
    server::Server,
};
use crate::BoxError;

type Sealed = Seal<Hyper<HttpConnector, SealBody<Full<Bytes>>>>;

/// A server, the middle before it, and a client's side that knows nothing but the middle's address.
pub(super) struct Stage {
    pub(super) client_id: NodeId,
    pub(super) server_id: NodeId,
    pub(super) server_config: Config,
    pub(super) server: Server,
    pub(super) middle: Middle,
    client_config: Config,
}

impl Stage {
    /// Two new identities that trust each other and nobody else; or, for a comparison, no protection at all.
    pub(super) async fn start(plaintext: bool) -> Result<Self, BoxError> {
        let (client, server) = (Identity::generate(), Identity::generate());
        let (client_id, server_id) = (client.node_id(), server.node_id());
        let (client_config, server_config) = if plaintext {
            (Config::plaintext(), Config::plaintext())
        } else {
            // JSON, so that people can read the envelopes; by default they are binary, half the size.
            let config = Config::new(client, Pinned::new([server_id])).encoding(Encoding::Json);
            (config, Config::new(server, Pinned::new([client_id])))
        };
        let server = Server::start(Some(server_config.clone())).await?;
        let middle = Middle::start(server.address()).await?;
        Ok(Stage { client_id, server_id, server_config, server, middle, client_config })
    }

    /// The client's HTTP: hyper below the seal. Each has sessions of its own; a clone shares them.
    pub(super) fn http(&self) -> Sealed {
        sealed(self.client_config.clone())
    }

    /// The middle as a client of its own, with its own key, straight to the server.
    pub(super) async fn stranger(&self) -> Result<Client, Failure> {
        let config = Config::new(self.middle.identity(), Pinned::new([self.server_id]));
        Client::connect(sealed(config), &format!("http://{}/mcp", self.server.address())).await
    }
}

fn sealed(config: Config) -> Sealed {
    SealLayer::new(config).layer(Hyper::builder(TokioExecutor::new()).build_http())
}

/// The same server, middle and client, but without the layers.
pub(super) async fn without_layers() -> Result<(Server, Middle, Client), BoxError> {
    let server = Server::start(None).await?;
    let middle = Middle::start(server.address()).await?;
    let http = Hyper::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let client = Client::connect(http, &middle.url()).await?;
    Ok((server, middle, client))
}
