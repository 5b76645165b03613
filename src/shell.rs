//! What the core does without and the shells give it: a clock, randomness, spans, and the errors of transports.

use std::{error::Error as StdError, sync::Arc, time::Instant};

use rand_core::UnwrapErr;

use crate::{NodeId, error::Error, trust::SessionId};

/// The clock: tokio's, so that a test can turn it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The operating system's randomness.
pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// What whoever carries our bytes failed with.
pub(crate) fn transport(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::Transport(Arc::from(error.into()))
}

/// Writes down in `span` whom it is with.
pub(crate) fn note_session(span: &tracing::Span, session: SessionId, peer: NodeId) {
    span.record("session", tracing::field::display(session));
    span.record("peer", tracing::field::display(peer));
}
