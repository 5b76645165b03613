//! An error for services and bodies of tests.

use std::{error::Error as StdError, fmt};

/// Any error, as one type that is an error itself.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Box<dyn StdError + Send + Sync>);

impl Failure {
    pub(crate) fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Failure(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}
