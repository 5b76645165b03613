//! Trust in everybody, for servers that authorise by themselves.

use super::{Candidate, Trust, Verdict};

/// Accepts **every** node id.
///
/// Messages are still encrypted and signed, and [`Verified`](super::Verified) still names the caller
/// truly, but the caller may be anybody. It is for a responder whose application decides by itself what
/// that caller may do. For an initiator it means that whoever sits in between can answer in the server's
/// place: use [`Pinned`](super::Pinned) there.
#[derive(Clone, Copy, Debug)]
pub struct AnyIdentity;

impl Trust for AnyIdentity {
    fn judge(&self, _: &Candidate<'_>) -> Verdict {
        Verdict::Accept
    }

    fn conceals(&self) -> bool {
        false
    }
}
