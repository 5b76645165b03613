//! One message, sealed and sent, and its answer, opened.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::timeout;
use tower_service::Service;

use super::{Options, Shared};
use crate::{
    below::Below,
    config::{Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    kept::Handshake,
    not_sent::is_unsent,
    protocol::{self, Awaiting, Destination, Final, Initiator, Plaintext},
    rpc::{
        BoxError,
        frame::{self, Kind},
        note_session, now, rng,
        shape::Shape,
    },
    signing::Signing,
    telemetry,
};

pub(super) async fn exchange<S>(
    shared: Arc<Shared>,
    mut below: Below<S>,
    message: Bytes,
    span: tracing::Span,
) -> Result<Option<Bytes>>
where
    S: Service<Bytes, Response = Option<Bytes>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let options = &shared.options;
    // First of all, since not even a hello goes for a message that cannot go.
    if message.len() > PORTABLE_RECORD {
        return Err(Error::Misuse { reason: "a message has at most 1 MiB" });
    }
    let wants_answer = Shape::of(&message).wants_answer();
    let (mut renewed, mut repeated) = (false, false);
    loop {
        let session = match shared.kept.ready() {
            Some(session) => session,
            None => shared.kept.renewed(&mut below, |own| handshake(options.clone(), own)).await?,
        };
        note_session(&span, session.id(), session.peer());
        let timeout = options.config.bounds().request;
        let plaintext = Plaintext::from(&message[..]);
        let began = now();
        let unsent = session.draft_request(plaintext, Final::Yes, timeout, false, &mut rng(), began);
        let unsent = match unsent {
            // It ended between the two lines above; nothing has been sent.
            Err(error) if error.code() == Some(Code::UnknownSession) && !renewed => {
                renewed = true;
                shared.kept.forget(&session);
                continue;
            }
            unsent => unsent?,
        };
        let proof = Signing::new(&options.config, unsent.leaf()).await?;
        let sent = unsent.write(proof.as_ref());
        let sending = Sending { options, awaiting: &sent.response, wants_answer };
        match sending.send(&mut below, sent.bytes).await {
            Err(Error::Refused { code: Code::UnknownSession, signed: true }) => {
                shared.kept.forget(&session);
                if repeated || !(options.repeatable)(&message) {
                    return Err(Error::OutcomeUnknown);
                }
                repeated = true;
            }
            // Anybody may have said this, so nothing is sent again; but the next call makes a new session, lest
            // one that the far side has lost, and has no time to sign for, be tried until it expires.
            Err(error @ Error::Refused { code: Code::UnknownSession, signed: false }) => {
                shared.kept.forget(&session);
                return Err(error);
            }
            // Late there, and not here: the reply of the handshake was held back on its way, so the far side counts from
            // long before, and would as long as the session lasts.
            Err(error @ Error::Refused { code: Code::Expired, .. })
                if now().saturating_duration_since(began) < timeout =>
            {
                shared.kept.forget(&session);
                return Err(error);
            }
            // It may have been served, and nobody knows. Not `Transport`, which a layer above may take for leave to
            // repeat it.
            Err(error @ Error::Transport(_)) if !is_unsent(&error) && !(options.repeatable)(&message) => {
                tracing::debug!(target: telemetry::TARGET, reason = ?error, "no answer");
                return Err(Error::OutcomeUnknown);
            }
            answer => return answer,
        }
    }
}

