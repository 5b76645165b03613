//! What a live session costs each side, counted by the allocator over 10,000 of them.
//! `cargo bench --bench memory --features aws-lc-rs`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use peak_alloc::PeakAlloc;
use rand_core::UnwrapErr;
use tower_seal::{
    Config, Identity,
    config::{Backend, Encoding, Limits},
    protocol::{Destination, Final, Initiator, Record, Responder, Session},
    trust::AnyIdentity,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const SESSIONS: usize = 10_000;

fn main() {
    println!("bytes of heap, each of {SESSIONS}\n\n| what | client | server |\n|---|---|---|");
    for &backend in Backend::ALL {
        let (client, server) = measure(backend);
        println!("| session, confirmed and idle, {backend:?} | {client} | {server} |");
    }
}

/// Bytes for a session of the client and of the server: what becomes free without them. Each is of another client,
/// whose identity and config are not counted.
fn measure(backend: Backend) -> (usize, usize) {
    let mut limits = Limits::default();
    limits.sessions = SESSIONS;
    // Remembering hellos is bounded apart, at 64 bytes and some each.
    limits.hellos = 1;
    let config = || Config::new(Identity::generate(), AnyIdentity).backend(backend);
    let server = Responder::new(config().limits(limits));
    let clients: Vec<_> = (0..SESSIONS).map(|_| config()).collect();
    let sessions: Vec<_> = clients.iter().map(|client| confirmed(client, &server)).collect();
    (freed_by(sessions), freed_by(server))
}

/// A session through which a request has gone.
fn confirmed(client: &Config, server: &Responder) -> Arc<Session> {
    let (rng, now) = (&mut UnwrapErr(getrandom::SysRng), Instant::now());
    let (hello, initiator) = Initiator::start(client, Destination::default(), rng).unwrap();
    let (reply, session) = server.accept(&hello, |_| true, || true, rng, now).unwrap();
    server.admit(session);
    let session = Arc::new(initiator.finish(&reply, now).unwrap());
    let request = session.request(&b"x"[..], Final::Yes, Duration::from_secs(60), false, rng, now).unwrap();
    let record = Record::parse(request.bytes[..].into(), Encoding::Binary, 1 << 20).unwrap();
    let (offered, _) = server.open(record, now).unwrap();
    offered.claim(false, rng, now).unwrap();
    session
}

fn freed_by<T>(sessions: T) -> usize {
    let before = HEAP.current_usage();
    drop(sessions);
    (before - HEAP.current_usage()) / SESSIONS
}
