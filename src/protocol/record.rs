//! A record as it stands on the wire (PROTOCOL section 4), before any check that needs a key.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    config::Encoding,
    error::{Code, Error, Result},
    identity::{NodeId, Signature, queue::MOST_LEAVES},
    suite::{NONCE, TAG, tree},
    trust::SessionId,
};

use super::{binary, json};

/// The greatest number of the protocol.
pub(crate) const MAX_NUMBER: u64 = (1 << 53) - 1;

const FINAL: u8 = 1;
const PADDED: u8 = 2;

/// `flags (u8) || epoch (u24) || counter (u64)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce(pub(super) [u8; NONCE]);

impl Nonce {
    pub(super) fn new(last: bool, padded: bool, epoch: u32, counter: u64) -> Self {
        let mut bytes = [0; NONCE];
        bytes[..4].copy_from_slice(&epoch.to_be_bytes());
        bytes[0] = if last { FINAL } else { 0 } | if padded { PADDED } else { 0 };
        bytes[4..].copy_from_slice(&counter.to_be_bytes());
        Nonce(bytes)
    }

    /// Errors: `malformed` for a flag that does not exist.
    pub(super) fn parse(bytes: [u8; NONCE]) -> Result<Self> {
        if bytes[0] & !(FINAL | PADDED) != 0 {
            return Err(Error::malformed("a record with an unknown flag"));
        }
        Ok(Nonce(bytes))
    }

    pub(super) fn is_final(self) -> bool {
        self.0[0] & FINAL != 0
    }

    pub(super) fn is_padded(self) -> bool {
        self.0[0] & PADDED != 0
    }

    pub(super) fn epoch(self) -> u32 {
        u32::from_be_bytes([0, self.0[1], self.0[2], self.0[3]])
    }

    pub(super) fn counter(self) -> u64 {
        let [_, _, _, _, counter @ ..] = self.0;
        u64::from_be_bytes(counter)
    }
}

/// What the first record of an exchange's stream says beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) session: SessionId,
    /// Never 0.
    pub(super) stream: u64,
    pub(super) salt: [u8; 16],
    /// There in a request, where 0 is wrong; not there in a response.
    pub(super) deadline: Option<u64>,
}

impl Opening {
    /// The bytes that enter keys and leaves: `salt || u64(deadline)`.
    pub(super) fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.salt);
        bytes[16..].copy_from_slice(&self.deadline.unwrap_or(0).to_be_bytes());
        bytes
    }

    /// Errors: `malformed` for numbers out of range.
    pub(super) fn parse(
        session: [u8; 16],
        stream: u64,
        salt: [u8; 16],
        deadline: Option<u64>,
    ) -> Result<Self> {
        if stream == 0 {
            return Err(Error::malformed("stream 0 has no opening"));
        }
        if stream > MAX_NUMBER || deadline.is_some_and(|deadline| deadline > MAX_NUMBER) {
            return Err(Error::malformed("a number above 2^53-1"));
        }
        Ok(Opening { session: SessionId::from_bytes(session), stream, salt, deadline })
    }
}

/// A signature, and the place of the record below what it signs.
#[derive(Clone, Copy)]
pub(super) struct Signed {
    pub(super) signature: Signature,
    pub(super) index: u32,
}

/// A record that a peer sent: well-formed, and nothing more is known of it.
pub struct Record {
    pub(super) encoding: Encoding,
    pub(super) opening: Option<Opening>,
    pub(super) nonce: Nonce,
    pub(super) signed: Option<Signed>,
    /// In JSON only.
    pub(super) sender: Option<NodeId>,
    /// Siblings of 32 bytes each; then the ciphertext from `ciphertext_at` on.
    pub(super) body: BytesMut,
    pub(super) siblings: std::ops::Range<usize>,
    pub(super) ciphertext_at: usize,
}

impl Record {
    /// Reads one record, without its transport framing. `limit` is in bytes of plaintext.
    ///
    /// Errors: `malformed`; `too_large` above `limit`.
    pub fn parse(frame: BytesMut, encoding: Encoding, limit: usize) -> Result<Self> {
        match encoding {
            Encoding::Binary => {
                let record = binary::parse(frame)?;
                record.check(limit)?;
                Ok(record)
            }
            Encoding::Json => Self::parse_json(&frame, limit),
        }
    }

    /// Reads one record in JSON, which is borrowed: its ciphertext is decoded into a buffer of its own.
    ///
    /// Errors: as [`parse`](Self::parse); `too_large` also for more bytes than the [`longest`](Self::longest).
    pub fn parse_json(frame: &[u8], limit: usize) -> Result<Self> {
        if frame.len() > Self::longest(Encoding::Json, limit) {
            return Err(Error::new(Code::TooLarge, "a record above the configured limit"));
        }
        let record = json::parse_record(frame)?;
        record.check(limit)?;
        Ok(record)
    }

