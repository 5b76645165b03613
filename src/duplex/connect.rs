//! The initiator's side.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::timeout;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    Frame, Sealed, Transport,
    handshake::{Ends, LATE, dismiss, next, next_record, open_first, send, send_first, text},
    note_session, now, rng,
};
use crate::{
    config::Config,
    error::Result,
    protocol::{Destination, Initiator},
    telemetry::{self, Metric},
};

/// Shakes hands over `transport`, as the side that began the connection.
///
/// What comes back is confirmed by both sides. The destination's `target` is what the transport was opened with,
/// such as the path of a WebSocket URL; byte pipes have none.
///
/// Errors: those of the handshake (PROTOCOL section 2.3), `Refused` with what the far side says, `timeout` after
/// [`Limits::handshake`](crate::config::Limits::handshake), `Transport`. The peer is told of those that are its
/// own, for which up to 2 s may pass.
pub async fn connect<T: Transport>(
    mut transport: T,
    config: &Config,
    destination: Destination<'_>,
) -> Result<Sealed<T>> {
    if config.is_plaintext() {
        static WARNED: AtomicBool = AtomicBool::new(false);
        note_plaintext(config, &WARNED, "connecting without any protection");
        return Ok(Sealed::plain(transport, config, None));
    }
    let span = tracing::debug_span!(target: telemetry::TARGET, telemetry::CONNECT_SPAN, session = Empty, peer = Empty);
    async {
        let hands = shake(&mut transport, config, destination, &span);
        match timeout(config.bounds().handshake, hands).await.unwrap_or(Err(LATE)) {
            Ok((sealer, opener)) => {
                config.telemetry().count(Metric::DuplexHandshakes);
                tracing::debug!(target: telemetry::TARGET, "connected");
                Ok(Sealed::new(transport, config, sealer, opener))
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

async fn shake<T: Transport>(
    transport: &mut T,
    config: &Config,
    destination: Destination<'_>,
    span: &Span,
) -> Result<Ends> {
    let (hello, initiator) = Initiator::start(config, destination, &mut rng())?;
    send(transport, Frame::Text(hello)).await?;
    let reply = text(next(transport).await?)?;
    let session = initiator.finish(&reply, now())?;
    note_session(span, session.id(), session.peer());
    let (mut sealer, mut opener) = session.into_duplex(false, now())?;
    let encoding = config.chosen_encoding();
    send_first(transport, &mut sealer, encoding).await?;
    // No message before this: with a pre-shared secret (section 8) it is the peer's only proof of knowing it.
    open_first(next_record(transport).await?, &mut opener, config)?;
    Ok(((sealer, encoding), opener))
}

/// Counts a connection without protection, and warns of the first one.
pub(super) fn note_plaintext(config: &Config, warned: &AtomicBool, what: &'static str) {
    config.telemetry().count(Metric::PlaintextRequests);
    if !warned.swap(true, Ordering::Relaxed) {
        tracing::warn!(target: telemetry::TARGET, what);
    }
}
