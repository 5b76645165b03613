//! A stream of records in one direction: strict counters, a FINAL flag, a key for each epoch (PROTOCOL
//! sections 3 and 4). [`Sealer`] is its sending end, [`Opener`] its receiving end.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::{Bytes, BytesMut};

use super::{
    batch::{self, LeafContext},
    binary, json,
    keys::{Direction, Epoch},
    record::{Nonce, Opening, Outgoing, Plaintext, Record, Signed},
    session::Session,
};
use crate::{
    config::{Encoding, PORTABLE_RECORD, Padding, Signatures},
    error::{Code, Error, Result},
    suite::{TAG, hash::sha256},
    telemetry::Metric,
};

/// Epochs of a stream, and records of an epoch.
const MOST: u32 = 1 << 24;
/// Bytes of plaintext in an epoch.
const MOST_BYTES: u64 = 1 << 36;

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
    /// In the response of an exchange: the request's first record.
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
        request: Arc<FirstRecord>,
        began: Instant,
    ) -> Self {
        Stream {
            session,
            direction: Direction::Responder,
            id: opening.stream,
            opening: Some(opening),
            request: Some(request),
            began,
        }
    }

    fn first_epoch(&self) -> Result<Epoch> {
        let agreed = &self.session.agreed;
        let opening = self.opening.map(|opening| opening.bytes());
        let opening = opening.as_ref().map_or(&[][..], |bytes| bytes);
        Epoch::new(agreed.suite, agreed.keys.stream(self.direction, self.id, opening)?)
    }

    fn leaf(&self, nonce: Nonce, ciphertext: &[u8]) -> [u8; 32] {
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
    /// Of a responder, which decrypts in place and so needs the leaf now, if it is going to sign.
    pub(super) fn received(stream: &Stream, record: &Record) -> Self {
        let every = stream.session.signatures() == Signatures::Every;
        let leaf = every.then(|| stream.leaf(record.nonce, record.ciphertext()));
        FirstRecord::new(stream, record.nonce, Bytes::new(), leaf)
    }

    /// Of an initiator; `leaf` if it has been computed already.
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

    /// SHA-256 of nonce and ciphertext, which a signed error names.
    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(&[&self.nonce.0, &self.ciphertext])
    }
}

/// The sending end of a stream.
pub struct Sealer {
    stream: Stream,
    epoch: Epoch,
    number: u32,
    counter: u64,
    epoch_records: u32,
    epoch_bytes: u64,
    finished: bool,
    encoding: Encoding,
    framed: bool,
}

impl Sealer {
    pub(super) fn new(stream: Stream, encoding: Encoding, framed: bool) -> Result<Self> {
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

    /// Seals one record of at most 1 MiB, padding included, and returns it as it goes on the wire.
    ///
    /// Errors: `Misuse` for more, or after FINAL; `unknown_session` when the session has ended, or trust was
    /// withdrawn.
    pub fn seal(&mut self, plaintext: impl Into<Plaintext>, last: Final, now: Instant) -> Result<Bytes> {
        Ok(self.seal_first(plaintext.into(), last, now)?.0)
    }

    /// Seals the first record, and keeps what the response refers to.
    pub(super) fn seal_first(
        &mut self,
        plaintext: Plaintext,
        last: Final,
        now: Instant,
    ) -> Result<(Bytes, FirstRecord)> {
        let padding = self.padding(plaintext.len());
        self.seal_padded(plaintext, padding, last, now)
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

    /// `padding` counts its mark. Returns the frame, and what later records refer to.
    pub(super) fn seal_padded(
        &mut self,
        mut plaintext: Plaintext,
        padding: usize,
        last: Final,
        now: Instant,
    ) -> Result<(Bytes, FirstRecord)> {
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
        let tag = self.epoch.seal(&nonce.0, plaintext.text())?;
        plaintext.extend_from_slice(&tag);

        let session = self.stream.session.clone();
        session.touch(now);
        let leaf = self.must_sign().then(|| self.stream.leaf(nonce, plaintext.text()));
        let outgoing = Outgoing {
            opening: self.stream.opening.filter(|_| nonce.counter() == 0),
            nonce,
            signed: leaf.map(|leaf| Signed {
                signature: session.agreed.config.identity().sign(&batch::message(&leaf)),
                index: 0,
            }),
            siblings: Vec::new(),
            sender: session.agreed.config.node_id(),
            buffer: plaintext,
        };
        let (frame, ciphertext) = match self.encoding {
            Encoding::Binary => binary::write(outgoing, self.framed),
            Encoding::Json => json::write_record(outgoing, self.framed),
        };
        session.agreed.config.telemetry().count(Metric::RecordsSealed);
        Ok((frame, FirstRecord::new(&self.stream, nonce, ciphertext, leaf)))
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

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("stream", &self.stream.id)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

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
    pub(super) fn new(stream: Stream) -> Result<Self> {
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
impl Sealer {
    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }
}

/// For the test vectors.
#[cfg(test)]
impl Opener {
    /// The leaf of `record`, as one of this stream.
    pub(super) fn leaf(&self, record: &Record) -> [u8; 32] {
        self.stream.leaf(record.nonce, record.ciphertext())
    }
}

/// For the test vectors.
#[cfg(test)]
impl FirstRecord {
    /// That of an initiator that sent `record`.
    pub(super) fn sent(stream: &Stream, record: &Record) -> Self {
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
