//! A simulated pair: two sides, a network that is a `Vec<u8>`, and a clock that the test turns.

pub(crate) mod crooked;
pub(crate) mod hand;
pub(crate) mod policy;
#[path = "../../support/recorder.rs"]
pub(crate) mod recorder;
pub(crate) mod wire;

use std::{
    convert::Infallible,
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rand_core::{TryCryptoRng, TryRng};
use tower_seal::{
    Config, Error, Identity, NodeId,
    config::{Backend, Encoding, Hybrid, Limits, Padding, Signatures},
    error::Code,
    protocol::{
        Awaiting, Claimed, Destination, Final, Initiator, Offered, Opened, Opener, Record, Request,
        Responder, Sealer, Session, Subject,
    },
    telemetry::Metric,
    trust::Trust,
};

use self::{
    hand::{Hello, Peer, Reply},
    policy::Policy,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLI: Duration = Duration::from_millis(1);
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const BOTH: [Encoding; 2] = [Encoding::Binary, Encoding::Json];

/// Randomness that a failing test can repeat.
pub(crate) struct Seeded {
    seed: u64,
    count: u64,
}

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Seeded { seed, count: 0 }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let Ok(()) = self.try_fill_bytes(&mut out);
        out
    }

    pub(crate) fn identity(&mut self) -> Identity {
        recorder::identity(self.bytes())
    }
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            self.count += 1;
            let block = hand::sha256(&[&self.seed.to_be_bytes(), &self.count.to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

/// A config on the backend of this run: `on_aws_lc_rs` has the same tests as `main`.
pub(crate) fn config(identity: Identity, trust: impl Trust) -> Config {
    let name = env!("CARGO_CRATE_NAME").strip_prefix("protocol").unwrap().replace('_', "-");
    let backend = Backend::ALL.iter().find(|backend| name == format!("-{backend:?}"));
    Config::new(identity, trust).backend(backend.copied().unwrap_or_default())
}

/// The code of a refusal.
#[track_caller]
pub(crate) fn code<T>(result: Result<T, Error>) -> Code {
    match result {
        Ok(_) => panic!("was accepted"),
        Err(error) => {
            recorder::look_at_error(&error);
            error.code().unwrap_or_else(|| panic!("an error without a code: {error:?}"))
        }
    }
}

#[track_caller]
pub(crate) fn assert_misuse<T>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Misuse { .. })));
}

/// Reads one unframed record, in the encoding that its first byte shows.
pub(crate) fn parse(frame: &[u8]) -> Result<Record, Error> {
    let encoding = if frame.first() == Some(&b'{') { Encoding::Json } else { Encoding::Binary };
    Record::parse(BytesMut::from(frame), encoding, MIB)
}

pub(crate) fn open(opener: &mut Opener, frame: &[u8], now: Instant) -> Result<Opened, Error> {
    opener.open(parse(frame)?, now)
}

pub(crate) fn exported(session: &Session) -> [u8; 32] {
    let mut key = [0; 32];
    session.export(b"test", b"", &mut key).unwrap();
    key
}

/// From now on, nobody may say the keys of this session.
fn unsaid(peer: Peer) -> Peer {
    let keys = &peer.keys;
    for (name, key) in
        [("dir_0", &keys.directions[0]), ("dir_1", &keys.directions[1]), ("exporter", &keys.exporter)]
    {
        recorder::secret(name, key);
    }
    peer
}

/// The four ends of a duplex connection.
pub(crate) struct Duplex {
    pub(crate) client: (Sealer, Opener),
    pub(crate) server: (Sealer, Opener),
}

/// An initiator's config, a responder, and the world around them.
pub(crate) struct Pair {
    pub(crate) rng: Seeded,
    pub(crate) now: Instant,
    pub(crate) client: Config,
    pub(crate) server: Responder,
    pub(crate) client_trust: Arc<Policy>,
    pub(crate) server_trust: Arc<Policy>,
    /// What a new [`Hello`] by hand is signed with; the server trusts it too.
    pub(crate) hand: [u8; 32],
}

impl Pair {
    /// Without ML-KEM, for speed.
    pub(crate) fn new() -> Self {
        Pair::with(|client| client, |server| server)
    }

    pub(crate) fn with(client: impl FnOnce(Config) -> Config, server: impl FnOnce(Config) -> Config) -> Self {
        let mut rng = Seeded::new(1);
        let (initiator, responder) = (rng.identity(), rng.identity());
        let hand = rng.bytes();
        recorder::secret("the seed of the hand", &hand);
        let hand_id = hand::node_id(&hand);
        let client_trust = Arc::new(Policy::listing([responder.node_id(), NodeId::from_bytes(hand_id)]));
        let server_trust = Arc::new(Policy::listing([initiator.node_id(), NodeId::from_bytes(hand_id)]));
        let base = |identity, trust: &Arc<Policy>| config(identity, trust.clone()).hybrid(Hybrid::Off);
        Pair {
            client: client(base(initiator, &client_trust)),
            server: Responder::new(server(base(responder, &server_trust))),
            client_trust,
            server_trust,
            rng,
            now: Instant::now(),
            hand,
        }
    }

    pub(crate) fn signing(policy: Signatures) -> Self {
        Pair::with(|client| client.signatures(policy), |server| server.signatures(policy))
    }

    pub(crate) fn encoding(encoding: Encoding) -> Self {
        Pair::with(|client| client.encoding(encoding), |server| server.encoding(encoding))
    }