/// Makes a session: one round trip, in its own call of the service below.
fn handshake<S>(options: Options, mut below: Below<S>) -> Handshake
where
    S: Service<Bytes, Response = Option<Bytes>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let limit = options.config.bounds().handshake;
    let shake = async move {
        let config = &options.config;
        let destination = Destination {
            origin: options.origin.as_deref(),
            audience: options.audience,
            target: options.target.as_deref(),
        };
        let (hello, initiator) = Initiator::start(config, destination, &mut rng())?;
        let answer = below.ready_and_call(hello).await?;
        let arrived = now();
        let reply = answer.ok_or(Error::new(Code::Truncated, "no answer to a hello"))?;
        match Kind::of(&reply) {
            Kind::Handshake => {
                let session = initiator.finish(&reply, arrived).inspect_err(|error| count(config, error))?;
                tracing::debug!(
                    target: telemetry::TARGET,
                    session = %session.id(), peer = %session.peer(), suite = session.suite().as_str(),
                    "session made"
                );
                Ok(Arc::new(session))
            }
            Kind::Error => Err(protocol::refusal(&reply)),
            Kind::Record(_) | Kind::Unsealed | Kind::Unknown => Err(NO_FRAME),
        }
    };
    async move {
        timeout(limit, shake).await.unwrap_or(Err(Error::TimedOut { waiting_for: "the handshake" }))
    }
    .boxed()
}

/// One sending of a message, and what comes back.
struct Sending<'a> {
    options: &'a Options,
    awaiting: &'a Awaiting,
    wants_answer: bool,
}

impl Sending<'_> {
    async fn send<S>(&self, below: &mut Below<S>, bytes: Bytes) -> Result<Option<Bytes>>
    where
        S: Service<Bytes, Response = Option<Bytes>> + Clone,
        S::Error: Into<BoxError>,
    {
        let limit = self.options.config.bounds().response;
        let waited = timeout(limit, async {
            below.ready().await?;
            match below.call(bytes.clone()).await {
                // It broke before there was an answer. The same bytes are served at most once.
                Err(first) => {
                    let second = below.ready_and_call(bytes).await;
                    self.open_second(second.map_err(|second| if is_unsent(&first) { second } else { first })?)
                }
                Ok(answer) => self.open(answer),
            }
        });
        waited.await.unwrap_or(Err(Error::TimedOut { waiting_for: "the response" }))
    }

    /// The answer to bytes that were sent twice, of which one copy was taken perhaps, and the answer lost.
    fn open_second(&self, answer: Option<Bytes>) -> Result<Option<Bytes>> {
        match self.open(answer) {
            // It had no answer to lose.
            Err(Error::Refused { code: Code::Replayed, signed: true }) if !self.wants_answer => Ok(None),
            Err(Error::Refused { code: Code::Replayed | Code::Expired, signed: true }) => {
                Err(Error::OutcomeUnknown)
            }
            opened => opened,
        }
    }

    fn open(&self, answer: Option<Bytes>) -> Result<Option<Bytes>> {
        let Some(frame) = answer else {
            return if self.wants_answer {
                Err(Error::new(Code::Truncated, "no answer to a request"))
            } else {
                Ok(None)
            };
        };
        match Kind::of(&frame) {
            Kind::Record(encoding) => {
                let opened = self.open_record(frame, encoding);
                // It has been opened, so it counts; but to what wants no answer nobody wants one.
                let opened = opened.map(|answer| self.wants_answer.then_some(answer));
                opened.inspect_err(|error| count(&self.options.config, error))
            }
            Kind::Error => Err(self.awaiting.refused(&frame)),
            Kind::Handshake | Kind::Unsealed | Kind::Unknown => Err(NO_FRAME),
        }
    }

    fn open_record(&self, frame: Bytes, encoding: Encoding) -> Result<Bytes> {
        let record = frame::record(frame, encoding, self.options.config.bounds().record)?;
        let (opened, _) = self.awaiting.open(record, now())?;
        match opened.last {
            Final::Yes => Ok(opened.plaintext),
            Final::No => Err(Error::new(Code::Truncated, "a frame whose record is not FINAL")),
        }
    }
}

/// Nothing of it is passed on.
const NO_FRAME: Error = Error::malformed("an answer that is no frame of this protocol");

/// Counts an error that reading found, where it has a code.
fn count(config: &crate::config::Config, error: &Error) {
    if let Some(code) = error.code() {
        config.telemetry().reject(code);
    }
}
