//! Trust on first use: what is learned and when, what is refused and in which words, and the file it is in.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod changed;
mod file;
mod learning;
mod many;
#[path = "../support/recorder.rs"]
mod recorder;

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rand_core::UnwrapErr;
use tempfile::TempDir;
use tower_seal::{
    Config, Error, NodeId,
    config::{Encoding, Hybrid},
    error::Code,
    protocol::{Destination, Final, Initiator, Record, Responder, Session},
    trust::{AnyIdentity, FirstUse, KnownPeers},
};

const HERE: &str = "https://example.com";
const THERE: &str = "https://example.com:8443";

/// Far more than any writing takes.
const LONG: Duration = Duration::from_secs(60);

/// A file of known peers, and one process that uses it.
struct World {
    folder: TempDir,
    trust: Arc<FirstUse>,
    client: Config,
}

impl World {
    fn new() -> Self {
        World::with("")
    }

    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("known-peers"), text).unwrap();
        World::at(folder)
    }

    fn at(folder: TempDir) -> Self {
        let peers = KnownPeers::open(folder.path().join("known-peers")).unwrap();
        let trust = Arc::new(FirstUse::new(peers).unwrap());
        let client = Config::new(recorder::new_identity(), trust.clone()).hybrid(Hybrid::Off);
        World { folder, trust, client }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("known-peers")
    }

    /// The file as another process sees it.
    fn elsewhere(&self) -> KnownPeers {
        KnownPeers::open(self.path()).unwrap()
    }

    fn written(&self, origin: &str) -> Option<NodeId> {
        self.trust.flush(LONG);
        self.elsewhere().node(origin).unwrap()
    }

    fn hello(&self, origin: &str) -> (Bytes, Initiator) {
        let destination = Destination { origin: Some(origin), ..Destination::default() };
        Initiator::start(&self.client, destination, &mut UnwrapErr(getrandom::SysRng)).unwrap()
    }

    fn connect(&self, origin: &str, server: &Responder) -> Result<Arc<Session>, Error> {
        let (hello, initiator) = self.hello(origin);
        // An error goes over the wire as a code, unsigned.
        let reply = reply(server, &hello).map_err(|error| match error.code() {
            Some(code) => Error::Refused { code, signed: false },
            None => error,
        })?;
        initiator.finish(&reply, Instant::now()).map(Arc::new)
    }

    /// A connection, and a whole exchange over it.
    fn meet(&self, origin: &str, server: &Responder) -> Result<Arc<Session>, Error> {
        let session = self.connect(origin, server)?;
        exchange(&session, server)?;
        Ok(session)
    }

    fn is_alive(&self, session: &Session) -> bool {
        session.takes_streams(Instant::now())
    }
}

fn server() -> Responder {
    Responder::new(Config::new(recorder::new_identity(), AnyIdentity).hybrid(Hybrid::Off))
}

fn id(server: &Responder) -> NodeId {
    server.config().node_id()
}

fn reply(server: &Responder, hello: &[u8]) -> Result<Bytes, Error> {
    let rng = &mut UnwrapErr(getrandom::SysRng);
    let (reply, session) = server.accept(hello, |_| true, || true, rng, Instant::now())?;
    server.admit(session);
    Ok(reply)
}

fn exchange(session: &Arc<Session>, server: &Responder) -> Result<(), Error> {
    let (rng, now) = (&mut UnwrapErr(getrandom::SysRng), Instant::now());
    let request = session.request(&b"ping"[..], Final::Yes, Duration::from_secs(60), false, rng, now)?;
    let (offered, _) = server.open(parse(&request.bytes)?, now).map_err(|(error, _)| error)?;
    let response = offered.claim(false, rng, now)?.response.seal(&b"pong"[..], Final::Yes, now)?;
    request.response.open(parse(&response)?, now).map(|_| ())
}

fn parse(bytes: &[u8]) -> Result<Record, Error> {
    Record::parse(BytesMut::from(bytes), Encoding::Binary, 1 << 20)
}

#[track_caller]
fn code<T>(result: Result<T, Error>) -> Code {
    let error = result.err().expect("was accepted");
    recorder::look_at_error(&error);
    error.code().unwrap()
}

/// A node id that nobody has the key of.
fn node(number: u16) -> NodeId {
    let mut bytes = [0xab; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}