    pub(crate) fn server_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Pair::with(|client| client, |server| server.limits(limits))
    }

    pub(crate) fn client_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Pair::with(|client| client.limits(limits), |server| server)
    }

    pub(crate) fn padding(multiple: u16) -> Self {
        let padding = Padding::Multiple(NonZeroU16::new(multiple).unwrap());
        Pair::with(|client| client.padding(padding), |server| server.padding(padding))
    }

    pub(crate) fn turn(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn server_id(&self) -> NodeId {
        self.server.config().node_id()
    }

    pub(crate) fn server_metric(&self, metric: Metric) -> u64 {
        self.server.config().telemetry().value(metric)
    }

    pub(crate) fn client_metric(&self, metric: Metric) -> u64 {
        self.client.telemetry().value(metric)
    }

    pub(crate) fn start(&mut self) -> (Bytes, Initiator) {
        let destination = Destination { audience: Some(self.server_id()), ..Destination::default() };
        Initiator::start(&self.client, destination, &mut self.rng).unwrap()
    }

    pub(crate) fn accept(&mut self, hello: &[u8]) -> Result<(Bytes, Session), Error> {
        self.server.accept(hello, |_| true, || true, &mut self.rng, self.now)
    }

    /// Both ends of a session that nobody has admitted.
    pub(crate) fn shake(&mut self) -> (Session, Session) {
        let (hello, initiator) = self.start();
        let (reply, server) = self.accept(&hello).unwrap();
        (initiator.finish(&reply, self.now).unwrap(), server)
    }

    /// A session for exchanges; the responder has it in its table, as provisional.
    pub(crate) fn session(&mut self) -> Arc<Session> {
        let (client, server) = self.shake();
        self.server.admit(server);
        Arc::new(client)
    }

    /// The same, confirmed by exchange 1, whose response has been opened.
    pub(crate) fn confirmed(&mut self) -> Arc<Session> {
        let session = self.session();
        self.exchange(&session).unwrap();
        session
    }

    pub(crate) fn duplex(&mut self) -> Duplex {
        let (client, server) = self.shake();
        Duplex {
            client: client.into_duplex(false, self.now).unwrap(),
            server: server.into_duplex(false, self.now).unwrap(),
        }
    }

    pub(crate) fn request(&mut self, session: &Arc<Session>, text: &'static [u8], last: Final) -> Request {
        session.request(text, last, 60 * SECOND, false, &mut self.rng, self.now).unwrap()
    }

    pub(crate) fn try_offer(&self, frame: &[u8]) -> Result<(Offered, Subject), (Error, Option<Subject>)> {
        self.server.open(parse(frame).map_err(|error| (error, None))?, self.now)
    }

    pub(crate) fn offer(&self, frame: &[u8]) -> Result<Offered, Error> {
        self.try_offer(frame).map(|(offered, _)| offered).map_err(|(error, _)| error)
    }

    /// Opens and claims.
    pub(crate) fn serve(&mut self, frame: &[u8]) -> Result<Claimed, Error> {
        self.offer(frame)?.claim(false, &mut self.rng, self.now)
    }

    pub(crate) fn respond(&mut self, claimed: &mut Claimed, text: &'static [u8], last: Final) -> Bytes {
        claimed.response.seal(text, last, self.now).unwrap()
    }

    pub(crate) fn receive(&self, awaiting: &Awaiting, frame: &[u8]) -> Result<(Opened, Opener), Error> {
        awaiting.open(parse(frame)?, self.now)
    }

    /// A whole exchange in one record each way.
    pub(crate) fn exchange(&mut self, session: &Arc<Session>) -> Result<(), Error> {
        let request =
            session.request(&b"ping"[..], Final::Yes, 60 * SECOND, false, &mut self.rng, self.now)?;
        let mut claimed = self.serve(&request.bytes)?;
        assert_eq!(&claimed.plaintext[..], b"ping");
        let response = claimed.response.seal(&b"pong"[..], Final::Yes, self.now)?;
        let (opened, _) = self.receive(&request.response, &response)?;
        assert_eq!(&opened.plaintext[..], b"pong");
        Ok(())
    }

    /// A hello by hand that the server accepts.
    pub(crate) fn hello(&mut self) -> Hello {
        let secret = self.rng.bytes();
        recorder::secret("an ephemeral secret", &secret);
        Hello::new(self.hand, secret)
    }

    /// A session with the server whose initiator is the implementation by hand.
    pub(crate) fn by_hand(&mut self) -> Peer {
        let hello = self.hello();
        let (reply, session) = self.accept(&hello.message()).unwrap();
        self.server.admit(session);
        unsaid(hello.finish(&reply, &[], &[]))
    }

    /// The same, for a duplex connection: the server's ends are returned.
    pub(crate) fn duplex_by_hand(&mut self) -> (Peer, Sealer, Opener) {
        let hello = self.hello();
        let (reply, session) = self.accept(&hello.message()).unwrap();
        let (sealer, opener) = session.into_duplex(false, self.now).unwrap();
        (unsaid(hello.finish(&reply, &[], &[])), sealer, opener)
    }

    /// A hello of the client that the implementation by hand is going to answer, and its answer to be.
    pub(crate) fn reply(&mut self) -> (Initiator, Reply) {
        self.reply_to(Destination::default())
    }

    pub(crate) fn reply_to(&mut self, destination: Destination<'_>) -> (Initiator, Reply) {
        let (hello, initiator) = Initiator::start(&self.client, destination, &mut self.rng).unwrap();
        (initiator, Reply::new(&hello, self.hand, self.rng.bytes(), self.rng.bytes()))
    }

    /// A session of the client whose responder is the implementation by hand.
    pub(crate) fn with_hand(&mut self) -> (Arc<Session>, Peer) {
        let (initiator, reply) = self.reply();
        let session = initiator.finish(&reply.message(), self.now).unwrap();
        (Arc::new(session), unsaid(reply.finish(&[], &[])))
    }
}
