//! rmcp over a sealed connection.

use super::MessageTransport;
use crate::duplex::Sealed;

/// An rmcp transport over a sealed connection, for clients and servers.
///
/// Every request and notification that comes has the peer's [`Verified`](crate::Verified) in its extensions, which a
/// handler finds in its context. Where the config permits plaintext, and the peer does not seal, it has none.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rmcp::{ClientHandler, ServiceExt as _, RoleClient, model::ErrorData, service::RequestContext};
/// use tower_seal::{Config, Identity, Verified, duplex::{Acceptor, pipe}, mcp, protocol::Destination, trust::Pinned};
///
/// let (server, client) = (Identity::generate(), Identity::generate());
/// let acceptor = Acceptor::new(Config::new(server, Pinned::new([client.node_id()])));
/// let config = Config::new(client, Pinned::new([acceptor.config().node_id()]));
///
/// struct Server;
///
/// impl rmcp::ServerHandler for Server {
///     async fn ping(&self, context: RequestContext<rmcp::RoleServer>) -> Result<(), ErrorData> {
///         let caller = context.extensions.get::<Verified>();
///         caller.map(|_| ()).ok_or(ErrorData::invalid_request("who are you?", None))
///     }
/// }
///
/// let (here, there) = tokio::io::duplex(4096);
/// tokio::spawn(async move {
///     let sealed = pipe::accept(there, &acceptor).await?;
///     Server.serve(mcp::transport(sealed)).await?.waiting().await?;
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
/// });
/// let sealed = pipe::connect(here, &config, Destination::default()).await?;
/// let client = ().serve(mcp::transport(sealed)).await?;
/// client.send_request(rmcp::model::PingRequest::default().into()).await?;
/// client.cancel().await?;
/// # Ok(()) }
/// ```
pub fn transport<T>(sealed: Sealed<T>) -> MessageTransport<Sealed<T>> {
    let caller = sealed.verified();
    let transport = MessageTransport::new(sealed);
    match caller {
        Some(caller) => transport.caller(caller),
        None => transport,
    }
}
