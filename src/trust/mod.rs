//! WHOM: which node ids a side talks to.
//!
//! A [`Trust`] policy judges a [`Candidate`] before any public-key operation is spent on it. What comes
//! out of a handshake and a first record is [`Verified`], a proof that only the protocol can make.
//!
//! ```
//! use tower_seal::{Identity, trust::{Candidate, Pinned, Trust, Verdict}};
//!
//! let friend = Identity::generate().node_id();
//! let trust = Pinned::new([friend]);
//! assert_eq!(trust.judge(&Candidate::new(friend)), Verdict::Accept);
//!
//! trust.remove(friend);  // its sessions end with its next record
//! assert_ne!(trust.judge(&Candidate::new(friend)), Verdict::Accept);
//! ```

mod any_identity;
mod first_use;
mod known_peers;
mod pinned;
mod pre_shared;
mod verified;

use std::sync::Arc;

use crate::identity::NodeId;

pub use any_identity::AnyIdentity;
pub use first_use::{FirstUse, PeerChanged};
pub use known_peers::{KnownPeer, KnownPeers};
pub use pinned::Pinned;
pub use pre_shared::PreShared;
pub use verified::{SessionId, Verified};

/// A trust policy. Called on the message path, so it must not block.
pub trait Trust: Send + Sync + 'static {
    /// Whether to talk to this node. Asked before its signature is checked, so a yes proves nothing yet,
    /// and asked again for each live session when [`revision`](Trust::revision) has moved.
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict;

    /// The node that an initiator expects at `origin`, sent as the hello's `audience`.
    fn expects(&self, origin: Option<&str>) -> Option<NodeId> {
        let _ = origin;
        None
    }

    /// The candidate has proved, by a first record, that it is there and holds its key. A policy that
    /// learns may record it now, for this origin, and not before.
    fn confirmed(&self, candidate: &Candidate<'_>) {
        let _ = candidate;
    }

    /// Whether the accepted ids are a closed list that strangers must not be able to probe: then a bad
    /// signature of a listed id is answered like an unlisted id.
    fn conceals(&self) -> bool {
        true
    }

    /// Changes whenever trust in some node may have been withdrawn.
    fn revision(&self) -> u64 {
        0
    }

    /// As responder: the pre-shared secret with this id (PROTOCOL section 8), if it is known.
    fn pre_shared(&self, id: &[u8]) -> Option<PreShared> {
        let _ = id;
        None
    }

    /// As initiator: the pre-shared secret to offer at `origin`, if there is one.
    fn offers(&self, origin: Option<&str>) -> Option<PreShared> {
        let _ = origin;
        None
    }
}

impl<T: Trust + ?Sized> Trust for Arc<T> {
    fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        (**self).judge(candidate)
    }

    fn expects(&self, origin: Option<&str>) -> Option<NodeId> {
        (**self).expects(origin)
    }

    fn confirmed(&self, candidate: &Candidate<'_>) {
        (**self).confirmed(candidate);
    }

    fn conceals(&self) -> bool {
        (**self).conceals()
    }

    fn revision(&self) -> u64 {
        (**self).revision()
    }

    fn pre_shared(&self, id: &[u8]) -> Option<PreShared> {
        (**self).pre_shared(id)
    }

    fn offers(&self, origin: Option<&str>) -> Option<PreShared> {
        (**self).offers(origin)
    }
}

/// What a [`Trust`] policy says of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; the signatures decide.
    Accept,
    /// Stop with `untrusted_peer`, for this reason.
    Refuse(&'static str),
}

/// A node that asks to be talked to, or that answered.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// The id that it claims.
    pub node_id: NodeId,
    /// For an initiator: where it answered, as `scheme://authority`.
    pub origin: Option<&'a str>,
    /// The id of the pre-shared secret that the hello named, if it named one.
    pub pre_shared: Option<&'a [u8]>,
}

impl<'a> Candidate<'a> {
    /// A candidate of which only the id is known.
    #[must_use]
    pub fn new(node_id: NodeId) -> Self {
        Candidate { node_id, origin: None, pre_shared: None }
    }

    /// The same at an origin.
    #[must_use]
    pub fn at(self, origin: &'a str) -> Self {
        Candidate { origin: Some(origin), ..self }
    }
}
