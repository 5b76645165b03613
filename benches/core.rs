//! The core in memory: a handshake, and sealing and opening a record, by each backend that is built in.
//! `cargo bench --bench core --features aws-lc-rs`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand_core::UnwrapErr;
use tower_seal::{
    Config, Identity,
    config::{Backend, Encoding, Hybrid, Signatures},
    protocol::{Destination, Final, Initiator, Opener, Record, Responder, Sealer, Session},
    trust::AnyIdentity,
};

const LIMIT: usize = 1 << 20;

fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// A session of both sides. The responder trusts anybody and remembers few hellos.
fn handshake(client: &Config, server: &Responder) -> (Session, Session) {
    let now = Instant::now();
    let (hello, initiator) = Initiator::start(client, Destination::default(), &mut rng()).unwrap();
    let (reply, theirs) = server.accept(&hello, |_| true, || true, &mut rng(), now).unwrap();
    (initiator.finish(&reply, now).unwrap(), theirs)
}

fn config(backend: Backend) -> Config {
    Config::new(Identity::generate(), AnyIdentity).backend(backend)
}

fn handshakes(criterion: &mut Criterion) {
    for &backend in Backend::ALL {
        let mut group = criterion.benchmark_group(format!("{backend:?}: handshake, both sides"));
        for (name, hybrid) in [("x25519", Hybrid::Off), ("x25519 + ml-kem-768", Hybrid::Offer)] {
            let client = config(backend).hybrid(hybrid);
            let server = Responder::new(config(backend));
            group.bench_function(name, |bencher| bencher.iter(|| handshake(&client, &server)));
        }
        group.finish();
    }
}

/// One direction of a duplex connection, past its confirmation, so that unsigned means unsigned.
fn stream(backend: Backend, signatures: Signatures, encoding: Encoding) -> (Sealer, Opener) {
    let config = || config(backend).signatures(signatures).encoding(encoding);
    let (ours, theirs) = handshake(&config(), &Responder::new(config()));
    let now = Instant::now();
    let (mut sealer, mut back) = ours.into_duplex(false, now).unwrap();
    let (mut answer, mut opener) = theirs.into_duplex(false, now).unwrap();
    let parse = |frame: &[u8]| Record::parse(frame.into(), encoding, LIMIT).unwrap();
    let frame = sealer.seal(&b""[..], Final::No, now).unwrap();
    opener.open(parse(&frame), now).unwrap();
    let frame = answer.seal(&b""[..], Final::No, now).unwrap();
    back.open(parse(&frame), now).unwrap();
    (sealer, opener)
}

/// Each backend, unsigned and signed.
fn runs() -> impl Iterator<Item = (Backend, (&'static str, Signatures))> {
    let policies = [("unsigned", Signatures::Handshake), ("signed", Signatures::Every)];
    Backend::ALL.iter().flat_map(move |&backend| policies.map(|policy| (backend, policy)))
}

fn records(criterion: &mut Criterion) {
    for (backend, (name, signatures)) in runs() {
        let mut group = criterion.benchmark_group(format!("{backend:?}: copy, seal and open, {name}"));
        for encoding in [Encoding::Binary, Encoding::Json] {
            let (mut sealer, mut opener) = stream(backend, signatures, encoding);
            let now = Instant::now();
            for size in [64, 1 << 10, 64 << 10] {
                let plaintext = vec![b'x'; size];
                group.throughput(Throughput::Bytes(size as u64));
                group.bench_function(BenchmarkId::new(format!("{encoding:?}"), size), |bencher| {
                    bencher.iter(|| {
                        let frame = sealer.seal(black_box(&plaintext[..]), Final::No, now).unwrap();
                        let frame = frame.try_into_mut().unwrap_or_else(|frame| BytesMut::from(&frame[..]));
                        let record = Record::parse(frame, encoding, LIMIT).unwrap();
                        black_box(opener.open(record, now).unwrap())
                    });
                });
            }
        }
        group.finish();
    }
}

/// A request and its response: two streams of one record each, with their keys.
fn exchanges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange of 1 KiB each way, both sides");
    for (backend, (name, signatures)) in runs() {
        let config = || config(backend).signatures(signatures);
        let server = Responder::new(config());
        let (session, theirs) = handshake(&config(), &server);
        server.admit(theirs);
        let session = Arc::new(session);
        let text = [b'x'; 1024];
        let parse = |frame: &[u8]| Record::parse(frame.into(), Encoding::Binary, LIMIT).unwrap();
        group.bench_function(format!("{backend:?}: {name}"), |bencher| {
            bencher.iter(|| {
                let now = Instant::now();
                let timeout = Duration::from_secs(60);
                let request =
                    session.request(&text[..], Final::Yes, timeout, false, &mut rng(), now).unwrap();
                let (offered, _) = server.open(parse(&request.bytes), now).unwrap();
                let mut claimed = offered.claim(false, &mut rng(), now).unwrap();
                let response = claimed.response.seal(&claimed.plaintext[..], Final::Yes, now).unwrap();
                request.response.open(parse(&response), now).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, handshakes, records, exchanges);
criterion_main!(benches);
