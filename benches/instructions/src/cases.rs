//! What is counted.

use std::{
    convert::Infallible,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use rand_core::UnwrapErr;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_seal::{
    Config, Identity,
    config::{Encoding, Hybrid, Signatures},
    http::{SealLayer, UnsealLayer},
    protocol::{Destination, Final, Initiator, Opener, Record, Responder, Sealer, Session},
    trust::AnyIdentity,
};

pub(crate) const NAMES: [&str; 13] = [
    "handshake, both sides",
    "record of 1 KiB, sealed, binary, unsigned",
    "record of 1 KiB, opened, binary, unsigned",
    "record of 1 KiB, sealed, json, unsigned",
    "record of 1 KiB, opened, json, unsigned",
    "record of 1 KiB, sealed, binary, signed alone",
    "record of 1 KiB, opened, binary, signed alone",
    "exchange of 1 KiB each way, core, binary, unsigned",
    "http exchange of 1 KiB each way, bare",
    "http exchange of 1 KiB each way, binary, unsigned",
    "http exchange of 1 KiB each way, json, unsigned",
    "http exchange of 64 KiB each way, json, unsigned",
    "64 http exchanges of 1 KiB each way, binary, signed together",
];

/// How often a case is run, after a tenth of that to warm up.
pub(crate) const TURNS: u32 = 100;
const WARM_UP: u32 = TURNS / 10;

const LIMIT: usize = 1 << 20;
static TEXT: [u8; 64 << 10] = [b'x'; 64 << 10];

pub(crate) fn run(name: &str) {
    let words: Vec<&str> = name.split(", ").collect();
    let has = |word: &str| words.contains(&word);
    let encoding = if has("json") { Encoding::Json } else { Encoding::Binary };
    let signatures = if has("unsigned") { Signatures::Handshake } else { Signatures::Every };
    let text = if name.contains("64 KiB") { &TEXT[..] } else { &TEXT[..1024] };
    if name.starts_with("handshake") {
        let config = || Config::new(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off);
        let (client, server) = (config(), Responder::new(config()));
        turns(|| drop(black_box(handshake(&client, &server))));
    } else if name.starts_with("record") {
        let (mut sealer, mut opener) = stream(signatures, encoding);
        if has("sealed") {
            turns(|| drop(black_box(seal(&mut sealer, text))));
        } else {
            let frames: Vec<_> = (0..WARM_UP + TURNS).map(|_| seal(&mut sealer, text)).collect();
            let mut frames = frames.into_iter();
            turns(|| open(&mut opener, frames.next().unwrap(), encoding));
        }
    } else if has("core") {
        exchanges(signatures, encoding, text);
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let config =
            || Config::new(Identity::generate(), AnyIdentity).signatures(signatures).encoding(encoding);
        let many = if name.starts_with("64") { 64 } else { 1 };
        if has("bare") {
            turns(|| runtime.block_on(http_exchange(service_fn(echo), text)));
        } else {
            let sealed = SealLayer::new(config()).layer(UnsealLayer::new(config()).layer(service_fn(echo)));
            turns(|| {
                runtime.block_on(async {
                    drop(join_all((0..many).map(|_| http_exchange(sealed.clone(), text))).await)
                });
            });
        }
    }
}

fn turns(mut turn: impl FnMut()) {
    (0..WARM_UP).for_each(|_| turn());
    measured_turns(&mut turn);
}

/// Callgrind counts while this runs.
#[inline(never)]
fn measured_turns(turn: &mut dyn FnMut()) {
    for _ in 0..TURNS {
        turn();
    }
}

fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

fn handshake(client: &Config, server: &Responder) -> (Session, Session) {
    let now = Instant::now();
    let (hello, initiator) = Initiator::start(client, Destination::default(), &mut rng()).unwrap();
    let (reply, theirs) = server.accept(&hello, |_| true, || true, &mut rng(), now).unwrap();
    (initiator.finish(&reply, now).unwrap(), theirs)
}

/// One direction of a duplex connection, past its confirmation, so that unsigned means unsigned.
fn stream(signatures: Signatures, encoding: Encoding) -> (Sealer, Opener) {
    let config = || Config::new(Identity::generate(), AnyIdentity).signatures(signatures).encoding(encoding);
    let (ours, theirs) = handshake(&config(), &Responder::new(config()));
    let now = Instant::now();
    let (mut sealer, mut back) = ours.into_duplex(false, now).unwrap();
    let (mut answer, mut opener) = theirs.into_duplex(false, now).unwrap();
    open(&mut opener, seal(&mut sealer, b""), encoding);
    open(&mut back, seal(&mut answer, b""), encoding);
    (sealer, opener)
}

fn seal(sealer: &mut Sealer, text: &[u8]) -> BytesMut {
    let frame = sealer.seal(black_box(text), Final::No, Instant::now()).unwrap();
    frame.try_into_mut().unwrap_or_else(|frame| BytesMut::from(&frame[..]))
}

fn open(opener: &mut Opener, frame: BytesMut, encoding: Encoding) {
    let record = Record::parse(frame, encoding, LIMIT).unwrap();
    black_box(opener.open(record, Instant::now()).unwrap());
}

fn exchanges(signatures: Signatures, encoding: Encoding, text: &[u8]) {
    let config = || Config::new(Identity::generate(), AnyIdentity).signatures(signatures).encoding(encoding);
    let server = Responder::new(config());
    let (session, theirs) = handshake(&config(), &server);
    server.admit(theirs);
    let session = Arc::new(session);
    let parse = |frame: &[u8]| Record::parse(frame.into(), encoding, LIMIT).unwrap();
    turns(|| {
        let now = Instant::now();
        let timeout = Duration::from_secs(60);
        let request = session.request(text, Final::Yes, timeout, false, &mut rng(), now).unwrap();
        let (offered, _) = server.open(parse(&request.bytes), now).unwrap();
        let mut claimed = offered.claim(false, &mut rng(), now).unwrap();
        let response = claimed.response.seal(&claimed.plaintext[..], Final::Yes, now).unwrap();
        black_box(request.response.open(parse(&response), now).unwrap());
    });
}

async fn echo<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    Ok(Response::new(Full::new(request.into_body().collect().await.unwrap().to_bytes())))
}

async fn http_exchange<S, R>(service: S, text: &'static [u8])
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error: std::fmt::Debug>,
    R: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let request = Request::post("http://localhost:8080/echo")
        .header("content-type", "application/octet-stream")
        .body(Full::new(Bytes::from_static(text)))
        .unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), text.len());
}
