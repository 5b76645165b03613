//! The layers, with a core of the test at the far end, so that the secrets are known: none is left in
//! freed memory, none is logged at whatever level, nor is a word of what was said, and no type of theirs shows one.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    Config, Identity,
    config::{Backend, Encoding, Hybrid, Limits},
    http as sealed,
    protocol::{Destination, Final, Initiator, Record, Responder, Sealer},
    rpc,
};

use crate::{
    NOTHING,
    freed::during,
    known::{Known, Mine, Secrets},
    recorder,
    sessions::{Open, opening},
};

const HANDSHAKE: &str = "application/vnd.tower-seal.handshake+json";
const BINARY: &str = "application/vnd.tower-seal";
const MINUTE: Duration = Duration::from_secs(60);
/// Stands for everything that is said.
pub const WORDS: &str = "attack at dawn, by the northern gate";
/// Of a body, each a record in the second epoch or later.
const PIECES: [&str; 4] =
    [WORDS, "attack at noon, from the sea itself", "or at dusk, when they are at table", WORDS];

type Body = BoxBody<Bytes, Infallible>;

pub fn config(rng: &mut Known, backend: Backend) -> Config {
    let mut limits = Limits::default();
    limits.rekey_records = 1;
    Config::new(Identity::generate_from(rng), Open(None)).backend(backend).hybrid(Hybrid::Off).limits(limits)
}

/// What is known of a session, and which streams it had, each with its direction, its opening, and its epochs.
#[derive(Clone, Default)]
pub struct Said {
    pub hello: Bytes,
    pub reply: Bytes,
    /// Which of the randomness was the ephemeral secret.
    pub at: usize,
    pub streams: Vec<(u8, u64, Vec<u8>)>,
    /// What the types of the layer show.
    pub shown: String,
}

/// As it is shown, in both ways.
pub fn show(value: &dyn Debug) -> String {
    format!("{value:?}\n{value:#?}\n")
}

/// Runs `talk` on a runtime that is given back with everything else.
fn block_on<T>(talk: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(talk)
}

pub fn parse(frame: &[u8]) -> Record {
    Record::parse(BytesMut::from(frame), Encoding::Binary, 1 << 20).unwrap()
}

/// Binary records with their lengths, without them.
fn frames(mut body: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame);
        body = rest;
    }
    frames
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A body of [`PIECES`], which comes a piece at a time.
fn paced() -> Body {
    let pieces = stream::iter(PIECES).then(|piece| async move {
        // So that what is there is sent before the next piece comes.
        tokio::task::yield_now().await;
        Ok(Frame::data(Bytes::from(piece)))
    });
    BoxBody::new(StreamBody::new(Box::pin(pieces)))
}

async fn read<B>(body: B) -> Bytes
where
    B: HttpBody<Data = Bytes>,
    B::Error: Debug,
{
    body.collect().await.unwrap().to_bytes()
}

fn outer(kind: &str, body: Bytes) -> Request<Body> {
    Request::post("http://example.com/").header(header::CONTENT_TYPE, kind).body(full(body)).unwrap()
}

/// An inner request `POST /`, and an inner response 200, without fields or content (RFC 9292, section 3.1): further
/// records are content.
const REQUEST: &[u8] = b"\x00\x04POST\x04http\x0bexample.com\x01/";
const RESPONSE: &[u8] = b"\x01\x40\xc8";

/// `head`, and a record for each of [`PIECES`].
fn seal_all(head: Bytes, sealer: &mut Sealer) -> Vec<u8> {
    let mut body = head.to_vec();
    for (left, piece) in PIECES.iter().enumerate().map(|(at, piece)| (PIECES.len() - at - 1, piece)) {
        let last = if left == 0 { Final::Yes } else { Final::No };
        body.extend_from_slice(&sealer.seal(piece.as_bytes(), last, Instant::now()).unwrap());
    }
    body
}

// ---- http ----

