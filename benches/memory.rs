//! What a live session costs the server, counted by the allocator. `cargo bench --bench memory`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use rand_core::UnwrapErr;
use tower_seal::{
    Config, Identity,
    config::Limits,
    protocol::{Destination, Final, Initiator, Record, Responder},
    trust::AnyIdentity,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SESSIONS: usize = 2000;

/// Confirmed sessions, each of another client, with nothing else kept.
fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut limits = Limits::default();
    limits.sessions = SESSIONS;
    // Remembering hellos is bounded apart, at 64 bytes and some each.
    limits.hellos = 1;
    let server = Responder::new(Config::new(Identity::generate(), AnyIdentity).limits(limits));
    let confirm = || {
        let (rng, now) = (&mut UnwrapErr(getrandom::SysRng), Instant::now());
        let client = Config::new(Identity::generate(), AnyIdentity);
        let (hello, initiator) = Initiator::start(&client, Destination::default(), rng).unwrap();
        let (reply, session) = server.accept(&hello, |_| true, || true, rng, now).unwrap();
        server.admit(session);
        let session = std::sync::Arc::new(initiator.finish(&reply, now).unwrap());
        let timeout = std::time::Duration::from_secs(60);
        let request = session.request(&b"x"[..], Final::Yes, timeout, false, rng, now).unwrap();
        let record =
            Record::parse(request.bytes[..].into(), tower_seal::config::Encoding::Binary, 1 << 20).unwrap();
        server.open(record, now).unwrap();
    };
    confirm();
    let before = dhat::HeapStats::get().curr_bytes;
    (0..SESSIONS - 1).for_each(|_| confirm());
    let after = dhat::HeapStats::get().curr_bytes;
    println!("{} bytes of heap for a live session on the server", (after - before) / (SESSIONS - 1));
}
