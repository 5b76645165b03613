//! Everything that reads what a stranger or a hostile peer wrote, each with something genuine to begin with.

use std::{
    convert::Infallible,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use rand_core::UnwrapErr;
use tokio::{
    io::AsyncWriteExt as _,
    runtime::{Builder, Runtime},
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    Config, Identity, NodeId,
    config::{Encoding, Hybrid, Limits},
    duplex::{Acceptor, pipe, websocket},
    error::Code,
    http::{OpenBody, SealBody, SealLayer, UnsealLayer},
    protocol::{self, Destination, Final, Initiator, MessageKind, Record, Responder, Session, refusal},
    rpc::{self, Message},
    trust::{AnyIdentity, KnownPeers},
};

use crate::{
    Cost, alone, cost,
    inputs::{KIB, Seeded, made, mutated},
};

/// For 1 KiB of input.
const MOST: u64 = 64 << 10;

/// How often the genuine message is changed at random.
const MUTATIONS: usize = 200;

/// Reads each input; panics where one costs more than it may.
fn examine(name: &str, genuine: &[u8], mut read: impl FnMut(&[u8]) -> Cost) {
    let mut rng = Seeded::new();
    let (mut most, mut inputs) = (read(genuine).peak, made(genuine));
    inputs.extend((0..MUTATIONS).map(|_| mutated(genuine, &mut rng)));
    for input in &inputs {
        let peak = read(input).peak;
        assert!(peak <= MOST, "{name}: {peak} bytes for {}, HOSTILE_SEED={}", input.escape_ascii(), rng.seed);
        most = most.max(peak);
    }
    println!("{name}: at most {most} bytes, for {} inputs", inputs.len());
}

pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

pub(crate) fn config() -> Config {
    let mut limits = Limits::default();
    // Remembering hellos is bounded apart, and rates have a real clock.
    limits.hellos = 1;
    limits.handshakes_per_second = u32::MAX;
    limits.signed_errors_per_second = u32::MAX;
    Config::new(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off).limits(limits)
}

pub(crate) fn hello(config: &Config) -> (Bytes, Initiator) {
    let destination = Destination { target: Some("/"), ..Destination::default() };
    Initiator::start(config, destination, &mut rng()).unwrap()
}

/// A responder and a session with it, for exchanges.
pub(crate) fn session(client: &Config) -> (Responder, Arc<Session>) {
    let responder = Responder::new(config());
    let (hello, initiator) = hello(client);
    let (reply, session) = responder.accept(&hello, |_| true, || true, &mut rng(), Instant::now()).unwrap();
    responder.admit(session);
    (responder, Arc::new(initiator.finish(&reply, Instant::now()).unwrap()))
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn request(session: &Arc<Session>, text: &[u8], framed: bool, now: Instant) -> protocol::Request {
    session.request(text, Final::Yes, MINUTE, framed, &mut rng(), now).unwrap()
}

fn parse(bytes: &[u8], encoding: Encoding) -> tower_seal::error::Result<Record> {
    Record::parse(BytesMut::from(bytes), encoding, 1 << 20)
}

const BOTH: [Encoding; 2] = [Encoding::Binary, Encoding::Json];

#[test]
fn handshakes() {
    let _alone = alone();
    let (client, server) = (config(), config());
    let (message, initiator) = hello(&client);
    let responder = || Responder::new(server.clone());
    let accept = |responder: &Responder, hello: &[u8]| {
        responder.accept(hello, |_| true, || true, &mut rng(), Instant::now())
    };
    examine("hello", &message, |bytes| {
        let responder = responder();
        cost(|| accept(&responder, bytes))
    });
    let (reply, _) = accept(&responder(), &message).unwrap();
    initiator.finish(&reply, Instant::now()).unwrap();
    examine("reply", &reply, |bytes| {
        let (_, initiator) = hello(&client);
        cost(|| initiator.finish(bytes, Instant::now()))
    });
}

#[test]
fn records() {
    let _alone = alone();
    for encoding in BOTH {
        let (responder, session) = session(&config().encoding(encoding));
        let request = request(&session, b"hello", false, Instant::now());
        examine(&format!("record, {encoding:?}"), &request.bytes, |bytes| {
            cost(|| responder.open(parse(bytes, encoding)?, Instant::now()).map_err(|(error, _)| error))
        });
        examine(&format!("response, {encoding:?}"), &request.bytes, |bytes| {
            cost(|| request.response.open(parse(bytes, encoding)?, Instant::now()))
        });
    }
}

#[test]
fn errors_and_kinds() {
    let _alone = alone();
    let (responder, session) = session(&config());
    let request = request(&session, b"hello", false, Instant::now());
    let record = parse(&request.bytes, Encoding::Binary).unwrap();
    let (_, subject) = responder.open(record, Instant::now()).unwrap();
    let error = tower_seal::Error::Unavailable { code: Code::Busy, reason: "busy" };
    let error = responder.refuse(&error, Some(&subject));
    examine("unsigned error", &error, |bytes| cost(|| refusal(bytes)));
    examine("signed error", &error, |bytes| cost(|| request.response.refused(bytes)));
    examine("kind", &error, |bytes| cost(|| (MessageKind::of(bytes), MessageKind::is_unsealed(bytes))));
}

#[test]
fn files() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let pem = Identity::generate().to_pem().unwrap();
    examine("key", pem.as_bytes(), |bytes| cost(|| Identity::from_pem(str::from_utf8(bytes).ok()?).ok()));
    let key = folder.path().join("key");
    Identity::generate().save(&key).unwrap();
    examine("key file", pem.as_bytes(), |bytes| {
        fs::write(&key, bytes).unwrap();
        cost(|| Identity::load(&key))
    });
    let peers = folder.path().join("peers");
    let node = NodeId::from_bytes([7; 32]);
    let lines = format!("https://example.com {node} # a comment\n\nwss://example.com:8443 {node}\n");
    examine("known peers", lines.as_bytes(), |bytes| {
        fs::write(&peers, bytes).unwrap();
        cost(|| KnownPeers::open(&peers).and_then(|peers| peers.list()))
    });
}

/// Any content, as often as it is asked for.
pub(crate) fn echo() -> impl tower::Service<
    Request<OpenBody<Full<Bytes>>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    service_fn(|request: Request<OpenBody<Full<Bytes>>>| async {
        let content = request.into_body().collect().await.map(|body| body.to_bytes());
        Ok(Response::new(Full::new(content.unwrap_or_default())))
    })
}