/// A client by the core against [`sealed::UnsealLayer`].
async fn ask_http(rng: &mut Known, backend: Backend) -> Said {
    let (server, client) = (config(rng, backend), config(rng, backend));
    let app = service_fn(|request: Request<_>| async {
        assert_eq!(read(request.into_body()).await, PIECES.concat());
        Ok::<_, Infallible>(Response::new(paced()))
    });
    let layer = sealed::UnsealLayer::new(server);
    let shown = show(&layer);
    let service = layer.layer(app);
    let at = rng.count();
    let (hello, initiator) = Initiator::start(&client, Destination::default(), rng).unwrap();
    let answer = service.clone().oneshot(outer(HANDSHAKE, hello.clone())).await.unwrap();
    let reply = read(answer.into_body()).await;
    let session = Arc::new(initiator.finish(&reply, Instant::now()).unwrap());
    let mut said = Said { hello, reply, at, shown, ..Said::default() };
    for stream in [1, 2] {
        let now = Instant::now();
        let request = session.request(REQUEST, Final::No, MINUTE, true, rng, now).unwrap();
        said.streams.push((0, stream, opening(&request.bytes[4..]).to_vec()));
        let body = seal_all(request.bytes, &mut request.rest.unwrap());
        let answer = service.clone().oneshot(outer(BINARY, body.into())).await.unwrap();
        let body = read(answer.into_body()).await;
        let frames = frames(&body);
        said.streams.push((1, stream, opening(frames[0]).to_vec()));
        let (_, mut opener) = request.response.open(parse(frames[0]), Instant::now()).unwrap();
        for frame in &frames[1..] {
            opener.open(parse(frame), Instant::now()).unwrap();
        }
        assert!(opener.is_finished() && frames.len() > 3);
    }
    said
}

/// [`sealed::SealLayer`] against a server by the core.
async fn serve_http(rng: &mut Known, backend: Backend) -> Said {
    let (server, client) = (config(rng, backend), config(rng, backend));
    let state = Arc::new(Mutex::new((Responder::new(server), rng.clone(), Said::default())));
    let kept = state.clone();
    let wire = service_fn(move |request: Request<_>| {
        let state = kept.clone();
        async move {
            let hello = request.headers()[header::CONTENT_TYPE] == HANDSHAKE;
            let body = read(request.into_body()).await;
            let (responder, rng, said) = &mut *state.lock().unwrap();
            let (kind, answer) = if hello {
                (HANDSHAKE, answer_hello(responder, rng, said, body))
            } else {
                let frames = frames(&body);
                let (offered, _) =
                    responder.open(parse(frames[0]), Instant::now()).map_err(|(error, _)| error).unwrap();
                let mut claimed = offered.claim(true, rng, Instant::now()).unwrap();
                let mut opener = claimed.rest.take().unwrap();
                frames[1..].iter().for_each(|frame| drop(opener.open(parse(frame), Instant::now()).unwrap()));
                let first = claimed.response.seal(RESPONSE, Final::No, Instant::now()).unwrap();
                let stream = said.streams.len() as u64 / 2 + 1;
                said.streams.push((0, stream, opening(frames[0]).to_vec()));
                said.streams.push((1, stream, opening(&first[4..]).to_vec()));
                (BINARY, seal_all(first, &mut claimed.response))
            };
            Ok::<_, Infallible>(
                Response::builder().header(header::CONTENT_TYPE, kind).body(full(answer)).unwrap(),
            )
        }
    });
    let layer = sealed::SealLayer::new(client);
    let shown = show(&layer);
    let client = layer.layer(wire);
    for _ in 0..2 {
        let request = Request::post("http://example.com/?attack%20at%20dawn=attack%20at%20noon")
            .header(header::AUTHORIZATION, WORDS)
            .header("attack-at-dawn-by-the-northern-gate", WORDS)
            .body(paced())
            .unwrap();
        let answer = client.clone().oneshot(request).await.unwrap();
        assert_eq!(read(answer.into_body()).await, PIECES.concat());
    }
    drop(client);
    let said = state.lock().unwrap().2.clone();
    Said { shown, ..said }
}

fn answer_hello(responder: &Responder, rng: &mut Known, said: &mut Said, hello: Bytes) -> Vec<u8> {
    let at = rng.count();
    let (reply, session) = responder.accept(&hello, |_| true, || true, rng, Instant::now()).unwrap();
    responder.admit(session);
    *said = Said { hello, reply: reply.clone(), at, ..Said::default() };
    reply.to_vec()
}

// ---- rpc ----

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"attack at dawn, by the northern gate"}"#;
const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":"attack at dawn, by the northern gate"}"#;

