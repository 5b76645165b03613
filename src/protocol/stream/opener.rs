//! The receiving end of a stream.

use std::{fmt, time::Instant};

use bytes::Bytes;

use super::{Final, Stream};
use crate::{
    config::Signatures,
    error::{Code, Error, Result},
    protocol::{
        batch,
        keys::{Direction, Epoch},
        record::{Nonce, Record, Signed},
        session::{Agreement, GONE, LONGEST_STREAM, Session},
    },
    telemetry::Metric,
};

/// The receiving end of a stream.
///
/// A record that fails changes nothing: the same call with the genuine record still works.
pub struct Opener {
    stream: Stream,
    epoch: Box<Epoch>,
    number: u32,
    counter: u64,
    finished: bool,
}

/// What came out of a record, every check held.
pub struct Opened {
    /// The plaintext, in the buffer in which the record came.
    pub plaintext: Bytes,
    /// Whether the stream has ended with it.
    pub last: Final,
}

/// What else is known of a record that has been opened.
pub(in crate::protocol) struct OpenedInPlace {
    pub(in crate::protocol) opened: Opened,
    /// What was under the seal, with its padding.
    pub(in crate::protocol) whole: Bytes,
    /// There if it was signed.
    pub(in crate::protocol) leaf: Option<[u8; 32]>,
}

impl Opener {
    pub(in crate::protocol) fn new(stream: Stream) -> Result<Self> {
        Ok(Opener { epoch: stream.first_epoch()?, stream, number: 0, counter: 0, finished: false })
    }

    /// Checks and decrypts the stream's next record, in place.
    ///
    /// Errors, in the order of the checks (section 5): `malformed`, `unknown_session`, `replayed`,
    /// `out_of_order`, `decryption_failed`, `invalid_signature`, and `malformed` for the padding.
    pub fn open(&mut self, mut record: Record, now: Instant) -> Result<Opened> {
        self.open_in_place(&mut record, now).map(|in_place| in_place.opened)
    }

    /// A request's first record that fails is as it was, since a signed error names its hash.
    pub(in crate::protocol) fn open_in_place(
        &mut self,
        record: &mut Record,
        now: Instant,
    ) -> Result<OpenedInPlace> {
        if self.finished {
            return Err(Error::malformed("a record after FINAL"));
        }
        let session = &self.stream.session;
        session.check_stream(self.stream.began, now)?;
        let nonce = record.nonce;
        if record.opening.is_some() != (self.stream.id != 0 && self.counter == 0) {
            return Err(Error::malformed("an opening where none belongs, or none where one belongs"));
        }
        self.check_counter(nonce)?;
        let mut next = match nonce.epoch().checked_sub(self.number) {
            Some(0) => None,
            Some(1) => Some(self.epoch.next()?),
            _ => return Err(Error::Decryption),
        };

        // The signature is over the ciphertext, which is gone after the next step.
        let leaf = record.signed.is_some().then(|| self.stream.leaf(nonce, record.ciphertext()));
        let epoch = next.as_mut().unwrap_or(&mut self.epoch);
        let Some((text, tag)) = record.text_and_tag() else {
            return Err(Error::Decryption);
        };
        if self.counter == 0 && self.stream.is_request() {
            epoch.open_or_leave(&nonce.0, text, tag)?;
        } else {
            epoch.open(&nonce.0, text, tag)?;
        }
        let length = match self.check_opened(record, leaf) {
            Ok(length) => length,
            Err(error) => {
                conceal(next.as_mut().unwrap_or(&mut self.epoch), record);
                return Err(error);
            }
        };

        if let Some(next) = next {
            self.epoch = next;
            self.number += 1;
        }
        self.counter += 1;
        self.finished = nonce.is_final();
        session.touch(now);
        if !session.confirm() {
            conceal(&mut self.epoch, record);
            return Err(GONE);
        }
        session.agreed.config.telemetry().count(Metric::RecordsOpened);
        let whole = record.take_text();
        let last = if self.finished { Final::Yes } else { Final::No };
        Ok(OpenedInPlace { opened: Opened { plaintext: whole.slice(..length), last }, whole, leaf })
    }

    /// What is checked once the AEAD has held: sender and signature, then padding. Returns how long the
    /// plaintext is without it.
    fn check_opened(&self, record: &mut Record, leaf: Option<[u8; 32]>) -> Result<usize> {
        let session = &self.stream.session;
        if record.sender.is_some_and(|sender| sender != session.peer()) {
            return Err(Error::new(Code::InvalidSignature, "the record names another sender"));
        }
        match (record.signed, leaf) {
            (Some(Signed { signature, index }), Some(leaf)) => {
                let Agreement { config, verifier, peer, .. } = &session.agreed;
                batch::verify(config, (*peer, verifier), signature, leaf, index, record.siblings())?;
            }
            _ if self.needs_signature() => {
                return Err(Error::new(Code::InvalidSignature, "the record has to be signed"));
            }
            _ => {}
        }
        let padded = record.nonce.is_padded();
        let Some((text, _)) = record.text_and_tag() else {
            return Err(Error::Decryption);
        };
        if padded { unpadded(text) } else { Ok(text.len()) }
    }

    pub(in crate::protocol) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The session that it belongs to.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.stream.session
    }

    /// Whether the stream may go on, for who waits for a record.
    ///
    /// Errors: `unknown_session` once the session has ended, trust was withdrawn, or the stream has run for 24 h.
    pub fn check(&self, now: Instant) -> Result<()> {
        self.stream.session.check_stream(self.stream.began, now)
    }

    /// When the stream has to have ended: 24 h after it began.
    #[must_use]
    pub fn ends_at(&self) -> Instant {
        self.stream.began + LONGEST_STREAM
    }

    /// Whether FINAL has come. A stream that ends without it is `truncated`.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn check_counter(&self, nonce: Nonce) -> Result<()> {
        match nonce.counter().cmp(&self.counter) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Error::new(Code::Replayed, "this record has come before")),
            std::cmp::Ordering::Greater => {
                Err(Error::new(Code::OutOfOrder, "a record is missing before this one"))
            }
        }
    }

    /// Section 5: everything, or what a responder takes before it has verified a signed record.
    fn needs_signature(&self) -> bool {
        let session = &self.stream.session;
        session.signatures() == Signatures::Every
            || self.stream.direction == Direction::Initiator && !session.is_confirmed()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("stream", &self.stream.id)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes, last: {:?})", self.plaintext.len(), self.last)
    }
}

/// Makes a record that has been decrypted what it was. Where that cannot be done, nothing is left of it: no plaintext goes
/// into the hash of a signed error.
fn conceal(epoch: &mut Epoch, record: &mut Record) {
    let nonce = record.nonce;
    if let Some((text, _)) = record.text_and_tag()
        && epoch.seal(&nonce.0, text).is_err()
    {
        text.fill(0);
    }
}

/// The length without 0x00 bytes at the end, and the 0x01 before them.
fn unpadded(text: &[u8]) -> Result<usize> {
    let mark = text.iter().rposition(|&byte| byte != 0).filter(|&mark| text[mark] == 1);
    mark.ok_or(Error::malformed("padding without its mark"))
}

/// For the test vectors.
#[cfg(test)]
impl Opener {
    /// The leaf of `record`, as one of this stream.
    pub(in crate::protocol) fn leaf(&self, record: &Record) -> [u8; 32] {
        self.stream.leaf(record.nonce, record.ciphertext())
    }
}
