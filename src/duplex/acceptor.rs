//! The responder's side.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    Frame, Sealed, Transport,
    connect::note_plaintext,
    handshake::{Ends, LATE, dismiss, next, next_record, open_first, send, send_first, text},
    note_session, now, rng,
};
use crate::{
    config::Config,
    error::{Code, Error, Result},
    protocol::{MessageKind, Responder},
    telemetry::{self, Metric},
};

/// How long a connection that is too many may take to say hello, so that it can be told so.
const COURTESY: Duration = Duration::from_secs(1);

/// No handshake takes longer, whatever its limit.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

const BUSY: Error = Error::new(Code::Busy, "too many handshakes are unfinished");

/// What a server needs to accept connections: its config, the hellos that it has seen, and how many handshakes it
/// does at once and in a second. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

struct Shared {
    responder: Responder,
    prefix: String,
    handshakes: DefaultDirectRateLimiter,
    places: Semaphore,
    warned: AtomicBool,
}

impl Acceptor {
    /// A server that is, and trusts, what `config` says.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_prefix(config, String::new())
    }

    fn with_prefix(config: Config, prefix: String) -> Self {
        let limits = config.bounds();
        let rate = NonZeroU32::new(limits.handshakes_per_second).unwrap_or(NonZeroU32::MIN);
        let shared = Shared {
            handshakes: RateLimiter::direct(Quota::per_second(rate)),
            places: Semaphore::new(limits.unfinished.clamp(1, Semaphore::MAX_PERMITS)),
            responder: Responder::new(config),
            prefix,
            warned: AtomicBool::new(false),
        };
        Acceptor { shared: Arc::new(shared) }
    }

    /// The prefix, such as `/tools`, that a gateway in front strips from paths. It is stripped from a hello's
    /// target before that is compared; a target without it is `path_mismatch`.
    ///
    /// Errors: `Misuse` for a prefix that does not begin with `/`, or ends with one.
    pub fn stripped_prefix(self, prefix: &str) -> Result<Self> {
        if !prefix.starts_with('/') || prefix.ends_with('/') {
            return Err(Error::Misuse { reason: "a prefix begins with a slash and does not end with one" });
        }
        Ok(Self::with_prefix(self.config().clone(), prefix.to_owned()))
    }

    /// Its config.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.shared.responder.config()
    }

    /// Takes a place among the unfinished handshakes, if there is one, from which on time counts.
    pub(super) fn place(&self) -> Place<'_> {
        let permit = self.shared.places.try_acquire().ok();
        let limit = self.config().bounds().handshake;
        let limit = if permit.is_some() { limit.min(LONGEST) } else { limit.min(COURTESY) };
        Place { permit, until: Instant::now() + limit }
    }

    pub(super) fn note_plaintext(&self) {
        note_plaintext(self.config(), &self.shared.warned, "accepting connections without any protection");
    }

    /// Byte for byte, after the prefix (section 7). An empty path is `/`.
    fn is_right(&self, target: Option<&str>, path: &str) -> bool {
        let path = if path.is_empty() { "/" } else { path };
        let stripped = target.and_then(|target| target.strip_prefix(&self.shared.prefix));
        match stripped {
            Some("") if !self.shared.prefix.is_empty() => path == "/",
            Some(stripped) => stripped == path && path.starts_with('/') && !path.starts_with("//"),
            None => false,
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("config", self.config()).finish_non_exhaustive()
    }
}

/// One of the unfinished handshakes, or one too many.
pub(super) struct Place<'a> {
    permit: Option<SemaphorePermit<'a>>,
    pub(super) until: Instant,
}

/// Shakes hands over `transport`, as the side that the connection came to.
///
/// `target` is where it came to, such as the path of a WebSocket request without its query: the hello has to name
/// the same (`path_mismatch`). Transports that know of no such thing, such as byte pipes, give `None`.
///
/// Errors: those of the handshake (PROTOCOL section 2.3), `busy`, `timeout`, `Transport`. The peer is told, for
/// which up to 2 s may pass.
pub async fn accept<T: Transport>(
    transport: T,
    acceptor: &Acceptor,
    target: Option<&str>,
) -> Result<Sealed<T>> {
    accept_in(acceptor.place(), transport, acceptor, target).await
}

/// In a place that has been taken before, for instance before an upgrade from HTTP.
pub(super) async fn accept_in<T: Transport>(
    place: Place<'_>,
    mut transport: T,
    acceptor: &Acceptor,
    target: Option<&str>,
) -> Result<Sealed<T>> {
    let config = acceptor.config();
    if config.is_plaintext() {
        acceptor.note_plaintext();
        return Ok(Sealed::plain(transport, config, None));
    }
    let span = tracing::debug_span!(target: telemetry::TARGET, telemetry::ACCEPT_SPAN, session = Empty, peer = Empty);
    async {
        let hands = shake(&mut transport, acceptor, target, place.permit.is_some(), &span);
        let late = if place.permit.is_some() { LATE } else { BUSY };
        match timeout_at(place.until, hands).await.unwrap_or(Err(late)) {
            Ok(Hands::Shaken(ends)) => {
                let (sealer, opener) = *ends;
                config.telemetry().count(Metric::DuplexHandshakes);
                tracing::debug!(target: telemetry::TARGET, "accepted");
                Ok(Sealed::new(transport, config, sealer, opener))
            }
            Ok(Hands::Plain(early)) => {
                acceptor.note_plaintext();
                Ok(Sealed::plain(transport, config, Some(early)))
            }
            Err(error) => {
                dismiss(&mut transport, config, &error).await;
                Err(error)
            }
        }
    }
    .instrument(span.clone())
    .await
}

enum Hands {
    Shaken(Box<Ends>),
    /// The peer does not seal, which is taken here.
    Plain(Frame),
}

async fn shake<T: Transport>(
    transport: &mut T,
    acceptor: &Acceptor,
    target: Option<&str>,
    has_place: bool,
    span: &Span,
) -> Result<Hands> {
    if !has_place {
        // Before its hello the initiator of a byte pipe has not said how it frames messages.
        let _ = next(transport).await;
        return Err(BUSY);
    }
    let Shared { responder, handshakes, .. } = &*acceptor.shared;
    let config = responder.config();
    let frame = next(transport).await?;
    if let Frame::Text(message) = &frame
        && MessageKind::of(message) == Some(MessageKind::JsonRpc)
    {
        if config.accepts_plaintext() {
            return Ok(Hands::Plain(frame));
        }
        return Err(Error::new(Code::EncryptionRequired, "plaintext is not taken here: seal it"));
    }
    let hello = text(frame)?;
    let right = |named: Option<&str>| target.is_none_or(|path| acceptor.is_right(named, path));
    let budget = || handshakes.check().is_ok();
    let (reply, session) = responder.accept(&hello, right, budget, &mut rng(), now())?;
    note_session(span, session.id(), session.peer());
    let (mut sealer, mut opener) = session.into_duplex(false, now())?;
    send(transport, Frame::Text(reply)).await?;
    let frame = next_record(transport).await?;
    let encoding = frame.encoding();
    open_first(frame, &mut opener, config)?;
    sealer.speak(encoding);
    send_first(transport, &mut sealer, encoding).await?;
    Ok(Hands::Shaken(Box::new(((sealer, encoding), opener))))
}
