//! The serving side: [`UnsealLayer`] opens messages and seals their answers.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    fault::{Fault, error_answer, refusal},
    frame::{self, Kind},
    message::Message,
    note_session, now, rng,
};
use crate::{
    config::{Config, Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    protocol::{Claimed, Draft, Final, Responder, Sealer, Subject},
    signing::Signing,
    sweeper::Sweeper,
    telemetry::{self, Metric},
};

/// Opens what comes to the service below it, and seals what that answers.
///
/// A `Service<Bytes, Response = Option<Bytes>>` of frames, around a `Service<Message, Response =
/// Option<Bytes>>`, which gets each message with its [`caller`](Message::caller). Hellos are answered here.
/// What is refused is answered by an error; what the service answers with `None` is answered by nothing. An
/// answer above 1 MiB, which no frame can carry, becomes a JSON-RPC error with code 413; that to a batch, an
/// array of them, and that to a request whose own id is too long for it, one with the id `null`. An error of the
/// service is passed on to the transport, and the far side gets nothing of it.
#[derive(Clone)]
pub struct UnsealLayer {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    target: Option<String>,
    responder: Arc<Responder>,
    handshakes: DefaultDirectRateLimiter,
    signed_errors: DefaultDirectRateLimiter,
    sweeper: Sweeper,
    warned: AtomicBool,
}

impl UnsealLayer {
    /// A layer with sessions of its own, shared by all services made from it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::from_options(config, None)
    }

    fn from_options(config: Config, target: Option<String>) -> Self {
        let limiter =
            |rate| RateLimiter::direct(Quota::per_second(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN)));
        let limits = config.bounds();
        let shared = Shared {
            target,
            handshakes: limiter(limits.handshakes_per_second),
            signed_errors: limiter(limits.signed_errors_per_second),
            responder: Arc::new(Responder::new(config.clone())),
            sweeper: Sweeper::default(),
            warned: AtomicBool::new(false),
            config,
        };
        UnsealLayer { shared: Arc::new(shared) }
    }

    /// The name of the queue or service that is served here: a hello for another, or for none, is
    /// `path_mismatch`. All are taken, by default.
    #[must_use]
    pub fn target(self, name: &str) -> Self {
        Self::from_options(self.shared.config.clone(), Some(name.to_owned()))
    }
}

impl<S> Layer<S> for UnsealLayer {
    type Service = Unseal<S>;

    fn layer(&self, inner: S) -> Unseal<S> {
        Unseal { inner, shared: self.shared.clone() }
    }
}

/// The service that [`UnsealLayer`] makes.
#[derive(Clone)]
pub struct Unseal<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Bytes> for Unseal<S>
where
    S: Service<Message, Response = Option<Bytes>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Option<Bytes>;
    type Error = S::Error;
    type Future = BoxFuture<'static, std::result::Result<Option<Bytes>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Bytes) -> Self::Future {
        // The clone has not been polled ready, so it stays, and the ready one goes.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let span = tracing::debug_span!(target: telemetry::TARGET, telemetry::UNSEAL_SPAN, session = Empty, peer = Empty);
        serve(self.shared.clone(), ready, frame, span.clone()).instrument(span).boxed()
    }
}