pub(crate) fn post(kind: &str, body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::post("http://example.com/").header(header::CONTENT_TYPE, kind);
    request.body(Full::new(body)).unwrap()
}

pub(crate) const HANDSHAKE: &str = "application/vnd.tower-seal.handshake+json";

pub(crate) fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Binary => "application/vnd.tower-seal",
        Encoding::Json => "application/vnd.tower-seal+json",
    }
}

pub(crate) const HEAD: &[u8] = b"\0\x04POST\x04http\x0bexample.com\x01/\x0b\x06accept\x03*/*\x05hello\0";

/// A session with the layer below which `server` stands.
pub(crate) async fn shake<S, B>(client: &Config, server: &S) -> Arc<Session>
where
    S: tower::Service<Request<Full<Bytes>>, Response = Response<SealBody<B>>, Error = Infallible> + Clone,
    SealBody<B>: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (hello, initiator) = hello(client);
    let reply = server.clone().oneshot(post(HANDSHAKE, hello)).await.unwrap();
    let reply = reply.into_body().collect().await.unwrap().to_bytes();
    Arc::new(initiator.finish(&reply, tokio::time::Instant::now().into_std()).unwrap())
}

#[test]
fn http() {
    let _alone = alone();
    let runtime = runtime();
    let now = || runtime.block_on(async { tokio::time::Instant::now().into_std() });
    for encoding in BOTH {
        let server = UnsealLayer::new(config()).layer(echo());
        let session = runtime.block_on(shake(&config().encoding(encoding), &server));
        let ask = |kind: &str, body: Bytes| {
            let asked = post(kind, body);
            cost(|| {
                runtime.block_on(async {
                    let answer = server.clone().oneshot(asked).await.unwrap();
                    drop(answer.into_body().collect().await);
                })
            })
        };
        let genuine = request(&session, HEAD, true, now()).bytes;
        examine(&format!("body, {encoding:?}"), &genuine, |bytes| {
            ask(media_type(encoding), Bytes::copy_from_slice(bytes))
        });
        examine(&format!("inner request, {encoding:?}"), HEAD, |bytes| {
            ask(media_type(encoding), request(&session, bytes, true, now()).bytes)
        });
        let (hello, _) = hello(&config());
        examine("body of a hello", &hello, |bytes| ask(HANDSHAKE, Bytes::copy_from_slice(bytes)));
    }
}

