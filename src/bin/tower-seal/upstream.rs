//! HTTP as it is, to another server: the service behind `serve`, and the transport below `proxy`.

use std::{
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Body;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tower_seal::http::NotSent;
use tower_service::Service;

use crate::{
    BoxError,
    failure::{Exit, Failure},
};

/// Any body, boxed.
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

const CONNECT: Duration = Duration::from_secs(10);
const POOL_IDLE: Duration = Duration::from_secs(60);
/// How long after its last packet a server is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The media type of a hello (PROTOCOL section 7), which bears no request yet.
const HELLO: &str = "application/vnd.tower-seal.handshake+json";

/// A client of one pool of connections, over TCP or TLS, which follows nothing and changes nothing.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, AnyBody>,
}

impl Http {
    /// See [`tls`].
    pub(crate) fn new(ca: Option<&Path>, is_tls: bool) -> Result<Self, Failure> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(KEEPALIVE));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(ca, is_tls)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(https);
        Ok(Http { client })
    }
}

/// Trusts the system's certificate authorities, which are read where `is_tls` says that they are needed, and those
/// in the PEM file `ca`.
pub(crate) fn tls(ca: Option<&Path>, is_tls: bool) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    if is_tls {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca {
        let unusable = |reason: &dyn std::fmt::Display| {
            let path = path.display();
            let sentence = format!(
                "{path}: no certificates could be read from it ({reason}): give a file of them in PEM with --ca"
            );
            Failure::new(Exit::File, sentence)
        };
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
            found = true;
        }
        if !found {
            return Err(unusable(&"there are none in it"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Exit::Failed, format!("TLS cannot be used ({error})")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl<B> Service<Request<B>> for Http
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    /// [`NotSent`], where nothing of a request has left.
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        // Of the connection that the request came from, whatever it spoke.
        *request.version_mut() = http::Version::HTTP_11;
        let is_hello = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == HELLO);
        let answer = self.client.request(request);
        let told = move |error: legacy::Error| -> BoxError {
            if is_hello || error.is_connect() { NotSent::new(error).into() } else { error.into() }
        };
        async move { answer.await.map_err(told) }.boxed()
    }
}

/// Where to: the beginning of a URL, to which paths are appended.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    uri: Uri,
    prefix: String,
}

impl Base {
    /// `http://HOST[:PORT][/PREFIX]`, or the same with `https`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri =
            text.parse().map_err(|error| format!("give one such as http://127.0.0.1:8080 ({error})"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !["http", "https"].contains(&scheme) {
            return Err("it has to begin with http:// or https://, such as http://127.0.0.1:8080".to_owned());
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err("it needs a host, and no user or password before it".to_owned());
        }
        if uri.query().is_some() {
            return Err("it may have a path, but no query".to_owned());
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Base { uri, prefix })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// `scheme://authority`.
    pub(crate) fn origin(&self) -> String {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}", self.uri.scheme_str().unwrap_or("http"))
    }

    /// The URL for a path with its query.
    pub(crate) fn join(&self, path: &Uri) -> Result<Uri, http::Error> {
        let path = path.path_and_query().map_or("/", PathAndQuery::as_str);
        Uri::builder()
            .scheme(self.uri.scheme_str().unwrap_or("http"))
            .authority(self.uri.authority().map_or("", |authority| authority.as_str()))
            .path_and_query(format!("{}{path}", self.prefix))
            .build()
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.uri)
    }
}
