//! Bytes in, bytes out: handshakes, exchanges and duplex streams, with every secret known.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tower_seal::{
    Config, Identity, SuiteId,
    config::{Backend, Encoding, Hybrid, Limits},
    protocol::{Destination, Final, Initiator, Record, Responder, Session},
    trust::{Candidate, PreShared, Trust, Verdict},
};

use crate::{
    NOTHING,
    freed::during,
    known::{Known, Mine, Secrets},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Trusts everybody, and shares a secret with them if it has one.
pub struct Open(pub Option<PreShared>);

impl Trust for Open {
    fn judge(&self, _: &Candidate<'_>) -> Verdict {
        Verdict::Accept
    }

    fn pre_shared(&self, _: &[u8]) -> Option<PreShared> {
        self.0.clone()
    }

    fn offers(&self, _: Option<&str>) -> Option<PreShared> {
        self.0.clone()
    }
}

/// What was said, as far as secrets follow from it.
struct Said {
    hello: Vec<u8>,
    reply: Vec<u8>,
    /// Of request and response.
    openings: [[u8; 24]; 2],
    exported: [u8; 32],
    /// Where in the randomness the ephemeral secret of the initiator is.
    at: usize,
}

/// Whose pre-shared secret is the first thing that `rng` handed out.
fn config(rng: &mut Known, backend: Backend, suite: SuiteId, hybrid: Hybrid) -> Config {
    let mut limits = Limits::default();
    limits.rekey_records = 2;
    let trust = Open(Some(PreShared::new(&[7; 16], &rng.handed(0)).unwrap()));
    Config::new(Identity::generate_from(rng), trust)
        .backend(backend)
        .suites(&[suite])
        .unwrap()
        .hybrid(hybrid)
        .limits(limits)
}

fn shake(client: &Config, server: &Responder, rng: &mut Known, now: Instant) -> (Said, Session, Session) {
    let at = rng.count();
    let (hello, initiator) = Initiator::start(client, Destination::default(), rng).unwrap();
    let (reply, far) = server.accept(&hello, |_| true, || true, rng, now).unwrap();
    let near = initiator.finish(&reply, now).unwrap();
    let mut exported = [0; 32];
    near.export(b"test", b"wiped", &mut exported).unwrap();
    let said = Said { hello: hello.to_vec(), reply: reply.to_vec(), openings: [[0; 24]; 2], exported, at };
    (said, near, far)
}

fn parse(frame: &[u8]) -> Record {
    Record::parse(BytesMut::from(frame), Encoding::Binary, 1 << 20).unwrap()
}

/// Salt and deadline of a binary record with an opening.
pub fn opening(frame: &[u8]) -> [u8; 24] {
    frame[26..50].try_into().unwrap()
}

/// One exchange of three records each way, and its second epoch; one that fails; and all of it given back.
fn exchange(rng: &mut Known, backend: Backend, suite: SuiteId, hybrid: Hybrid) -> Said {
    let now = Instant::now();
    let (client, server) = (config(rng, backend, suite, hybrid), config(rng, backend, suite, hybrid));
    let server = Responder::new(server);
    // A hello that nobody answers, and one that is answered badly.
    drop(Initiator::start(&client, Destination::default(), rng).unwrap());
    let (_, initiator) = Initiator::start(&client, Destination::default(), rng).unwrap();
    initiator.finish(b"{}", now).unwrap_err();

    let (mut said, near, far) = shake(&client, &server, rng, now);
    server.admit(far);
    let near = Arc::new(near);
    let request = near.request(&b"ping"[..], Final::No, MINUTE, false, rng, now).unwrap();
    said.openings[0] = opening(&request.bytes);

    let mut forged = request.bytes.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    server.open(parse(&forged), now).map(|_| ()).unwrap_err();

    let (offered, _) = server.open(parse(&request.bytes), now).map_err(|(error, _)| error).unwrap();
    let mut claimed = offered.claim(false, rng, now).unwrap();
    let (mut sealer, mut opener) = (request.rest.unwrap(), claimed.rest.take().unwrap());
    for last in [Final::No, Final::Yes] {
        let record = sealer.seal(&b"more"[..], last, now).unwrap();
        opener.open(parse(&record), now).unwrap();
    }
    let first = claimed.response.seal(&b"pong"[..], Final::No, now).unwrap();
    said.openings[1] = opening(&first);
    let (_, mut answer) = request.response.open(parse(&first), now).unwrap();
    for last in [Final::No, Final::Yes] {
        let record = claimed.response.seal(&b"more"[..], last, now).unwrap();
        answer.open(parse(&record), now).unwrap();
    }
    said
}

/// Four records each way, of which the first rekeys.
fn duplex(rng: &mut Known, backend: Backend, suite: SuiteId, hybrid: Hybrid) -> Said {
    let now = Instant::now();
    let (client, server) = (config(rng, backend, suite, hybrid), config(rng, backend, suite, hybrid));
    let (said, near, far) = shake(&client, &Responder::new(server), rng, now);
    let (near, far) = (near.into_duplex(false, now).unwrap(), far.into_duplex(false, now).unwrap());
    for (mut sealer, mut opener) in [(near.0, far.1), (far.0, near.1)] {
        sealer.rekey().unwrap();
        for last in [Final::No, Final::No, Final::No, Final::Yes] {
            let record = sealer.seal(&b"word"[..], last, now).unwrap();
            opener.open(parse(&record), now).unwrap();
        }
    }
    said
}

fn session(secrets: &mut Secrets, rng: &Known, said: &Said, hybrid: Hybrid) -> crate::hand::Keys {
    let kem_seed = (hybrid != Hybrid::Off).then(|| {
        let seed = [rng.handed(said.at + 1), rng.handed(said.at + 2)].concat();
        seed.try_into().unwrap()
    });
    let mine = Mine::Initiator { ephemeral: rng.handed(said.at), kem_seed };
    let keys = secrets.add_session(&said.hello, &said.reply, &mine, &rng.handed(0));
    let info = [&b"\0\0\0\x04test"[..], b"\0\0\0\x05wiped"].concat();
    assert_eq!(
        crate::hand::expand(&keys.exporter, &info),
        said.exported,
        "the keys by hand are those in use"
    );
    secrets.add_handed(rng);
    keys
}

fn every(mut test: impl FnMut(Backend, SuiteId, Hybrid)) {
    for &backend in Backend::ALL {
        for suite in [SuiteId::Aes256Gcm, SuiteId::ChaCha20Poly1305] {
            for hybrid in [Hybrid::Off, Hybrid::Require] {
                test(backend, suite, hybrid);
            }
        }
    }
}

#[test]
fn exchanges_leave_no_secret() {
    every(|backend, suite, hybrid| {
        let mut rng = Known::new(1);
        rng.hand_out();
        let (said, freed) = during(|| exchange(&mut rng, backend, suite, hybrid));
        let mut secrets = Secrets::default();
        let keys = session(&mut secrets, &rng, &said, hybrid);
        for direction in [0, 1] {
            secrets.add_stream(&keys, direction, 1, &said.openings[usize::from(direction)], 3);
        }
        assert_eq!(freed.shows(&secrets.0), NOTHING, "{backend:?} {suite:?} {hybrid:?}");
    });
}

#[test]
fn duplex_streams_leave_no_secret() {
    every(|backend, suite, hybrid| {
        let mut rng = Known::new(2);
        rng.hand_out();
        let (said, freed) = during(|| duplex(&mut rng, backend, suite, hybrid));
        let mut secrets = Secrets::default();
        let keys = session(&mut secrets, &rng, &said, hybrid);
        for direction in [0, 1] {
            secrets.add_stream(&keys, direction, 0, &[], 4);
        }
        assert_eq!(freed.shows(&secrets.0), NOTHING, "{backend:?} {suite:?} {hybrid:?}");
    });
}

/// Moves a value out of memory that is then given back, as happens to whatever a future has.
fn moved<T>(value: T) -> T {
    *std::hint::black_box(Box::new(value))
}

#[test]
fn what_is_moved_leaves_no_secret() {
    every(|backend, suite, hybrid| {
        let mut rng = Known::new(3);
        rng.hand_out();
        let (said, freed) = during(|| {
            let rng = &mut rng;
            let now = Instant::now();
            let identity = moved(Identity::generate_from(rng));
            let pre_shared = moved(PreShared::new(&[7; 16], &rng.handed(0)).unwrap());
            let server = Config::new(identity, Open(Some(pre_shared))).backend(backend).hybrid(hybrid);
            let server = moved(Responder::new(moved(server.suites(&[suite]).unwrap())));
            let client = config(rng, backend, suite, hybrid);
            let at = rng.count();
            let (hello, initiator) = Initiator::start(&client, Destination::default(), rng).unwrap();
            let (reply, far) = server.accept(&hello, |_| true, || true, rng, now).unwrap();
            let near = Arc::new(moved(moved(initiator).finish(&reply, now).unwrap()));
            server.admit(moved(far));
            let mut exported = [0; 32];
            near.export(b"test", b"wiped", &mut exported).unwrap();
            let request = moved(near.request(&b"ping"[..], Final::No, MINUTE, false, rng, now).unwrap());
            let mut sealer = moved(request.rest.unwrap());
            sealer.rekey().unwrap();
            let more = sealer.seal(&b"more"[..], Final::Yes, now).unwrap();
            drop(moved(sealer));
            let offered = server.open(parse(&request.bytes), now).map_err(|(error, _)| error).unwrap();
            let claimed = moved(moved(offered).0.claim(false, rng, now).unwrap());
            let mut opener = moved(claimed.rest.unwrap());
            opener.open(moved(parse(&more)), now).unwrap();
            drop(moved(opener));
            let answer = moved(claimed.response).seal(&b"pong"[..], Final::Yes, now).unwrap();
            let openings = [opening(&request.bytes), opening(&answer)];
            drop(moved(moved(request.response).open(parse(&answer), now).unwrap()));
            Said { hello: hello.to_vec(), reply: reply.to_vec(), openings, exported, at }
        });
        let mut secrets = Secrets::default();
        let keys = session(&mut secrets, &rng, &said, hybrid);
        for direction in [0, 1] {
            secrets.add_stream(&keys, direction, 1, &said.openings[usize::from(direction)], 2);
        }
        assert_eq!(freed.shows(&secrets.0), NOTHING, "{backend:?} {suite:?} {hybrid:?}");
    });
}
