//! How a command ends when it cannot do its work: a sentence with a remedy, and an exit status.

use std::{error::Error, fmt, process::ExitCode};

/// Exit statuses. clap ends with 2 by itself where the command line is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit {
    /// Something did not work, or a claim did not hold.
    Failed = 1,
    /// The command line cannot work.
    Usage = 2,
    /// A key file or the file of known peers cannot be used.
    File = 3,
    /// An address cannot be listened on.
    Listen = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ended.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    sentence: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Failure { exit, sentence: sentence.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for Failure {}

/// Key files and files of known peers name themselves in their errors.
impl From<tower_seal::Error> for Failure {
    fn from(error: tower_seal::Error) -> Self {
        let (exit, mut sentence) = match &error {
            tower_seal::Error::KeyFile { .. } | tower_seal::Error::PeersFile { .. } => {
                (Exit::File, error.to_string())
            }
            tower_seal::Error::Misuse { reason } => (Exit::Usage, (*reason).to_owned()),
            _ => (Exit::Failed, error.to_string()),
        };
        let mut source = error.source();
        while let Some(error) = source {
            sentence.push_str(&format!(" ({error})"));
            source = error.source();
        }
        Failure::new(exit, sentence)
    }
}

/// An error and all that caused it, for the log and for sentences.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