/// A server by hand, whose answer to anything but a hello is `inner`, sealed, or `outer`.
#[test]
fn http_responses() {
    let _alone = alone();
    let runtime = runtime();
    let answer = |sealed: bool, text: &[u8]| {
        let (responder, text) = (Arc::new(Responder::new(config())), Bytes::copy_from_slice(text));
        let far = service_fn(move |request: Request<SealBody<Full<Bytes>>>| {
            let (responder, text) = (responder.clone(), text.clone());
            async move {
                let is_hello = request.headers()[header::CONTENT_TYPE] == HANDSHAKE;
                let body = request.into_body().collect().await?.to_bytes();
                let now = tokio::time::Instant::now().into_std();
                let (kind, body) = if is_hello {
                    let (reply, session) = responder.accept(&body, |_| true, || true, &mut rng(), now)?;
                    responder.admit(session);
                    (HANDSHAKE, reply)
                } else if sealed {
                    let record = parse(&body[4..], Encoding::Binary)?;
                    let (offered, _) = responder.open(record, now).map_err(|(error, _)| error)?;
                    let mut response = offered.claim(true, &mut rng(), now)?.response;
                    (media_type(Encoding::Binary), response.seal(&text[..], Final::Yes, now)?)
                } else {
                    (media_type(Encoding::Binary), text)
                };
                let response = Response::builder().header(header::CONTENT_TYPE, kind);
                Ok::<_, tower_seal::Error>(response.body(Full::new(body)).unwrap())
            }
        });
        let client = SealLayer::new(config()).layer(far);
        let get = || Request::get("http://example.com/").body(Full::new(Bytes::new())).unwrap();
        runtime.block_on(async { drop(client.clone().oneshot(get()).await) });
        cost(|| {
            runtime.block_on(async {
                if let Ok(response) = client.oneshot(get()).await {
                    drop(response.into_body().collect().await);
                }
            })
        })
    };
    let head = b"\x01\x40\xc8\x0b\x06accept\x03*/*\x05hello\0";
    examine("inner response", head, |text| answer(true, text));
    examine("body of a response", b"\0\0\0\x09\x01\x03aaaaaaaaa", |text| answer(false, text));
}

#[test]
fn frames_of_a_queue() {
    let _alone = alone();
    let runtime = runtime();
    let app = service_fn(|message: Message| async move { Ok::<_, Infallible>(Some(message.bytes)) });
    let server = rpc::UnsealLayer::new(config()).layer(app);
    let now = || runtime.block_on(async { tokio::time::Instant::now().into_std() });
    let ask = |frame: Bytes| {
        let server = server.clone();
        cost(|| runtime.block_on(server.oneshot(frame)))
    };
    let (hello, initiator) = hello(&config());
    let reply = runtime.block_on(server.clone().oneshot(hello.clone())).unwrap().unwrap();
    let session = Arc::new(initiator.finish(&reply, now()).unwrap());
    let call = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}";
    let sealed = request(&session, call, false, now()).bytes;
    for (name, genuine) in [("hello in a frame", &hello[..]), ("frame", &sealed), ("plain frame", call)] {
        examine(name, genuine, |bytes| ask(Bytes::copy_from_slice(bytes)));
    }
    examine("call", call, |bytes| ask(request(&session, bytes, false, now()).bytes));
}

#[test]
fn pipes_and_sockets() {
    let _alone = alone();
    let (runtime, acceptor) = (runtime(), Acceptor::new(config()));
    let (hello, _) = hello(&config());
    let length = (hello.len() as u32).to_be_bytes();
    let line = [&hello[..], b"\n"].concat();
    let framed = [&length[..], &hello].concat();
    let come = async |bytes: &[u8]| {
        let (mut here, there) = tokio::io::duplex(2 * KIB);
        here.write_all(bytes).await.unwrap();
        here.shutdown().await.unwrap();
        (here, there)
    };
    for (name, genuine) in [("line in a pipe", &line), ("length in a pipe", &framed)] {
        examine(name, genuine, |bytes| {
            let (_here, there) = runtime.block_on(come(bytes));
            cost(|| runtime.block_on(pipe::accept(there, &acceptor)))
        });
        examine(&format!("{name}, in answer"), genuine, |bytes| {
            let encoding = if bytes.first() == Some(&b'{') { Encoding::Json } else { Encoding::Binary };
            let (_here, there) = runtime.block_on(come(bytes));
            let config = config().encoding(encoding);
            cost(|| runtime.block_on(pipe::connect(there, &config, Destination::default())))
        });
    }
    // Masked with zeros.
    let length = (hello.len() as u16).to_be_bytes();
    let frame = [&[0x81, 0xfe], &length[..], &[0; 4], &hello].concat();
    examine("first message of a WebSocket", &frame, |bytes| {
        let (_here, there) = runtime.block_on(come(bytes));
        cost(|| runtime.block_on(websocket::accept_upgraded(there, &acceptor, "/")))
    });
}