    /// The most bytes of a record of `plaintext` bytes, without its transport framing: what a receiver has to
    /// let in. In JSON there is some room for unknown fields.
    #[must_use]
    pub const fn longest(encoding: Encoding, plaintext: usize) -> usize {
        match encoding {
            Encoding::Binary => plaintext.saturating_add(HEADER + TAG),
            Encoding::Json => plaintext.saturating_add(TAG).saturating_mul(2).saturating_add(4096),
        }
    }

    /// Errors: `malformed` or `too_large`.
    fn check(&self, limit: usize) -> Result<()> {
        let Some(length) = self.ciphertext().len().checked_sub(TAG) else {
            return Err(Error::malformed("a ciphertext shorter than its tag"));
        };
        if length > limit {
            return Err(Error::new(Code::TooLarge, "a record above the configured limit"));
        }
        let siblings = self.siblings.len() / 32;
        if siblings > tree::MOST_SIBLINGS {
            return Err(Error::malformed("a batch path of more than 16 siblings"));
        }
        if self.signed.is_some_and(|signed| u64::from(signed.index) >> siblings != 0) {
            return Err(Error::malformed("a batch index beyond its tree"));
        }
        Ok(())
    }

    pub(super) fn ciphertext(&self) -> &[u8] {
        self.body.get(self.ciphertext_at..).unwrap_or_default()
    }

    /// Siblings of 32 bytes each, from the leaf up.
    pub(super) fn siblings(&self) -> &[u8] {
        self.body.get(self.siblings.clone()).unwrap_or_default()
    }

    /// What is to be decrypted in place, and the tag behind it.
    pub(super) fn text_and_tag(&mut self) -> Option<(&mut [u8], &[u8; TAG])> {
        let (text, tag) = self.body.get_mut(self.ciphertext_at..)?.split_last_chunk_mut()?;
        Some((text, tag))
    }

    pub(super) fn into_ciphertext(self) -> Bytes {
        let mut body = self.body.freeze();
        body.split_off(self.ciphertext_at.min(body.len()))
    }

    /// What has been decrypted, in the buffer in which it came.
    pub(super) fn take_text(&mut self) -> Bytes {
        let mut body = std::mem::take(&mut self.body).freeze();
        body.truncate(body.len().saturating_sub(TAG));
        body.split_off(self.ciphertext_at.min(body.len()))
    }

    /// Whether it says that it is the last of its stream, which is true if it can be opened.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.nonce.is_final()
    }

    /// The encoding that it came in; a response is in that of its request.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("opening", &self.opening)
            .field("nonce", &self.nonce)
            .field("length", &self.ciphertext().len())
            .finish_non_exhaustive()
    }
}

/// The most bytes before the ciphertext of a binary record.
const HEADER: usize = header(tree::MOST_SIBLINGS);

/// Bytes left free before a plaintext, so that the length and the header are written in place afterwards. Batches of
/// this side are smaller than those that it takes.
const HEADROOM: usize = 4 + header(MOST_LEAVES.next_power_of_two().ilog2() as usize);

/// Kind, flags, opening, nonce, signature, count, index, and a path of so many siblings.
const fn header(siblings: usize) -> usize {
    1 + 1 + 48 + NONCE + 64 + 1 + 4 + 32 * siblings
}

/// A plaintext in the making, in the very buffer in which it is going to be encrypted.
pub struct Plaintext(BytesMut);

impl Plaintext {
    /// An empty one, with room for `capacity` bytes and everything that surrounds them.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEADROOM + capacity + TAG);
        buffer.put_bytes(0, HEADROOM);
        Plaintext(buffer)
    }

    /// Appends; this is the one copy on the way out.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Where to write, behind what is there.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.0
    }

    /// Bytes of plaintext so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len().saturating_sub(HEADROOM)
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text, and later the ciphertext.
    pub(super) fn text(&mut self) -> &mut [u8] {
        self.0.get_mut(HEADROOM..).unwrap_or_default()
    }

    pub(super) fn into_parts(self) -> (BytesMut, usize) {
        (self.0, HEADROOM)
    }
}

impl From<&[u8]> for Plaintext {
    fn from(bytes: &[u8]) -> Self {
        let mut plaintext = Plaintext::with_capacity(bytes.len());
        plaintext.extend_from_slice(bytes);
        plaintext
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plaintext({} bytes)", self.len())
    }
}

/// A record that has been encrypted, and is to be written, perhaps with a signature.
pub(super) struct Outgoing {
    pub(super) opening: Option<Opening>,
    pub(super) nonce: Nonce,
    pub(super) sender: NodeId,
    /// Headroom, then the ciphertext and its tag.
    pub(super) buffer: Plaintext,
}