async fn serve<S>(
    shared: Arc<Shared>,
    mut inner: S,
    frame: Bytes,
    span: Span,
) -> std::result::Result<Option<Bytes>, S::Error>
where
    S: Service<Message, Response = Option<Bytes>>,
{
    let kind = Kind::of(&frame);
    let encoding = match kind {
        _ if shared.config.is_plaintext() => {
            shared.note_plaintext();
            return inner.call(Message::new(frame)).await;
        }
        Kind::Handshake => return Ok(Some(shared.handshake(&frame, &span))),
        Kind::Record(encoding) => encoding,
        Kind::Error | Kind::Unsealed | Kind::Unknown if shared.config.accepts_plaintext() => {
            shared.note_plaintext();
            return inner.call(Message::new(frame)).await;
        }
        Kind::Unsealed => {
            let error = Error::new(Code::EncryptionRequired, "plaintext is not taken here: seal it");
            return Ok(Some(shared.refuse(&error, None)));
        }
        Kind::Error | Kind::Unknown => {
            return Ok(Some(shared.refuse(&Error::malformed("no frame of this protocol"), None)));
        }
    };
    let (claimed, subject) = match shared.open(frame, encoding) {
        Ok(opened) => opened,
        Err(refused) => return Ok(Some(refused)),
    };
    note_session(&span, claimed.caller.session(), claimed.caller.node_id());
    let message = Message::new(claimed.plaintext);
    let question = message.bytes.clone();
    let Some(answer) = inner.call(message.from_caller(claimed.caller)).await? else {
        return Ok(None);
    };
    let sealed = match seal(claimed.response, &question, &answer) {
        Ok(draft) => {
            let proof = Signing::new(&shared.config, draft.leaf()).await;
            proof.map(|proof| draft.write(proof.as_ref()))
        }
        Err(error) => Err(error),
    };
    Ok(Some(sealed.unwrap_or_else(|error| shared.refuse(&error, Some(&subject)))))
}

fn seal(mut sealer: Sealer, question: &[u8], answer: &[u8]) -> Result<Draft> {
    if answer.len() <= PORTABLE_RECORD {
        return sealer.draft(answer.into(), Final::Yes, now());
    }
    // An id may be as long as a message, and the error that repeats it longer.
    let too_large = refusal(question, Fault::TooLarge).filter(|error| error.len() <= PORTABLE_RECORD);
    let too_large = too_large.unwrap_or_else(|| error_answer(None, Fault::TooLarge));
    sealer.draft(too_large[..].into(), Final::Yes, now())
}

impl Shared {
    fn handshake(&self, hello: &[u8], span: &Span) -> Bytes {
        let is_right = |target: Option<&str>| self.target.is_none() || target == self.target.as_deref();
        let budget = || self.handshakes.check().is_ok();
        match self.responder.accept(hello, is_right, budget, &mut rng(), now()) {
            Ok((reply, session)) => {
                tracing::debug!(
                    target: telemetry::TARGET,
                    session = %session.id(), peer = %session.peer(), suite = session.suite().as_str(),
                    "session made, not confirmed yet"
                );
                note_session(span, session.id(), session.peer());
                self.responder.admit(session);
                self.sweeper.keep_sweeping(&self.responder);
                reply
            }
            Err(error) => self.refuse(&error, None),
        }
    }

    /// Reads, opens, claims, in this order. Errors: as they are answered.
    fn open(&self, frame: Bytes, encoding: Encoding) -> Result<(Claimed, Subject), Bytes> {
        let record = frame::record(frame, encoding, self.config.bounds().record)
            .map_err(|error| self.refuse(&error, None))?;
        let (offered, subject) = self
            .responder
            .open(record, now())
            .map_err(|(error, subject)| self.refuse(&error, subject.as_ref()))?;
        let claimed = if offered.last() == Final::Yes {
            offered.claim(false, &mut rng(), now())
        } else {
            Err(Error::new(Code::Truncated, "a frame whose record is not FINAL"))
        };
        match claimed {
            Ok(claimed) => Ok((claimed, subject)),
            Err(error) => Err(self.refuse(&error, Some(&subject))),
        }
    }

    /// An error, signed where there is a subject and the rate allows.
    fn refuse(&self, error: &Error, subject: Option<&Subject>) -> Bytes {
        let code = error.code().unwrap_or(Code::Malformed);
        tracing::debug!(target: telemetry::TARGET, code = code.as_str(), reason = %error, "refused");
        let subject = subject.filter(|_| self.signed_errors.check().is_ok());
        self.responder.refuse(error, subject)
    }

    fn note_plaintext(&self) {
        self.config.telemetry().count(Metric::PlaintextRequests);
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: telemetry::TARGET, "serving messages without any protection");
        }
    }
}

impl fmt::Debug for UnsealLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsealLayer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Unseal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unseal").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
