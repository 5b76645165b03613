//! A stream of records in one direction: strict counters, a FINAL flag, a key for each epoch (PROTOCOL
//! sections 3 and 4). [`Sealer`] is its sending end, [`Opener`] its receiving end.

mod draft;
mod opener;
mod sealer;

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;

use super::{
    batch::LeafContext,
    keys::{Direction, Epoch},
    record::{Nonce, Opening},
    session::Session,
};
use crate::{
    config::Signatures,
    error::Result,
    suite::{TAG, hash::sha256},
};

pub(super) use draft::sign_alone;
pub(crate) use draft::{Draft, sign};
pub(super) use opener::OpenedInPlace;
pub use opener::{Opened, Opener};
pub use sealer::Sealer;

/// Whether a record is the last of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Final {
    /// More records follow.
    No,
    /// Nothing follows.
    Yes,
}

/// What both ends of a stream have in common.
pub(super) struct Stream {
    pub(super) session: Arc<Session>,
    direction: Direction,
    id: u64,
    opening: Option<Opening>,
    /// In the response of an exchange that may be signed: the request's first record.
    request: Option<Arc<FirstRecord>>,
    began: Instant,
}

impl Stream {
    pub(super) fn duplex(session: Arc<Session>, direction: Direction, began: Instant) -> Self {
        Stream { session, direction, id: 0, opening: None, request: None, began }
    }

    pub(super) fn request(session: Arc<Session>, opening: Opening, began: Instant) -> Self {
        Stream {
            session,
            direction: Direction::Initiator,
            id: opening.stream,
            opening: Some(opening),
            request: None,
            began,
        }
    }

    pub(super) fn response(
        session: Arc<Session>,
        opening: Opening,
        request: Option<Arc<FirstRecord>>,
        began: Instant,
    ) -> Self {
        Stream {
            session,
            direction: Direction::Responder,
            id: opening.stream,
            opening: Some(opening),
            request,
            began,
        }
    }

    fn first_epoch(&self) -> Result<Box<Epoch>> {
        let agreed = &self.session.agreed;
        let opening = self.opening.map(|opening| opening.bytes());
        let opening = opening.as_ref().map_or(&[][..], |bytes| bytes);
        agreed.keys.stream(agreed.config.chosen_backend(), agreed.suite, self.direction, self.id, opening)
    }

    fn is_request(&self) -> bool {
        self.id != 0 && self.direction == Direction::Initiator
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Encrypts once more what the first record of this stream had under its seal, in place. Returns the tag.
    pub(super) fn seal_again(&self, nonce: Nonce, text: &mut [u8]) -> Result<[u8; TAG]> {
        let first = self.first_epoch()?;
        // A sender may take the second epoch at once.
        let mut epoch = if nonce.epoch() == 0 { first } else { first.next()? };
        epoch.seal(&nonce.0, text)
    }

    pub(super) fn leaf(&self, nonce: Nonce, ciphertext: &[u8]) -> [u8; 32] {
        let opening = self.opening.map(|opening| opening.bytes());
        LeafContext {
            th: &self.session.agreed.th,
            direction: self.direction,
            stream: self.id,
            opening: opening.as_ref().map_or(&[], |bytes| bytes),
            request_leaf: self.request.as_ref().map_or(&[], |request| request.leaf()),
        }
        .leaf(&nonce.0, ciphertext)
    }
}

/// The first record of a request, of which the response's signatures and signed errors speak.
pub(super) struct FirstRecord {
    th: [u8; 32],
    id: u64,
    opening: [u8; 24],
    nonce: Nonce,
    /// On the initiator's side, where it is in memory anyway; so leaf and hash cost nothing until needed.
    ciphertext: Bytes,
    leaf: OnceLock<[u8; 32]>,
}

impl FirstRecord {
    /// Of a responder, which has no ciphertext any more, but the leaf; `None` where it is not going to sign.
    pub(super) fn received(stream: &Stream, nonce: Nonce, leaf: [u8; 32]) -> Option<Self> {
        let every = stream.session.signatures() == Signatures::Every;
        every.then(|| FirstRecord::new(stream, nonce, Bytes::new(), Some(leaf)))
    }

    /// Of an initiator, whose ciphertext is [added](Self::sent) when it is written; `leaf` if it has been computed
    /// already.
    pub(super) fn drafted(stream: &Stream, draft: &Draft) -> Self {
        FirstRecord::new(stream, draft.nonce(), Bytes::new(), draft.leaf())
    }

    pub(super) fn sent(self, ciphertext: Bytes) -> Self {
        FirstRecord { ciphertext, ..self }
    }

    fn new(stream: &Stream, nonce: Nonce, ciphertext: Bytes, leaf: Option<[u8; 32]>) -> Self {
        FirstRecord {
            th: stream.session.agreed.th,
            id: stream.id,
            opening: stream.opening.map_or([0; 24], |opening| opening.bytes()),
            nonce,
            ciphertext,
            leaf: leaf.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    pub(super) fn leaf(&self) -> &[u8; 32] {
        self.leaf.get_or_init(|| {
            LeafContext {
                th: &self.th,
                direction: Direction::Initiator,
                stream: self.id,
                opening: &self.opening,
                request_leaf: &[],
            }
            .leaf(&self.nonce.0, &self.ciphertext)
        })
    }

    pub(super) fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// SHA-256 of nonce and ciphertext, which a signed error names.
    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(&[&self.nonce.0, &self.ciphertext])
    }
}

/// For the test vectors.
#[cfg(test)]
impl FirstRecord {
    /// That of an initiator that sent `record`.
    pub(super) fn of(stream: &Stream, record: &super::Record) -> Self {
        FirstRecord::new(stream, record.nonce, Bytes::copy_from_slice(record.ciphertext()), None)
    }

    /// One of which only the leaf is known.
    pub(super) fn with_leaf(session: &Session, leaf: [u8; 32]) -> Self {
        FirstRecord {
            th: session.agreed.th,
            id: 0,
            opening: [0; 24],
            nonce: Nonce::new(false, false, 0, 0),
            ciphertext: Bytes::new(),
            leaf: OnceLock::from(leaf),
        }
    }
}
