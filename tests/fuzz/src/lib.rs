//! What the targets share: two sides of the protocol's vectors, a runtime without a clock that waits, and a limit to
//! what a single allocation may take.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;
use tower_seal::{
    Config, Error, Identity, NodeId, SuiteId,
    config::{Encoding, Hybrid, Limits, Signatures},
    protocol::{Destination, Initiator, Record, Responder, Session},
    trust::AnyIdentity,
};

/// The most bytes of one allocation: inputs have at most 8 KiB.
const MOST: usize = 256 << 10;

/// libFuzzer sees allocations only with a sanitizer, which needs a compiler that is not stable.
struct Limited;

// SAFETY: all of it is the system's.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Panics, which ends the run as a finding. A panic may read all of the debug information.
fn check(size: usize) {
    assert!(size <= MOST || std::thread::panicking(), "one allocation of {size} bytes");
}

// ---- the vectors ----

pub static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../vectors/protocol-v1.json")).unwrap());

/// The handshake of this name.
pub fn handshake(name: &str) -> &'static Value {
    VECTORS["handshakes"].as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap()
}

pub fn bytes<const N: usize>(hex: &Value) -> [u8; N] {
    const_hex::decode_to_array(hex.as_str().unwrap()).unwrap()
}

/// Of a side of a handshake.
pub fn config(vector: &Value, side: &str) -> Config {
    let identity = Identity::from_seed(&bytes(&vector[side]["identity_secret"]));
    let suite = |name: &Value| match name.as_str().unwrap() {
        "x25519-aes256gcm-sha256" => SuiteId::Aes256Gcm,
        _ => SuiteId::ChaCha20Poly1305,
    };
    let suites: Vec<_> = vector["hello"]["suites"].as_array().unwrap().iter().map(suite).collect();
    let policy = match vector["reply"]["signatures"].as_str().unwrap() {
        "every" => Signatures::Every,
        _ => Signatures::Handshake,
    };
    let mut limits = Limits::default();
    // There the clock is a real one.
    limits.handshakes_per_second = u32::MAX;
    limits.signed_errors_per_second = u32::MAX;
    let config = Config::new(identity, AnyIdentity).hybrid(Hybrid::Off).signatures(policy).limits(limits);
    config.suites(&suites).unwrap()
}

/// The initiator of a vector, and its hello.
pub fn start(vector: &Value) -> (Bytes, Initiator) {
    let audience = vector["hello"].get("audience").map(|id| NodeId::from_bytes(bytes(id)));
    let target = vector["hello"]["extensions"].get("target").map(|target| target.as_str().unwrap());
    let destination = Destination { audience, target, ..Destination::default() };
    let mut script = Script(bytes::<32>(&vector["initiator"]["ephemeral_secret"]).to_vec());
    Initiator::start(&config(vector, "initiator"), destination, &mut script).unwrap()
}

/// The responder of a vector, about to draw what it drew there.
pub fn responder(vector: &Value) -> (Responder, Script) {
    let secret = bytes::<32>(&vector["responder"]["ephemeral_secret"]);
    let session = bytes::<16>(&vector["reply"]["session"]);
    (Responder::new(config(vector, "responder")), Script([&secret[..], &session].concat()))
}

/// Both sides' sessions, those of the vector, and the responder.
pub fn sessions(vector: &Value, now: Instant) -> (Session, Session, Responder) {
    let (hello, initiator) = start(vector);
    let (responder, mut script) = responder(vector);
    let (reply, session) = responder.accept(&hello, |_| true, || true, &mut script, now).unwrap();
    (initiator.finish(&reply, now).unwrap(), session, responder)
}

/// Randomness that is known beforehand; zeros behind it.
pub struct Script(pub Vec<u8>);

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.resize(self.0.len().max(out.len()), 1);
        out.copy_from_slice(&self.0[..out.len()]);
        self.0.drain(..out.len());
        Ok(())
    }
}

impl TryCryptoRng for Script {}

/// One frame without a length before it, in the encoding that its first byte shows.
pub fn parse(frame: &[u8]) -> Result<Record, Error> {
    let encoding = if frame.first() == Some(&b'{') { Encoding::Json } else { Encoding::Binary };
    Record::parse(BytesMut::from(frame), encoding, 1 << 20)
}

// ---- shells ----

/// Runs to the end. The clock stands, and leaps where everybody waits for it.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub const MINUTE: Duration = Duration::from_secs(60);

/// A body in pieces, with a break before each; one that is cut ends in an error.
pub struct Pieces {
    pub pieces: Vec<Bytes>,
    pub cut: bool,
    rests: bool,
}

impl Pieces {
    pub fn new(mut pieces: Vec<Bytes>, cut: bool) -> Self {
        pieces.reverse();
        Pieces { pieces, cut, rests: false }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.rests = !self.rests;
        if self.rests {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match self.pieces.pop() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if std::mem::take(&mut self.cut) => Some(Err(io::ErrorKind::ConnectionReset.into())),
            None => None,
        })
    }
}
