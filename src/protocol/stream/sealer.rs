//! The sending end of a stream.

use std::{fmt, time::Instant};

use bytes::Bytes;

use super::{Draft, Final, Stream, sign_alone};
use crate::{
    config::{Config, Encoding, PORTABLE_RECORD, Padding, Signatures},
    error::{Error, Result},
    protocol::{
        keys::{Direction, Epoch},
        record::{Nonce, Outgoing, Plaintext},
    },
    telemetry::Metric,
};

/// Epochs of a stream, and records of an epoch.
const MOST: u32 = 1 << 24;
/// Bytes of plaintext in an epoch.
const MOST_BYTES: u64 = 1 << 36;

/// The sending end of a stream.
pub struct Sealer {
    stream: Stream,
    epoch: Box<Epoch>,
    number: u32,
    counter: u64,
    epoch_records: u32,
    epoch_bytes: u64,
    finished: bool,
    encoding: Encoding,
    framed: bool,
}

impl Sealer {
    pub(in crate::protocol) fn new(stream: Stream, encoding: Encoding, framed: bool) -> Result<Self> {
        Ok(Sealer {
            epoch: stream.first_epoch()?,
            stream,
            number: 0,
            counter: 0,
            epoch_records: 0,
            epoch_bytes: 0,
            finished: false,
            encoding,
            framed,
        })
    }

    /// Seals one record of at most 1 MiB, padding included, and returns it as it goes on the wire. A signature is
    /// made for it alone; the layers of this crate sign together what is ready together.
    ///
    /// Errors: `Misuse` for more, or after FINAL; `unknown_session` when the session has ended, or trust was
    /// withdrawn; `busy` where the backend gets no memory, after which the stream cannot go on.
    pub fn seal(&mut self, plaintext: impl Into<Plaintext>, last: Final, now: Instant) -> Result<Bytes> {
        let draft = self.draft(plaintext.into(), last, now)?;
        let proof = sign_alone(self.config(), draft.leaf()).inspect_err(|_| self.finished = true)?;
        Ok(draft.write(proof.as_ref()))
    }

    /// As [`seal`](Self::seal), but for the signature.
    pub(crate) fn draft(&mut self, plaintext: Plaintext, last: Final, now: Instant) -> Result<Draft> {
        let padding = self.padding(plaintext.len());
        self.draft_padded(plaintext, padding, last, now)
    }

    /// Writes the records that follow in `encoding`: on a duplex connection the responder follows the initiator.
    pub fn speak(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// Takes the next key from the next record on.
    ///
    /// Errors: `Misuse` after 2^24 epochs.
    pub fn rekey(&mut self) -> Result<()> {
        if self.number > 0 && self.epoch_records == 0 {
            // A receiver takes the next epoch only, so each has to be seen in a record.
            return Ok(());
        }
        if self.number + 1 >= MOST {
            return Err(Error::Misuse { reason: "a stream has at most 2^24 epochs: begin another" });
        }
        self.epoch = self.epoch.next()?;
        self.number += 1;
        self.epoch_records = 0;
        self.epoch_bytes = 0;
        Ok(())
    }

    /// `padding` counts its mark.
    pub(in crate::protocol) fn draft_padded(
        &mut self,
        mut plaintext: Plaintext,
        padding: usize,
        last: Final,
        now: Instant,
    ) -> Result<Draft> {
        if self.finished {
            return Err(Error::Misuse { reason: "nothing can be sealed after FINAL" });
        }
        let length = plaintext.len() + padding;
        if length > PORTABLE_RECORD {
            return Err(Error::Misuse {
                reason: "a record has at most 1 MiB of plaintext: seal it in pieces",
            });
        }
        self.stream.session.check_stream(self.stream.began, now)?;
        self.rekey_if_due(length as u64)?;

        if padding > 0 {
            plaintext.extend_from_slice(&[1]);
            let end = plaintext.buffer().len() + padding - 1;
            plaintext.buffer().resize(end, 0);
        }
        let nonce = Nonce::new(last == Final::Yes, padding > 0, self.number, self.counter);
        // The nonce counts as used from here on, whatever happens.
        self.counter += 1;
        self.epoch_records += 1;
        self.epoch_bytes += length as u64;
        self.finished = last == Final::Yes;
        let tag = self.epoch.seal(&nonce.0, plaintext.text()).inspect_err(|_| self.finished = true)?;
        plaintext.extend_from_slice(&tag);

        let session = &self.stream.session;
        session.touch(now);
        let leaf = self.must_sign().then(|| self.stream.leaf(nonce, plaintext.text()));
        let opening = self.stream.opening.filter(|_| nonce.counter() == 0);
        session.agreed.config.telemetry().count(Metric::RecordsSealed);
        Ok(Draft {
            leaf,
            record: Outgoing { opening, nonce, sender: session.agreed.config.node_id(), buffer: plaintext },
            encoding: self.encoding,
            framed: self.framed,
        })
    }

    /// At least the mark where there is a policy; never beyond what every receiver takes.
    fn padding(&self, length: usize) -> usize {
        match self.stream.session.agreed.config.padding_policy() {
            Padding::None => 0,
            Padding::Multiple(size) => {
                let size = usize::from(size.get());
                (size - length % size).min(PORTABLE_RECORD.saturating_sub(length))
            }
        }
    }

    fn rekey_if_due(&mut self, length: u64) -> Result<()> {
        let limits = self.stream.session.agreed.config.bounds();
        let records = limits.rekey_records.clamp(1, MOST);
        let bytes = limits.rekey_bytes.clamp(1, MOST_BYTES);
        let full = self.epoch_records >= records || self.epoch_bytes.saturating_add(length) > bytes;
        if full && self.epoch_records > 0 { self.rekey() } else { Ok(()) }
    }

    /// Section 5: everything, or the initiator until it has opened a record of the responder.
    fn must_sign(&self) -> bool {
        let session = &self.stream.session;
        session.signatures() == Signatures::Every
            || self.stream.direction == Direction::Initiator && !session.is_confirmed()
    }
}

impl Sealer {
    pub(crate) fn config(&self) -> &Config {
        &self.stream.session.agreed.config
    }

    pub(in crate::protocol) fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("stream", &self.stream.id)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// For the test vectors.
#[cfg(test)]
impl Sealer {
    pub(in crate::protocol) fn epoch(&self) -> &Epoch {
        &self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Identity,
        error::Code,
        protocol::{Destination, Initiator, Responder},
        suite::exhausted::{EXHAUSTED, leave},
        trust::AnyIdentity,
    };

    /// The nonce counts as used, so a peer would find a record missing.
    #[test]
    fn a_stream_ends_with_a_record_that_could_not_be_signed() {
        let config = || Config::new(Identity::generate(), AnyIdentity);
        let (ours, theirs) = (config().backend(EXHAUSTED), Responder::new(config()));
        let (now, mut rng) = (Instant::now(), rand_core::UnwrapErr(getrandom::SysRng));
        let (hello, initiator) = Initiator::start(&ours, Destination::default(), &mut rng).unwrap();
        let (reply, _) = theirs.accept(&hello, |_| true, || true, &mut rng, now).unwrap();
        let (mut sealer, _) = initiator.finish(&reply, now).unwrap().into_duplex(false, now).unwrap();
        leave(0);
        let failed = sealer.seal(&b""[..], Final::No, now).unwrap_err();
        leave(usize::MAX);
        assert_eq!(failed.code(), Some(Code::Busy));
        assert!(matches!(sealer.seal(&b""[..], Final::No, now), Err(Error::Misuse { .. })));
    }
}
