//! The proof that a caller is who it says.

use std::{fmt, time::Instant};

use crate::identity::NodeId;

/// The 16 random bytes that name a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        SessionId(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// A caller whose signature over this session has been verified and whom the trust policy accepts.
///
/// It can be had only from the protocol. The HTTP layer puts it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    node_id: NodeId,
    session: SessionId,
    since: Instant,
}

impl Verified {
    pub(crate) fn new(node_id: NodeId, session: SessionId, since: Instant) -> Self {
        Verified { node_id, session, since }
    }

    /// Who it is.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The session that it speaks in. It lasts an hour by default and is not a login.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// When that session was made.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }
}
