//! Who I am, whom I trust, and within which limits.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    error::{Error, Result},
    identity::{Identity, NodeId, Roots, Signature},
    suite::{SuiteId, ed25519::Signer},
    telemetry::Telemetry,
    trust::{Pinned, Trust},
};

pub use crate::suite::Backend;

/// The configuration of a side: immutable, cheap to clone, shared by all layers made from it.
///
/// ```
/// use tower_seal::{Config, Identity, config::Signatures, trust::Pinned};
///
/// # let server = Identity::generate().node_id();
/// let config = Config::new(Identity::generate(), Pinned::new([server]))
///     .signatures(Signatures::Handshake);
/// ```
#[derive(Clone)]
pub struct Config {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    identity: Arc<Identity>,
    /// The identity's key as the backend wants it.
    signer: Arc<dyn Signer>,
    trust: Arc<dyn Trust>,
    backend: Backend,
    suites: Vec<SuiteId>,
    signatures: Signatures,
    encoding: Encoding,
    hybrid: Hybrid,
    padding: Padding,
    limits: Limits,
    plaintext: bool,
    accept_plaintext: bool,
    telemetry: Arc<Telemetry>,
    roots: Arc<Roots>,
}

impl Config {
    /// A side that is `identity` and talks to whom `trust` accepts.
    ///
    /// Both may be given in an [`Arc`], to keep a handle, for instance to withdraw trust later.
    #[must_use]
    pub fn new(identity: impl Into<Arc<Identity>>, trust: impl Trust) -> Self {
        let (identity, backend) = (identity.into(), Backend::default());
        Config {
            inner: Arc::new(Inner {
                signer: backend.signer(identity.seed()),
                identity,
                trust: Arc::new(trust),
                backend,
                suites: vec![SuiteId::Aes256Gcm, SuiteId::ChaCha20Poly1305],
                signatures: Signatures::Every,
                encoding: Encoding::Binary,
                hybrid: Hybrid::Offer,
                padding: Padding::None,
                limits: Limits::default(),
                plaintext: false,
                accept_plaintext: false,
                telemetry: Arc::default(),
                roots: Arc::default(),
            }),
        }
    }

    /// **No protection at all**, for tests: layers become transparent, and say so in a warning.
    ///
    /// The identity inside is random and trusts nobody, so that code which overlooks this mode fails
    /// closed.
    #[must_use]
    pub fn plaintext() -> Self {
        let mut config = Self::new(Identity::generate(), Pinned::default());
        Arc::make_mut(&mut config.inner).plaintext = true;
        config
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    /// Which records are signed. Default: [`Signatures::Every`].
    #[must_use]
    pub fn signatures(self, signatures: Signatures) -> Self {
        self.with(|inner| inner.signatures = signatures)
    }

    /// The encoding that an initiator sends in. Both are always understood. Default: binary.
    #[must_use]
    pub fn encoding(self, encoding: Encoding) -> Self {
        self.with(|inner| inner.encoding = encoding)
    }

    /// Cipher suites, most preferred first. Default: AES-256-GCM, then ChaCha20-Poly1305.
    ///
    /// Errors: `Misuse` for an empty list, which could agree with nobody.
    pub fn suites(self, suites: &[SuiteId]) -> Result<Self> {
        if suites.is_empty() {
            return Err(Error::Misuse { reason: "a side without cipher suites can talk to nobody" });
        }
        Ok(self.with(|inner| inner.suites = suites.to_vec()))
    }

    /// The library that computes. Default: [`Backend::RUST_CRYPTO`]; the feature `aws-lc-rs` has another.
    #[must_use]
    pub fn backend(self, backend: Backend) -> Self {
        self.with(|inner| {
            inner.signer = backend.signer(inner.identity.seed());
            inner.backend = backend;
        })
    }

    /// Whether ML-KEM-768 joins X25519. Default: [`Hybrid::Offer`].
    #[must_use]
    pub fn hybrid(self, hybrid: Hybrid) -> Self {
        self.with(|inner| inner.hybrid = hybrid)
    }

    /// Whether records are padded to hide their length. Default: [`Padding::None`].
    #[must_use]
    pub fn padding(self, padding: Padding) -> Self {
        self.with(|inner| inner.padding = padding)
    }

    /// Sizes, times and rates. A [`Limits::record`] below 1 MiB counts as 1 MiB.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        let record = limits.record.max(PORTABLE_RECORD);
        self.with(|inner| inner.limits = Limits { record, ..limits })
    }

