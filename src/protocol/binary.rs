//! The binary encoding of a record (PROTOCOL section 4.2).
//!
//! ```text
//! u8 0x01 | u8 flags | [16 session | u64 stream | 16 salt | u64 deadline] | 12 nonce
//!                    | [64 signature | u8 n | u32 index | n*32 siblings] | ciphertext
//! ```

use bytes::{Buf, BufMut as _, Bytes, BytesMut};

use super::record::{Nonce, Opening, Outgoing, Record, Signed};
use crate::{
    config::Encoding,
    error::{Error, Result},
    identity::{Proof, Signature},
    suite::NONCE,
};

/// The first byte of a binary record.
const KIND: u8 = 0x01;

const OPENING: u8 = 1;
const SIGNED: u8 = 2;

/// Session, stream, salt, deadline.
const OPENING_LENGTH: usize = 16 + 8 + 16 + 8;

const SHORT: Error = Error::malformed("a binary record that ends within its header");

/// Takes the header off; the ciphertext stays where it is.
pub(super) fn parse(frame: BytesMut) -> Result<Record> {
    let mut rest = &frame[..];
    let [kind, flags] = take(&mut rest)?;
    if kind != KIND || flags & !(OPENING | SIGNED) != 0 {
        return Err(Error::malformed("a binary record of an unknown kind, or with an unknown flag"));
    }
    let opening = if flags & OPENING != 0 {
        let session = take(&mut rest)?;
        let stream = rest.try_get_u64().map_err(|_| SHORT)?;
        let salt = take(&mut rest)?;
        let deadline = rest.try_get_u64().map_err(|_| SHORT)?;
        Some(Opening::parse(session, stream, salt, (deadline != 0).then_some(deadline))?)
    } else {
        None
    };
    let nonce = Nonce::parse(take(&mut rest)?)?;
    let mut siblings = 0;
    let signed = if flags & SIGNED != 0 {
        let signature = Signature(take(&mut rest)?);
        let [count] = take(&mut rest)?;
        let index = rest.try_get_u32().map_err(|_| SHORT)?;
        siblings = usize::from(count) * 32;
        Some(Signed { signature, index })
    } else {
        None
    };
    let siblings_at = frame.len() - rest.len();
    let ciphertext_at = siblings_at + siblings;
    if ciphertext_at > frame.len() {
        return Err(SHORT);
    }
    Ok(Record {
        encoding: Encoding::Binary,
        opening,
        nonce,
        signed,
        sender: None,
        body: frame,
        siblings: siblings_at..ciphertext_at,
        ciphertext_at,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let Some((head, tail)) = rest.split_first_chunk() else {
        return Err(SHORT);
    };
    *rest = tail;
    Ok(*head)
}

/// Writes the header into the headroom before the ciphertext, with the u32 length in front if `framed`.
///
/// Returns the frame, and where in it the ciphertext begins.
pub(super) fn write(record: Outgoing, proof: Option<&Proof>, framed: bool) -> (Bytes, usize) {
    let signature = proof.map_or(0, |proof| 64 + 1 + 4 + 32 * proof.depth());
    let opening = record.opening.map_or(0, |_| OPENING_LENGTH);
    let header = 2 + opening + NONCE + signature;
    let (mut buffer, headroom) = record.buffer.into_parts();
    let start = headroom - header - if framed { 4 } else { 0 };
    let length = (header + buffer.len() - headroom) as u32;

    let mut out = &mut buffer[start..headroom];
    if framed {
        out.put_u32(length);
    }
    out.put_u8(KIND);
    out.put_u8(if record.opening.is_some() { OPENING } else { 0 } | if proof.is_some() { SIGNED } else { 0 });
    if let Some(opening) = &record.opening {
        out.put_slice(opening.session.as_bytes());
        out.put_u64(opening.stream);
        out.put_slice(&opening.bytes());
    }
    out.put_slice(&record.nonce.0);
    if let Some(proof) = proof {
        out.put_slice(&proof.signature().0);
        out.put_u8(proof.depth() as u8);
        out.put_u32(proof.index());
        for sibling in proof.siblings() {
            out.put_slice(sibling);
        }
    }
    let mut frame = buffer.freeze();
    frame.advance(start);
    (frame, headroom - start)
}
