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

pub(crate) const NAMES: [&str; 9] = [
    "handshake, both sides",
    "record of 1 KiB, sealed and opened, binary, unsigned",
    "record of 1 KiB, sealed and opened, json, unsigned",
    "record of 1 KiB, sealed and opened, binary, signed alone",
    "exchange of 1 KiB each way, core, binary, unsigned",
    "http exchange of 1 KiB each way, bare",
    "http exchange of 1 KiB each way, binary, unsigned",
    "http exchange of 1 KiB each way, json, unsigned",
    "64 http exchanges of 1 KiB each way, binary, signed together",
];

/// How often a case is run, after a tenth of that to warm up.
pub(crate) const TURNS: u32 = 100;

const LIMIT: usize = 1 << 20;
const TEXT: [u8; 1024] = [b'x'; 1024];

pub(crate) fn run(name: &str) {
    let words: Vec<&str> = name.split(", ").collect();
    let has = |word: &str| words.contains(&word);
    let encoding = if has("json") { Encoding::Json } else { Encoding::Binary };
    let signatures = if has("unsigned") { Signatures::Handshake } else { Signatures::Every };
    if name.starts_with("handshake") {
        let config = || Config::new(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off);
        let (client, server) = (config(), Responder::new(config()));
        turns(|| drop(black_box(handshake(&client, &server))));
    } else if name.starts_with("record") {
        let (mut sealer, mut opener) = stream(signatures, encoding);
        turns(|| record(&mut sealer, &mut opener, encoding));
    } else if has("core") {
        exchanges(signatures, encoding);
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let config =
            || Config::new(Identity::generate(), AnyIdentity).signatures(signatures).encoding(encoding);
        let many = if name.starts_with("64") { 64 } else { 1 };
        if has("bare") {
            let call = |service| http_exchange(service);
            turns(|| runtime.block_on(call(service_fn(echo))));
        } else {
            let sealed = SealLayer::new(config()).layer(UnsealLayer::new(config()).layer(service_fn(echo)));
            turns(|| {
                runtime.block_on(async {
                    drop(join_all((0..many).map(|_| http_exchange(sealed.clone()))).await)
                });
            });
        }
    }
}

fn turns(mut turn: impl FnMut()) {
    (0..TURNS / 10).for_each(|_| turn());
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
    record(&mut sealer, &mut opener, encoding);
    record(&mut answer, &mut back, encoding);
    (sealer, opener)
}

fn record(sealer: &mut Sealer, opener: &mut Opener, encoding: Encoding) {
    let now = Instant::now();
    let frame = sealer.seal(black_box(&TEXT[..]), Final::No, now).unwrap();
    let frame = frame.try_into_mut().unwrap_or_else(|frame| BytesMut::from(&frame[..]));
    let record = Record::parse(frame, encoding, LIMIT).unwrap();
    black_box(opener.open(record, now).unwrap());
}

fn exchanges(signatures: Signatures, encoding: Encoding) {
    let config = || Config::new(Identity::generate(), AnyIdentity).signatures(signatures).encoding(encoding);
    let server = Responder::new(config());
    let (session, theirs) = handshake(&config(), &server);
    server.admit(theirs);
    let session = Arc::new(session);
    let parse = |frame: &[u8]| Record::parse(frame.into(), encoding, LIMIT).unwrap();
    turns(|| {
        let now = Instant::now();
        let timeout = Duration::from_secs(60);
        let request = session.request(&TEXT[..], Final::Yes, timeout, false, &mut rng(), now).unwrap();
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

async fn http_exchange<S, R>(service: S)
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error: std::fmt::Debug>,
    R: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let request = Request::post("http://localhost:8080/echo")
        .header("content-type", "application/octet-stream")
        .body(Full::new(Bytes::from_static(&TEXT)))
        .unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), TEXT.len());
}
