//! What a service below a client layer may say of its errors.

use std::{error::Error as StdError, fmt, io};

use crate::error::Error;

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of a service that knows that nothing of the request has left it: it could not connect, say, or is
/// too busy to.
///
/// A request that breaks in any other way may have been served, and whoever called it gets
/// [`Error::OutcomeUnknown`], unless repeating it is harmless. An error of `poll_ready` counts as this one, and
/// `http::Reqwest` says it by itself; for others, wrap the error: `tower::ServiceBuilder::map_err`.
#[derive(Debug)]
pub struct NotSent(BoxError);

impl NotSent {
    /// Says so of `error`.
    #[must_use]
    pub fn new(error: impl Into<BoxError>) -> Self {
        NotSent(error.into())
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was sent")
    }
}

impl StdError for NotSent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// Whether it is certain that nothing has left. A connection that was refused, nobody can have written to.
pub(crate) fn is_unsent(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        let io = error.downcast_ref::<io::Error>();
        if error.is::<NotSent>() || io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = error.source();
    }
    false
}
