//! The binary encoding of a record (PROTOCOL section 4.2).
//!
//! ```text
//! u8 0x01 | u8 flags | [16 session | u64 stream | 16 salt | u64 deadline] | 12 nonce
//!                    | [64 signature | u8 n | u32 index | n*32 siblings] | ciphertext
//! ```

use bytes::{Buf, Bytes, BytesMut};

use super::record::{Nonce, Opening, Outgoing, Record, Signed};
use crate::{
    config::Encoding,
    error::{Error, Result},
    identity::Signature,
};

/// The first byte of a binary record.
const KIND: u8 = 0x01;

const OPENING: u8 = 1;
const SIGNED: u8 = 2;

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
    let (head, tail) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = tail;
    Ok(*head)
}

/// Writes the header into the headroom before the ciphertext, with the u32 length in front if `framed`.
///
/// Returns the frame, and the ciphertext as a part of it.
pub(super) fn write(record: Outgoing, framed: bool) -> (Bytes, Bytes) {
    let mut header = Vec::with_capacity(160);
    let flags =
        if record.opening.is_some() { OPENING } else { 0 } | if record.signed.is_some() { SIGNED } else { 0 };
    header.extend_from_slice(&[KIND, flags]);
    if let Some(opening) = &record.opening {
        header.extend_from_slice(opening.session.as_bytes());
        header.extend_from_slice(&opening.stream.to_be_bytes());
        header.extend_from_slice(&opening.bytes());
    }
    header.extend_from_slice(&record.nonce.0);
    if let Some(signed) = &record.signed {
        header.extend_from_slice(&signed.signature.0);
        header.push(record.siblings.len() as u8);
        header.extend_from_slice(&signed.index.to_be_bytes());
        for sibling in &record.siblings {
            header.extend_from_slice(sibling);
        }
    }
    let (mut buffer, headroom) = record.buffer.into_parts();
    if framed {
        let length = (header.len() + buffer.len() - headroom) as u32;
        header.splice(0..0, length.to_be_bytes());
    }
    let start = headroom - header.len();
    buffer[start..headroom].copy_from_slice(&header);
    let mut frame = buffer.freeze();
    let ciphertext = frame.slice(headroom..);
    frame.advance(start);
    (frame, ciphertext)
}
