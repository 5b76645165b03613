//! Sealing without layers: the client and the handler make and read the same bytes themselves, by the core, unsigned
//! and for this one request only. What the layers cost is what lies between this and theirs. That they make as many
//! bytes is a test in `tests/http/carriage.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::post};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rand_core::UnwrapErr;
use tower_seal::{
    config::{Backend, Encoding},
    protocol::{Destination, Final, Initiator, Plaintext, Record, Responder},
};

use super::{Call, Way, connector, serve};
use crate::modes::{Mode, Signing};

const LIMIT: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);

const BINARY: HeaderValue = HeaderValue::from_static("application/vnd.tower-seal");
const SEAL_SESSION: HeaderName = HeaderName::from_static("seal-session");
const OUTER: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, BINARY),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
];

/// What stands before the content (PROTOCOL section 7): POST, http, authority, path, no field. The port stands for
/// whichever the system chooses, which has as many digits.
const REQUEST: &[u8] = b"\x00\x04POST\x04http\x0flocalhost:12345\x05/echo\x00";
/// And of the response: 200, and the content type that axum gives it.
const RESPONSE: &[u8] = b"\x01\x40\xc8\x26\x0ccontent-type\x18application/octet-stream";

pub(crate) async fn way(backend: Backend) -> Way {
    let mode = Mode { encoding: Encoding::Binary, signing: Signing::Unsigned, backend };
    let (server, client) = mode.configs();
    let server = Arc::new(Responder::new(server));
    let (hello, initiator) = Initiator::start(&client, Destination::default(), &mut rng()).unwrap();
    let (reply, theirs) = server.accept(&hello, |_| true, || true, &mut rng(), Instant::now()).unwrap();
    server.admit(theirs);
    let session = Arc::new(initiator.finish(&reply, Instant::now()).unwrap());

    let echo = post(async move |State(server): State<Arc<Responder>>, body: Bytes| {
        let (offered, _) = server.open(parse(body), Instant::now()).map_err(|(error, _)| error).unwrap();
        let body = content(REQUEST, offered.plaintext());
        let mut claimed = offered.claim(true, &mut rng(), Instant::now()).unwrap();
        (OUTER, claimed.response.seal(message(RESPONSE, &body), Final::Yes, Instant::now()).unwrap())
    });
    let app = Router::new().route("/echo", echo).with_state(server);
    let address = serve(app, std::future::ready).await;
    let http = Client::builder(TokioExecutor::new()).build(connector());
    let url = format!("http://localhost:{}/echo", address.port());
    let hint = HeaderValue::from_str(&session.id().to_string()).unwrap();
    let call: Call = Arc::new(move |body| {
        let (http, session, length) = (http.clone(), session.clone(), body.len());
        let request = message(REQUEST, &body);
        let sealed = session.request(request, Final::Yes, TIMEOUT, true, &mut rng(), Instant::now()).unwrap();
        let request = Request::post(&url).header(header::CONTENT_TYPE, BINARY).header(SEAL_SESSION, &hint);
        let request = request.body(Full::new(sealed.bytes)).unwrap();
        Box::pin(async move {
            let response = http.request(request).await.unwrap();
            assert!(
                response.status() == StatusCode::OK && response.headers()[header::CONTENT_TYPE] == BINARY
            );
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let (opened, _) = sealed.response.open(parse(body), Instant::now()).unwrap();
            assert_eq!(content(RESPONSE, &opened.plaintext).len(), length);
        })
    });
    Way { name: format!("binary, unsigned, by hand, {backend:?}"), call, configs: None }
}

/// The one record of a body, behind its length.
fn parse(body: Bytes) -> Record {
    let mut frame = BytesMut::from(body);
    let length = frame.get_u32() as usize;
    assert_eq!(length, frame.len());
    Record::parse(frame, Encoding::Binary, LIMIT).unwrap()
}

/// An inner message.
fn message(head: &[u8], content: &[u8]) -> Plaintext {
    let mut message = Plaintext::with_capacity(head.len() + 4 + content.len() + 1);
    message.extend_from_slice(head);
    match u16::try_from(content.len()) {
        Ok(length @ ..0x4000) => message.buffer().put_u16(0x4000 | length),
        _ => message.buffer().put_u32(0x8000_0000 | content.len() as u32),
    }
    message.extend_from_slice(content);
    message.extend_from_slice(&[0]);
    message
}

/// What is in it.
fn content(head: &[u8], message: &Bytes) -> Bytes {
    assert!(message.starts_with(head) && message.ends_with(&[0]));
    let mut content = message.slice(head.len()..message.len() - 1);
    let length = match content[0] >> 6 {
        1 => usize::from(content.get_u16() & 0x3fff),
        _ => (content.get_u32() & 0x3fff_ffff) as usize,
    };
    assert_eq!(length, content.len());
    content
}

fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}
