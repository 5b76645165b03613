//! The receiving end of a stream.

use std::{fmt, time::Instant};

use bytes::BytesMut;

use super::{Final, Stream};
use crate::{
    config::Signatures,
    error::{Code, Error, Result},
    protocol::{
        batch,
        keys::{Direction, Epoch},
        record::{Nonce, Record, Signed},
    },
    suite::TAG,
    telemetry::Metric,
};

/// The receiving end of a stream.
///
/// A record that fails changes nothing: the same call with the genuine record still works.
pub struct Opener {
    stream: Stream,
    epoch: Epoch,
    number: u32,
    counter: u64,
    finished: bool,
}

/// What came out of a record, every check held.
pub struct Opened {
    /// The plaintext, in the buffer in which the record came.
    pub plaintext: BytesMut,
    /// Whether the stream has ended with it.
    pub last: Final,
}

impl Opener {
    pub(in crate::protocol) fn new(stream: Stream) -> Result<Self> {
        Ok(Opener { epoch: stream.first_epoch()?, stream, number: 0, counter: 0, finished: false })
    }

    /// Checks and decrypts the stream's next record, in place.
    ///
    /// Errors, in the order of the checks (section 5): `malformed`, `unknown_session`, `replayed`,
    /// `out_of_order`, `decryption_failed`, `invalid_signature`, and `malformed` for the padding.
    pub fn open(&mut self, record: Record, now: Instant) -> Result<Opened> {
        if self.finished {
            return Err(Error::malformed("a record after FINAL"));
        }
        let session = &self.stream.session;
        session.check_stream(self.stream.began, now)?;
        let Record { opening, nonce, signed, sender, mut body, siblings, ciphertext_at, .. } = record;
        if opening.is_some() != (self.stream.id != 0 && self.counter == 0) {
            return Err(Error::malformed("an opening where none belongs, or none where one belongs"));
        }
        self.check_counter(nonce)?;
        let next = match nonce.epoch().checked_sub(self.number) {
            Some(0) => None,
            Some(1) => Some(self.epoch.next()?),
            _ => return Err(Error::Decryption),
        };

        // The signature is over the ciphertext, which is gone after the next step.
        let leaf = signed.is_some().then(|| self.stream.leaf(nonce, &body[ciphertext_at..]));
        let mut text = body.split_off(ciphertext_at);
        let tag = text.split_off(text.len().saturating_sub(TAG));
        let tag = tag[..].try_into().map_err(|_| Error::Decryption)?;
        next.as_ref().unwrap_or(&self.epoch).open(&nonce.0, &mut text, tag)?;

        if sender.is_some_and(|sender| sender != session.peer()) {
            return Err(Error::new(Code::InvalidSignature, "the record names another sender"));
        }
        match (signed, leaf) {
            (Some(Signed { signature, index }), Some(leaf)) => {
                batch::verify(&session.agreed.verifier, &signature, leaf, index, &body[siblings])?;
            }
            _ if self.needs_signature() => {
                return Err(Error::new(Code::InvalidSignature, "the record has to be signed"));
            }
            _ => {}
        }
        if nonce.is_padded() {
            unpad(&mut text)?;
        }

        if let Some(next) = next {
            self.epoch = next;
            self.number += 1;
        }
        self.counter += 1;
        self.finished = nonce.is_final();
        session.touch(now);
        session.confirm();
        session.agreed.config.telemetry().count(Metric::RecordsOpened);
        Ok(Opened { plaintext: text, last: if self.finished { Final::Yes } else { Final::No } })
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

/// Takes off 0x00 bytes from the end, and the 0x01 before them.
fn unpad(text: &mut BytesMut) -> Result<()> {
    let mark = text.iter().rposition(|&byte| byte != 0).filter(|&mark| text[mark] == 1);
    text.truncate(mark.ok_or(Error::malformed("padding without its mark"))?);
    Ok(())
}

/// For the test vectors.
#[cfg(test)]
impl Opener {
    /// The leaf of `record`, as one of this stream.
    pub(in crate::protocol) fn leaf(&self, record: &Record) -> [u8; 32] {
        self.stream.leaf(record.nonce, record.ciphertext())
    }
}
