//! What to tell people when another node is at an origin than the one known there.

use std::fmt;

use crate::identity::NodeId;

/// Another node than the known one is at an origin, or somebody says so.
///
/// `Display` is a message for people: what happened, what it may mean, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerChanged {
    /// Where.
    pub origin: String,
    /// Who is known there.
    pub expected: NodeId,
    /// Whether another node answered. Otherwise whoever answered refused to be the known one, unsigned.
    pub answered: bool,
    /// Which other node, where that was seen.
    pub found: Option<NodeId>,
}

impl fmt::Display for PeerChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerChanged { origin, expected, .. } = self;
        write!(f, "the node at {origin} has changed: node {} is known there, but ", expected.short())?;
        match self.found {
            Some(found) => write!(f, "node {} answered", found.short())?,
            None if self.answered => write!(f, "another node answered")?,
            None => write!(f, "whoever answered says that it is another one")?,
        }
        write!(
            f,
            ". Either its key was renewed, or somebody in between answers in its place. Ask its operator for \
             the node id that `tower-seal id` shows there, and run `tower-seal peers trust {origin} NODE_ID`; \
             or `tower-seal peers forget {origin}`, to trust whoever answers next."
        )
    }
}
