//! TLS for `wss`, by rustls.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{io::AsyncRead, io::AsyncWrite, net::TcpStream};
use tokio_rustls::TlsConnector;

use crate::{
    error::{Error, Result},
    telemetry::TARGET,
};

/// TCP, with or without TLS.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Connects; with TLS if there is a config for it.
pub(super) async fn dial(host: &str, port: u16, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Socket>> {
    let failed = |error: std::io::Error| Error::Transport(Arc::new(error));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let Some(config) = tls else {
        return Ok(Box::new(tcp));
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Misuse { reason: "the URL's host is no name that a certificate can have" })?;
    let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(failed)?;
    Ok(Box::new(stream))
}

/// Trusts the system's certificate authorities, which are read once.
///
/// Errors: `Transport`, when there are none to be read.
pub(super) async fn system() -> Result<Arc<ClientConfig>> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = SYSTEM.get() {
        return Ok(config.clone());
    }
    // Many files, on some systems.
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|error| Error::Transport(Arc::new(error)))?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(loaded.certs);
    for error in loaded.errors {
        tracing::warn!(target: TARGET, reason = %error, "certificate authorities of the system cannot be read");
        if usable == 0 {
            return Err(Error::Transport(Arc::new(error)));
        }
    }
    if usable == 0 {
        let none = std::io::Error::other("the system has no certificate authorities");
        return Err(Error::Transport(Arc::new(none)));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Transport(Arc::new(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(SYSTEM.get_or_init(|| Arc::new(config)).clone())
}
