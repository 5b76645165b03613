//! QUIC's variable-length integers (RFC 9000 section 16), which Binary HTTP uses for every number.
//!
//! The two high bits of the first byte say how many bytes there are: 1, 2, 4 or 8. Written in the shortest
//! form, read in any.

use bytes::{BufMut, BytesMut};

use crate::error::{Error, Result};

/// The largest number that has a form.
pub(super) const MAX: u64 = (1 << 62) - 1;

/// How many bytes the shortest form of `value` has.
pub(super) const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends `value`, at most [`MAX`], in its shortest form.
pub(super) fn put(value: u64, out: &mut BytesMut) {
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 1 << 14),
        4 => out.put_u32(value as u32 | 2 << 30),
        _ => out.put_u64(value | 3 << 62),
    }
}

/// How many bytes `piece` and the length before it have.
pub(super) const fn piece_len(piece: &[u8]) -> usize {
    len(piece.len() as u64) + piece.len()
}

/// Appends `piece` with its length before it.
pub(super) fn put_piece(piece: &[u8], out: &mut BytesMut) {
    put(piece.len() as u64, out);
    out.put_slice(piece);
}

const TRUNCATED: Error = Error::malformed("the inner message ends too early");

/// Reads a message from its front. Declared lengths are compared with what is there before anything else.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Reader(message)
    }

    /// What has not been read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn varint(&mut self) -> Result<u64> {
        let Some((first, rest)) = self.0.split_first() else {
            return Err(TRUNCATED);
        };
        let Some((more, rest)) = rest.split_at_checked((1 << (first >> 6)) - 1) else {
            return Err(TRUNCATED);
        };
        self.0 = rest;
        Ok(more.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A piece with its length before it.
    pub(super) fn piece(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
        let Some((piece, rest)) = self.0.split_at_checked(len) else {
            return Err(TRUNCATED);
        };
        self.0 = rest;
        Ok(piece)
    }

    /// A header section, content or trailer section: a piece that, being empty, may have been left out if
    /// the message ends here. RFC 9292 section 3.1 allows that before each of these three lengths and
    /// nowhere else; section 3.8 has it read as a length of zero.
    pub(super) fn section(&mut self) -> Result<&'a [u8]> {
        if self.0.is_empty() { Ok(&[]) } else { self.piece() }
    }
}