async fn ask_rpc(rng: &mut Known, backend: Backend) -> Said {
    let (server, client) = (config(rng, backend), config(rng, backend));
    let app = service_fn(|_: rpc::Message| async { Ok::<_, Infallible>(Some(Bytes::from(RESULT))) });
    let layer = rpc::UnsealLayer::new(server);
    let shown = show(&layer);
    let service = layer.layer(app);
    let at = rng.count();
    let (hello, initiator) = Initiator::start(&client, Destination::default(), rng).unwrap();
    let reply = service.clone().oneshot(hello.clone()).await.unwrap().unwrap();
    let session = Arc::new(initiator.finish(&reply, Instant::now()).unwrap());
    let mut said = Said { hello, reply, at, shown, ..Said::default() };
    let request = session.request(CALL.as_bytes(), Final::Yes, MINUTE, false, rng, Instant::now()).unwrap();
    let answer = service.oneshot(request.bytes.clone()).await.unwrap().unwrap();
    request.response.open(parse(&answer), Instant::now()).unwrap();
    said.streams = vec![(0, 1, opening(&request.bytes).to_vec()), (1, 1, opening(&answer).to_vec())];
    said
}

async fn serve_rpc(rng: &mut Known, backend: Backend) -> Said {
    let (server, client) = (config(rng, backend), config(rng, backend));
    let state = Arc::new(Mutex::new((Responder::new(server), rng.clone(), Said::default())));
    let kept = state.clone();
    let wire = service_fn(move |frame: Bytes| {
        let (responder, rng, said) = &mut *kept.lock().unwrap();
        let answer = if frame[0] == b'{' {
            answer_hello(responder, rng, said, frame)
        } else {
            let (offered, _) =
                responder.open(parse(&frame), Instant::now()).map_err(|(error, _)| error).unwrap();
            let mut claimed = offered.claim(false, rng, Instant::now()).unwrap();
            let answer = claimed.response.seal(RESULT.as_bytes(), Final::Yes, Instant::now()).unwrap();
            said.streams = vec![(0, 1, opening(&frame).to_vec()), (1, 1, opening(&answer).to_vec())];
            answer.to_vec()
        };
        std::future::ready(Ok::<_, Infallible>(Some(Bytes::from(answer))))
    });
    let layer = rpc::SealLayer::new(client);
    let shown = show(&layer);
    let answer = layer.layer(wire).oneshot(Bytes::from(CALL)).await.unwrap();
    assert_eq!(answer.unwrap(), RESULT);
    let said = state.lock().unwrap().2.clone();
    Said { shown, ..said }
}

// ---- all of them ----

pub fn test(seed: u64, mine: fn([u8; 32]) -> Mine, talk: impl AsyncFn(&mut Known, Backend) -> Said) {
    for (number, &backend) in (0..).zip(Backend::ALL) {
        // Others than before, since the recorder knows those.
        let mut rng = Known::new(seed << 8 | number);
        recorder::keep();
        let (said, freed) = during(|| block_on(talk(&mut rng, backend)));
        let log = recorder::kept();
        let mut secrets = Secrets::default();
        let keys = secrets.add_session(&said.hello, &said.reply, &mine(rng.handed(said.at)), &[]);
        secrets.add_handed(&rng);
        for (direction, stream, opening) in &said.streams {
            secrets.add_stream(&keys, *direction, *stream, opening, 6);
        }
        assert!(!said.streams.is_empty());
        assert_eq!(freed.shows(&secrets.0), NOTHING, "{backend:?}");

        secrets.0.iter().for_each(|(_, secret)| recorder::secret("a secret of the conversation", secret));
        PIECES.iter().for_each(|words| recorder::secret("what was said", words.as_bytes()));
        assert!(log.contains("tower_seal "), "{log}");
        for text in [&log, &said.shown] {
            assert_eq!(recorder::shown(text), None, "{text}");
            assert!(!text.contains("attack"), "{text}");
        }
    }
}

pub fn initiator(ephemeral: [u8; 32]) -> Mine {
    Mine::Initiator { ephemeral, kem_seed: None }
}

pub fn responder(ephemeral: [u8; 32]) -> Mine {
    Mine::Responder { ephemeral }
}

#[test]
fn http_servers_leave_no_secret() {
    test(10, initiator, ask_http);
}

#[test]
fn http_clients_leave_no_secret() {
    test(11, responder, serve_http);
}

#[test]
fn rpc_servers_leave_no_secret() {
    test(12, initiator, ask_rpc);
}

#[test]
fn rpc_clients_leave_no_secret() {
    test(13, responder, serve_rpc);
}
