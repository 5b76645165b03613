//! The untrusted middle: a reverse proxy on a port of its own, which passes everything on, keeps what it
//! receives, and attacks when it is told to.

mod attack;
mod forge;
mod tape;

use std::{
    future::IntoFuture,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request, uri::Authority};
use http_body_util::BodyExt;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower_seal::Identity;

use crate::BoxError;
use tape::{Side, Tape};

pub(super) use attack::Attack;
pub(super) use forge::Name;
pub(super) use tape::{Exchange, Message};

/// The content type of both messages of a handshake.
pub(super) const HANDSHAKE: &str = "application/vnd.tower-seal.handshake+json";

/// The content type of records in JSON.
pub(super) const RECORDS: &str = "application/vnd.tower-seal+json";

/// A handle on the running proxy. A clone is the same one.
#[derive(Clone)]
pub(super) struct Middle {
    address: SocketAddr,
    server: Authority,
    client: Client<HttpConnector, Body>,
    /// Of its own Ed25519 key.
    seed: [u8; 32],
    tape: Tape,
    armed: Arc<Mutex<Option<Attack>>>,
}

impl Middle {
    /// Starts it before `server`, on a port that the system chooses.
    pub(super) async fn start(server: SocketAddr) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let middle = Middle {
            address: listener.local_addr()?,
            server: server.to_string().parse()?,
            client: Client::builder(TokioExecutor::new()).build_http(),
            seed,
            tape: Tape::default(),
            armed: Arc::default(),
        };
        let router = Router::new().fallback(relay).with_state(middle.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(middle)
    }

    /// Where the client is made to believe the server to be.
    pub(super) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The key that it has, and that nobody trusts.
    pub(super) fn identity(&self) -> Identity {
        Identity::from_seed(&self.seed)
    }

    pub(super) fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Attacks the next request that this attack is for.
    pub(super) fn arm(&self, attack: Attack) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(attack);
    }

    /// Attacks no more. Whether nothing came that the armed attack was for.
    pub(super) fn disarm(&self) -> bool {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Sends a recorded request to the server, head and body as they are, and returns the answer.
    pub(super) async fn send(&self, recorded: &Message) -> Result<(StatusCode, Bytes), BoxError> {
        let mut request = Request::post("/mcp").body(())?;
        *request.headers_mut() = recorded.fields.clone();
        let (parts, ()) = request.into_parts();
        // The request is nothing that it received, and is not recorded.
        let number = self.tape.begin(Message::default());
        let answer = self.forward(number, parts, recorded.body().into()).await?;
        Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
    }

    async fn pass(&self, request: Request) -> Result<Response, BoxError> {
        let (parts, body) = request.into_parts();
        let number = self.tape.begin(Message::request(&parts));
        let tape = self.tape.clone();
        let body = body.map_frame(move |frame| {
            frame.data_ref().inspect(|piece| tape.piece(number, Side::Request, piece));
            frame
        });
        match self.attack_on(&parts.headers) {
            None => self.forward(number, parts, Body::new(body)).await,
            Some(attack) => self.attack(attack, number, parts, Body::new(body)).await,
        }
    }

    /// The armed attack, if it is for a request with these fields.
    fn attack_on(&self, headers: &HeaderMap) -> Option<Attack> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())?;
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.take_if(|attack| attack.is_for(content_type))
    }

    /// Passes a request on to the server, and its answer back, piece by piece as they come.
    async fn forward(
        &self,
        number: usize,
        mut parts: request::Parts,
        body: Body,
    ) -> Result<Response, BoxError> {
        let mut uri = parts.uri.into_parts();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(self.server.clone());
        parts.uri = uri.try_into()?;
        let (parts, body) = self.client.request(Request::from_parts(parts, body)).await?.into_parts();
        self.tape.answered(number, Message::answer(&parts));
        let tape = self.tape.clone();
        let body = body.map_frame(move |frame| {
            frame.data_ref().inspect(|piece| tape.piece(number, Side::Answer, piece));
            frame
        });
        Ok(Response::from_parts(parts, Body::new(body)))
    }
}

async fn relay(State(middle): State<Middle>, request: Request) -> Response {
    match middle.pass(request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
