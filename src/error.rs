//! What can go wrong, sorted by who must act.
//!
//! [`Code`] is the vocabulary of the wire (PROTOCOL section 9); [`Error`] is what a caller gets. Every
//! error that came from, or goes to, a peer has a [`Code`]; the text beside it is for people, is fixed
//! at compile time, and so can hold neither keys nor plaintext nor a peer's bytes.

use std::{error::Error as StdError, fmt, sync::Arc};

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal;)*) => {
        /// An error code of the wire protocol (PROTOCOL section 9).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code, in the order of the protocol's table.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The name on the wire, such as `replayed`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)*
                }
            }

            /// The status of the outer HTTP response that carries this code.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Code::$variant => $status,)*
                }
            }
        }
    };
}

codes! {
    /// Not a message of this protocol, or a reply that chose what was not offered.
    Malformed = "malformed", 400;
    /// No protocol version in common.
    UnsupportedVersion = "unsupported_version", 400;
    /// No cipher suite in common.
    UnsupportedSuite = "unsupported_suite", 400;
    /// Inner and outer path, authority or target differ.
    PathMismatch = "path_mismatch", 400;
    /// The handshake was not finished in time.
    Timeout = "timeout", 400;
    /// A signature does not verify, is missing where required, or is another sender's.
    InvalidSignature = "invalid_signature", 403;
    /// The AEAD rejects the record.
    DecryptionFailed = "decryption_failed", 403;
    /// A plaintext message where the policy takes none.
    EncryptionRequired = "encryption_required", 403;
    /// The trust policy rejects that node id.
    UntrustedPeer = "untrusted_peer", 403;
    /// The hello is for another node.
    WrongAudience = "wrong_audience", 403;
    /// The session never was, was evicted, or has expired.
    UnknownSession = "unknown_session", 409;
    /// The request came after its deadline.
    Expired = "expired", 409;
    /// Seen before.
    Replayed = "replayed", 409;
    /// A record is missing before this one.
    OutOfOrder = "out_of_order", 409;
    /// A stream ended without its FINAL record.
    Truncated = "truncated", 409;
    /// Over the configured limit.
    TooLarge = "too_large", 413;
    /// A table is full or a rate exceeded.
    Busy = "busy", 503;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Code {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == name)
            .ok_or(Error::Misbehaved { code: Code::Malformed, reason: "an unknown error code" })
    }
}

/// Everything that can go wrong, by who must act.
///
/// `Display` says this level only; [`source`](StdError::source) has the rest.
//
// It has a destructor, which would run for every check that holds if errors were made in advance, as for `ok_or`. On the
// path of every message they are made where a check fails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The application called this crate in a way that cannot work.
    Misuse {
        /// What to do instead.
        reason: &'static str,
    },
    /// Both sides are honest but share no version, suite or encryption policy: configure one of them.
    Incompatible {
        /// The code of section 9.
        code: Code,
        /// What did not fit.
        reason: &'static str,
    },
    /// The peer, or somebody in between, broke the protocol.
    Misbehaved {
        /// The code of section 9.
        code: Code,
        /// What was wrong with the message.
        reason: &'static str,
    },
    /// The peer is not one that the trust policy accepts, or wants somebody else.
    Untrusted {
        /// The code of section 9.
        code: Code,
        /// Why it is not trusted.
        reason: &'static str,
    },
    /// The AEAD rejected a record: it was changed on its way, or sealed with other keys.
    Decryption,
    /// A session, deadline or table is used up here: nothing is wrong with the peer.
    Unavailable {
        /// The code of section 9.
        code: Code,
        /// What has run out.
        reason: &'static str,
    },
    /// The far side refused, and said why.
    Refused {
        /// The code it gave.
        code: Code,
        /// Whether its signature over the refusal fits the request. Unsigned ones may come from anybody.
        signed: bool,
    },
    /// The request may or may not have been served, and repeating it could do harm.
    ///
    /// The session is gone; the next call makes a new one and works.
    OutcomeUnknown,
    /// An answer that came out of no record. Nothing of it is passed on.
    Unsealed {
        /// The status of the outer response.
        status: u16,
    },
    /// Something took longer than its limit here.
    TimedOut {
        /// What was waited for.
        waiting_for: &'static str,
    },
    /// The transport below failed.
    Transport(Arc<dyn StdError + Send + Sync>),
    /// A file of keys could not be used.
    KeyFile {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
        /// The operating system's reason, if it gave one.
        source: Option<Arc<std::io::Error>>,
    },
    /// The file of known peers could not be used.
    PeersFile {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong, on which line, and what to do.
        reason: Box<str>,
        /// The operating system's reason, if it gave one.
        source: Option<Arc<std::io::Error>>,
    },
}

impl Error {
    /// The variant that belongs to `code`.
    pub(crate) const fn new(code: Code, reason: &'static str) -> Self {
        match code {
            Code::UnsupportedVersion | Code::UnsupportedSuite | Code::EncryptionRequired => {
                Error::Incompatible { code, reason }
            }
            Code::UntrustedPeer | Code::WrongAudience => Error::Untrusted { code, reason },
            Code::DecryptionFailed => Error::Decryption,
            Code::UnknownSession | Code::Expired | Code::Timeout | Code::Busy => {
                Error::Unavailable { code, reason }
            }
            Code::Malformed
            | Code::PathMismatch
            | Code::InvalidSignature
            | Code::Replayed
            | Code::OutOfOrder
            | Code::Truncated
            | Code::TooLarge => Error::Misbehaved { code, reason },
        }
    }

    pub(crate) const fn malformed(reason: &'static str) -> Self {
        Error::new(Code::Malformed, reason)
    }

    /// The code of section 9 that this error has on the wire, where it has one.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Error::Incompatible { code, .. }
            | Error::Misbehaved { code, .. }
            | Error::Untrusted { code, .. }
            | Error::Unavailable { code, .. }
            | Error::Refused { code, .. } => Some(*code),
            Error::Decryption => Some(Code::DecryptionFailed),
            Error::Misuse { .. }
            | Error::OutcomeUnknown
            | Error::Unsealed { .. }
            | Error::TimedOut { .. }
            | Error::Transport(_)
            | Error::KeyFile { .. }
            | Error::PeersFile { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Misuse { reason } => write!(f, "this call cannot work: {reason}"),
            Error::Incompatible { code, reason }
            | Error::Misbehaved { code, reason }
            | Error::Untrusted { code, reason }
            | Error::Unavailable { code, reason } => write!(f, "{code}: {reason}"),
            Error::Decryption => {
                write!(f, "decryption_failed: the record was changed or is sealed with other keys")
            }
            Error::Refused { code, signed: true } => write!(f, "the far side refused: {code}"),
            Error::Refused { code, signed: false } => {
                write!(f, "somebody on the way, perhaps the far side, refused: {code}")
            }
            Error::OutcomeUnknown => {
                write!(f, "outcome_unknown: the request may have been served; it was not sent again")
            }
            Error::Unsealed { status } => {
                write!(f, "the answer (status {status}) was not sealed, so nothing of it is passed on")
            }
            Error::TimedOut { waiting_for } => write!(f, "timed out waiting for {waiting_for}"),
            Error::Transport(_) => write!(f, "the transport failed"),
            Error::KeyFile { path, reason, .. } => write!(f, "{}: {reason}", path.display()),
            Error::PeersFile { path, reason, .. } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Transport(source) => Some(&**source),
            Error::KeyFile { source: Some(source), .. } | Error::PeersFile { source: Some(source), .. } => {
                Some(&**source)
            }
            _ => None,
        }
    }
}
