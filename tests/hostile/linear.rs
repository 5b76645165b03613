//! Four times as many bytes cost about four times as much, in allocated bytes and blocks and in how often a body is
//! asked: nothing here is measured in time, and nothing grows with the square.

use std::{
    convert::Infallible,
    fs,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    config::Encoding,
    duplex::{Acceptor, pipe, websocket},
    http::UnsealLayer,
    protocol::{Final, MessageKind, Record},
    rpc::{self, Message},
    trust::KnownPeers,
};

use crate::{
    alone, cost,
    readers::{HANDSHAKE, HEAD, MINUTE, config, echo, hello, media_type, post, request, rng, runtime, shake},
};

/// What `n` and `4 * n` things cost, as allocated bytes, blocks and anything else that is counted.
fn is_linear<const N: usize>(name: &str, n: usize, count: impl Fn(usize) -> [u64; N]) {
    // What is made once for all is made before.
    count(4 * n);
    let (once, four_times) = (count(n), count(4 * n));
    println!("{name}: {once:?}, {four_times:?}");
    for (once, four_times) in once.into_iter().zip(four_times) {
        assert!(four_times <= once * 5 + 4096, "{name}: {once} for {n}, {four_times} for four times as many");
    }
}

fn counted<T>(act: impl FnOnce() -> T) -> [u64; 2] {
    let cost = cost(act);
    [cost.bytes, cost.blocks]
}

/// A body of one byte at a time, and how often it was asked for one.
struct Drops(Bytes, Arc<AtomicU64>);

impl http_body::Body for Drops {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let drop = (!self.0.is_empty()).then(|| self.0.split_to(1));
        Poll::Ready(drop.map(|drop| Ok(http_body::Frame::data(drop))))
    }
}

#[test]
fn bodies_that_come_byte_by_byte() {
    let _alone = alone();
    let runtime = runtime();
    for encoding in [Encoding::Binary, Encoding::Json] {
        let server = UnsealLayer::new(config()).layer(service_fn(|request: Request<_>| async {
            let body: tower_seal::http::OpenBody<Drops> = request.into_body();
            let content = body.collect().await.map(|body| body.to_bytes());
            Ok::<_, Infallible>(http::Response::new(http_body_util::Full::new(content.unwrap_or_default())))
        }));
        let ask = |kind: &str, body: Bytes| {
            let asked = Arc::new(AtomicU64::new(0));
            let request = Request::post("http://example.com/").header(header::CONTENT_TYPE, kind);
            let request = request.body(Drops(body, asked.clone())).unwrap();
            let mut answer = None;
            let [bytes, blocks] = counted(|| {
                let response = runtime.block_on(server.clone().oneshot(request)).unwrap();
                answer = Some(runtime.block_on(response.into_body().collect()).map(|body| body.to_bytes()));
            });
            (answer.unwrap().unwrap(), [bytes, blocks, asked.load(Ordering::Relaxed)])
        };
        let (hello, initiator) = hello(&config().encoding(encoding));
        let (reply, _) = ask(HANDSHAKE, hello);
        let now = || runtime.block_on(async { tokio::time::Instant::now().into_std() });
        let session = Arc::new(initiator.finish(&reply, now()).unwrap());

        is_linear(&format!("a long record, {encoding:?}"), 20_000, |n| {
            let head =
                [&HEAD[..HEAD.len() - 7], &(0x8000_0000 + n as u32).to_be_bytes(), &vec![b'x'; n]].concat();
            let (_, cost) = ask(media_type(encoding), request(&session, &head, true, now()).bytes);
            cost
        });
        is_linear(&format!("short records, {encoding:?}"), 50, |n| {
            let mut request = session.request(HEAD, Final::No, MINUTE, true, &mut rng(), now()).unwrap();
            let mut body = request.bytes.to_vec();
            let sealer = request.rest.as_mut().unwrap();
            for at in 1..=n {
                let last = if at == n { Final::Yes } else { Final::No };
                body.extend_from_slice(&sealer.seal(&b"x"[..], last, now()).unwrap());
            }
            let (answer, cost) = ask(media_type(encoding), body.into());
            assert!(!answer.is_empty());
            cost
        });
        is_linear(&format!("no record, {encoding:?}"), 20_000, |n| {
            let start: &[u8] = if encoding == Encoding::Json { b"{" } else { b"\0\x0f\0\0\x01\x03" };
            ask(media_type(encoding), [start, &vec![b' '; n]].concat().into()).1
        });
    }
}