    /// Lets a server serve requests that are **not sealed at all** beside sealed ones, for a transition.
    /// They carry no [`Verified`](crate::trust::Verified); each is counted, each address is logged once.
    #[must_use]
    pub fn dangerously_accept_plaintext(self) -> Self {
        self.with(|inner| inner.accept_plaintext = true)
    }

    /// This side's node id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.identity.node_id()
    }

    /// The counters of everything made from this config.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.inner.telemetry
    }

    /// Whether this is [`Config::plaintext`].
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        self.inner.plaintext
    }

    /// Whether requests that are not sealed are served too.
    #[must_use]
    pub fn accepts_plaintext(&self) -> bool {
        self.inner.accept_plaintext
    }
}

/// What the rooms above read.
impl Config {
    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Errors: `busy` where the backend gets no memory.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Signature> {
        self.inner.signer.sign(message).map(Signature)
    }

    pub(crate) fn chosen_backend(&self) -> Backend {
        self.inner.backend
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.inner.roots
    }

    pub(crate) fn trust(&self) -> &dyn Trust {
        &*self.inner.trust
    }

    pub(crate) fn offered_suites(&self) -> &[SuiteId] {
        &self.inner.suites
    }

    pub(crate) fn signature_policy(&self) -> Signatures {
        self.inner.signatures
    }

    pub(crate) fn hybrid_policy(&self) -> Hybrid {
        self.inner.hybrid
    }

    pub(crate) fn padding_policy(&self) -> Padding {
        self.inner.padding
    }

    pub(crate) fn chosen_encoding(&self) -> Encoding {
        self.inner.encoding
    }

    pub(crate) fn bounds(&self) -> &Limits {
        &self.inner.limits
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("identity", &self.inner.identity)
            .field("backend", &self.inner.backend)
            .field("suites", &self.inner.suites)
            .field("signatures", &self.inner.signatures)
            .field("encoding", &self.inner.encoding)
            .field("hybrid", &self.inner.hybrid)
            .field("limits", &self.inner.limits)
            .field("plaintext", &self.inner.plaintext)
            .finish_non_exhaustive()
    }
}

/// Which records of a session are signed (PROTOCOL section 5). The stricter wish of the two sides counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// Every record: each can be shown to a third party as said by its sender.
    Every,
    /// Those that prove that both sides are there; the others rest on the AEAD alone.
    Handshake,
}

/// How records are written (PROTOCOL sections 4.1 and 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Compact; 30 to 151 bytes around the plaintext, and 32 more for each sibling of a batch.
    Binary,
    /// One JSON object with hex strings, for middles that insist on JSON; about twice the size.
    Json,
}

/// Whether ML-KEM-768 (FIPS 203) joins X25519, so that recorded traffic stays safe from later quantum
/// computers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hybrid {
    /// Not offered, not taken.
    Off,
    /// Used where the other side takes part.
    Offer,
    /// Insisted on: without it there is no session (`unsupported_suite`).
    Require,
}

/// Padding of plaintexts before encryption (PROTOCOL section 4, the PADDED flag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// None: the length of each plaintext can be seen.
    None,
    /// Up to the next multiple of this many bytes.
    Multiple(std::num::NonZeroU16),
}

