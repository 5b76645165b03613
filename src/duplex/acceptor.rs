//! The responder's side.

use std::{
    fmt,
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
};

use futures_util::future::{Either, select};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::timeout_at;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    Frame, Sealed, Transport,
    connect::note_plaintext,
    handshake::{Ends, LATE, dismiss, next, next_record, open_first, send, send_first, text},
    note_session, now,
    places::{Place, Places, Provisional},
    rng,
};
use crate::{
    config::Config,
    error::{Code, Error, Result},
    protocol::{MessageKind, Responder},
    telemetry::{self, Metric},
};

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
    places: Places,
    provisional: Provisional,
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
            places: Places::new(limits),
            provisional: Provisional::default(),
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

    /// Takes a place among the unfinished handshakes, from which on time counts.
    ///
    /// Errors: `busy`, counted, where the connection is to be dropped without a word.
    pub(super) fn place(&self) -> Result<Place> {
        self.shared.places.take().ok_or_else(|| self.count(BUSY))
    }

    /// Counts a connection that is refused before its hello.
    pub(super) fn count(&self, error: Error) -> Error {
        if let Some(code) = error.code() {
            self.config().telemetry().reject(code);
        }
        error
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
    accept_in(acceptor.place()?, transport, acceptor, target).await
}

/// In a place that has been taken before, for instance before an upgrade from HTTP.
pub(super) async fn accept_in<T: Transport>(
    place: Place,
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
        let hands = shake(&mut transport, acceptor, target, &place, &span);
        let late = if place.is_one_too_many { BUSY } else { LATE };
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
    place: &Place,
    span: &Span,
) -> Result<Hands> {
    if place.is_one_too_many {
        // Before its hello the initiator of a byte pipe has not said how it frames messages.
        let _ = next(transport).await;
        return Err(BUSY);
    }
    let Shared { responder, handshakes, provisional, .. } = &*acceptor.shared;
    let config = responder.config();
    let frame = next(transport).await?;
    if let Frame::Text(message) = &frame
        && MessageKind::is_unsealed(message)
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
    let mut turn = provisional.enter(session.peer()).await;
    let (mut sealer, mut opener) = session.into_duplex(false, now())?;
    let confirmed = async {
        send(transport, Frame::Text(reply)).await?;
        let frame = next_record(transport).await?;
        let encoding = frame.encoding();
        open_first(frame, &mut opener, config)?;
        sealer.speak(encoding);
        send_first(transport, &mut sealer, encoding).await?;
        Ok(encoding)
    };
    let encoding = match select(pin!(confirmed), pin!(turn.displaced())).await {
        Either::Left((encoding, _)) => encoding?,
        Either::Right(_) => return Err(BUSY),
    };
    Ok(Hands::Shaken(Box::new(((sealer, encoding), opener))))
}