#[test]
fn inner_fields() {
    let _alone = alone();
    let runtime = runtime();
    let server = UnsealLayer::new(config()).layer(echo());
    let session = runtime.block_on(shake(&config(), &server));
    let now = || runtime.block_on(async { tokio::time::Instant::now().into_std() });
    for (name, field) in [("the same", "\u{1}a\0"), ("others", "")] {
        is_linear(&format!("fields, {name}"), 100, |n| {
            let fields: String = (0..n)
                .map(|at| if field.is_empty() { format!("\u{6}x-{at:04}\u{1}y") } else { field.to_owned() })
                .collect();
            let length = (0x8000_0000 + fields.len() as u32).to_be_bytes();
            let head = [b"\0\x04POST\x04http\x0bexample.com\x01/", &length[..], fields.as_bytes(), b"\0\0"];
            let asked =
                post(media_type(Encoding::Binary), request(&session, &head.concat(), true, now()).bytes);
            counted(|| {
                let answer = runtime.block_on(server.clone().oneshot(asked)).unwrap();
                assert_eq!(answer.status(), 200);
            })
        });
    }
}

#[test]
fn json() {
    let _alone = alone();
    let fields = |n: usize| (0..n).map(|at| format!("\"{at:x}\":0,")).collect::<String>();
    for (name, n, start, end) in [
        ("names", 1000, "{", "\"type\":\"error\"}"),
        ("names within", 1000, "{\"type\":\"error\",\"a\":{", "\"b\":0}}"),
        ("names and no end", 1000, "{\"jsonrpc\":", ""),
    ] {
        is_linear(name, n, |n| {
            let message = format!("{start}{}{end}", fields(n));
            counted(|| (MessageKind::of(message.as_bytes()), MessageKind::is_unsealed(message.as_bytes())))
        });
    }
    for (name, piece) in [("escapes", "\\u0041"), ("letters", "x"), ("elements", "\",\"")] {
        is_linear(name, 10_000, |n| {
            let message = format!("{{\"type\":\"encrypted\",\"a\":[\"{}\"]}}", piece.repeat(n));
            counted(|| Record::parse_json(message.as_bytes(), 1 << 20))
        });
    }
}

#[test]
fn lines_of_known_peers() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers");
    for (name, line) in [("blank", "\n"), ("nearly blank", " \t\r\n"), ("comments", "# a\n"), ("peers", "")] {
        let n = if line.is_empty() { 1000 } else { 10_000 };
        is_linear(name, n, |n| {
            let node = "07".repeat(32);
            let lines =
                (0..n).map(|at| if line.is_empty() { format!("a{at} {node}\n") } else { line.to_owned() });
            fs::write(&file, lines.collect::<String>()).unwrap();
            counted(|| KnownPeers::open(&file).and_then(|peers| peers.list()).unwrap())
        });
    }
}

#[test]
fn batches() {
    let _alone = alone();
    let runtime = runtime();
    let app =
        service_fn(|message: Message| async move { Ok::<_, Infallible>(Some(message.bytes.slice(..2))) });
    let server = rpc::UnsealLayer::new(config()).layer(app);
    let now = || runtime.block_on(async { tokio::time::Instant::now().into_std() });
    let (hello, initiator) = hello(&config());
    let reply = runtime.block_on(server.clone().oneshot(hello)).unwrap().unwrap();
    let session = Arc::new(initiator.finish(&reply, now()).unwrap());
    is_linear("members of a batch", 2000, |n| {
        let batch = format!("[{}1]", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"},".repeat(n));
        let frame = request(&session, batch.as_bytes(), false, now()).bytes;
        counted(|| runtime.block_on(server.clone().oneshot(frame)))
    });
}

#[test]
fn strangers_that_send_byte_by_byte() {
    let _alone = alone();
    let (runtime, acceptor) = (runtime(), Acceptor::new(config()));
    let slowly = async |start: &[u8], pieces: Vec<Vec<u8>>, socket: bool| {
        let (mut here, there) = tokio::io::duplex(1 << 10);
        let say = async {
            here.write_all(start).await?;
            for piece in pieces {
                here.write_all(&piece).await?;
            }
            here.shutdown().await
        };
        if socket {
            tokio::join!(say, async { websocket::accept_upgraded(there, &acceptor, "/").await.is_ok() }).1
        } else {
            tokio::join!(say, async { pipe::accept(there, &acceptor).await.is_ok() }).1
        }
    };
    for (name, start, piece, socket) in [
        ("a line", &b"{"[..], &b" "[..], false),
        ("a length", b"\0\0\x3f\0", b"{", false),
        ("fragments", b"\x01\x80\0\0\0\0", b"\0\x81\0\0\0\0 ", true),
        ("pings", b"\x89\x80\0\0\0\0", b"\x89\x80\0\0\0\0", true),
    ] {
        is_linear(name, 1000, |n| {
            let pieces = vec![piece.to_vec(); n];
            counted(|| assert!(!runtime.block_on(slowly(start, pieces, socket))))
        });
    }
}