/// Sizes in bytes, times, rates and numbers of things, each with its default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of plaintext in one record taken from a peer. 1 MiB, and never less, since every receiver must take
    /// that; more lets strangers have as much of a first record kept until it is whole. What is sent is cut, or
    /// refused, at 1 MiB.
    pub record: usize,
    /// Bytes of content in one message of any number of records. No limit.
    pub body: u64,
    /// Bytes of the inner method, URL or status, and header fields together. 64 KiB.
    pub head: usize,
    /// How long a handshake, and the arrival of a request's first record, may take. 10 s.
    pub handshake: Duration,
    /// How long after it was made a request may still begin to be served. 60 s.
    pub request: Duration,
    /// How long an initiator waits for the head of a response. 10 min.
    pub response: Duration,
    /// How long a sealed body may rest in the middle of a record, or a request body between two; and how long the
    /// far side of a two-way connection may take to read what waits to be sent, which is up to a message. 5 min.
    pub stall: Duration,
    /// How long after its handshake a session takes new streams; whole seconds. 1 h.
    pub session: Duration,
    /// How long a session may rest unused. 15 min; an initiator makes a new one after half of it.
    pub idle: Duration,
    /// Confirmed sessions of a responder, all peers together; the least recently used goes first. 10,000.
    pub sessions: usize,
    /// Confirmed sessions of one peer. 64.
    pub sessions_per_peer: usize,
    /// Sessions that wait for their first record, all peers together; the oldest goes first. 4,096.
    pub provisional: usize,
    /// Hellos remembered for an hour, so that a repeated one is refused. 65,536.
    pub hellos: usize,
    /// Two-way connections whose handshake is not finished, after which further ones get `busy`, 64 of them at a
    /// time, or are dropped. 1,024.
    pub unfinished: usize,
    /// How long a two-way connection may carry no message either way. 24 h, which is also as long as it may last.
    pub duplex_idle: Duration,
    /// How long a WebSocket peer may be silent before it is pinged. 30 s.
    pub ping: Duration,
    /// How long after a ping a WebSocket peer may stay silent; it answers while it waits for messages. 2 min.
    pub pong: Duration,
    /// Handshakes begun in a second, all peers together, after which hellos get `busy`. 1,000.
    pub handshakes_per_second: u32,
    /// Errors signed in a second; further ones go unsigned. 200.
    pub signed_errors_per_second: u32,
    /// Calls of ours on one two-way connection that wait for an answer, and incoming messages there that wait
    /// to be served. 1,024.
    pub in_flight: usize,
    /// Bytes of incoming messages that wait to be served on one two-way connection. 16 MiB.
    pub waiting_bytes: usize,
    /// Incoming messages that are served at once on one two-way connection. 128.
    pub serving: usize,
    /// Records that are ready at the same time, of all sessions of one identity, that are signed together: 1 to 256, of
    /// which one two-way connection gives at most 32, or 32 KiB, or one longer.
    /// 256; with 1 each has a signature of its own, which is costly, and no path. Of configs that share an identity, a
    /// record that waits may be joined by those of another with a higher limit. Above 1, a record lets others that are
    /// ready have a turn, as tokio's `yield_now` does, unless it is expected to stay alone: so, like that, it may wait
    /// for ever in a foreign executor's `block_on` that blocks a worker of tokio.
    pub signed_together: usize,
    /// Records after which a sender takes the next key. 2^24, the most that the protocol allows.
    pub rekey_records: u32,
    /// Bytes of plaintext after which a sender takes the next key. 2^36, the most that the protocol allows.
    pub rekey_bytes: u64,
}

/// Bytes of plaintext that every receiver takes in one record, and so the most that is sent in one.
pub const PORTABLE_RECORD: usize = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            record: PORTABLE_RECORD,
            body: u64::MAX,
            head: 64 << 10,
            handshake: Duration::from_secs(10),
            request: Duration::from_secs(60),
            response: Duration::from_secs(600),
            stall: Duration::from_secs(300),
            session: Duration::from_secs(3600),
            idle: Duration::from_secs(900),
            sessions: 10_000,
            sessions_per_peer: 64,
            provisional: 4096,
            hellos: 65_536,
            unfinished: 1024,
            duplex_idle: Duration::from_secs(24 * 3600),
            ping: Duration::from_secs(30),
            pong: Duration::from_secs(120),
            handshakes_per_second: 1000,
            signed_errors_per_second: 200,
            in_flight: 1024,
            waiting_bytes: 16 << 20,
            serving: 128,
            signed_together: 256,
            rekey_records: 1 << 24,
            rekey_bytes: 1 << 36,
        }
    }
}
