//! Messages in a pipe of bytes: JSON in lines, or anything after its u32 length (PROTOCOL section 6).

use std::io;

use bytes::{Buf as _, BufMut as _, BytesMut};
use memchr::memchr;
use tokio_util::codec::{Decoder, Encoder};

use crate::{
    config::{Encoding, PORTABLE_RECORD},
    duplex::Frame,
    error::{Code, Error, Result},
    protocol::{MAX_HANDSHAKE, Record},
};

/// How the messages of a pipe are told apart. The initiator's first byte decides it for both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Each is a line of JSON.
    Lines,
    /// Each has its length before it, as a u32.
    Lengths,
}

/// Cuts a pipe into [`Frame`]s. The first one has at most 16 KiB.
#[derive(Debug)]
pub struct Codec {
    /// `None` until the initiator has sent a byte.
    framing: Option<Framing>,
    /// Bytes of plaintext in a record; `None` within the handshake.
    limit: Option<usize>,
    /// Whether a hello or a reply has come.
    greeted: bool,
    is_initiator: bool,
    /// Bytes at the start of the buffer that are known to hold no LF.
    scanned: usize,
    plaintext: bool,
}

impl Codec {
    /// `None` for whoever waits for the initiator.
    pub(super) fn new(framing: Option<Framing>) -> Self {
        Codec {
            framing,
            limit: None,
            greeted: false,
            is_initiator: framing.is_some(),
            scanned: 0,
            plaintext: false,
        }
    }

    /// From now on takes records of `limit` bytes of plaintext; or anything, as text, if it is not sealed.
    pub(super) fn open(&mut self, limit: usize, plaintext: bool) {
        self.limit = Some(limit);
        self.plaintext = plaintext;
    }

    fn longest(&self, encoding: Encoding) -> usize {
        match self.limit {
            Some(limit) => Record::longest(encoding, limit),
            None if self.greeted => Record::longest(encoding, PORTABLE_RECORD),
            None => MAX_HANDSHAKE,
        }
    }

    fn cut(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>> {
        let framing = match (self.framing, buffer.first()) {
            // No length within a handshake is so great: these are the last words of a responder that has not got
            // a byte, such as `timeout`.
            (Some(Framing::Lengths), Some(b'{')) if self.is_initiator && self.limit.is_none() => {
                Framing::Lines
            }
            (Some(framing), _) => framing,
            (None, None) => return Ok(None),
            // Nor is a hello so long: a bracket begins a batch of JSON-RPC, which is to be told why it is refused.
            (None, Some(b'{' | b'[')) => *self.framing.insert(Framing::Lines),
            (None, Some(_)) => *self.framing.insert(Framing::Lengths),
        };
        match framing {
            Framing::Lines => self.cut_line(buffer),
            Framing::Lengths => self.cut_length(buffer),
        }
    }

    fn cut_line(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>> {
        let end = memchr(b'\n', &buffer[self.scanned..]);
        let end = end.map(|end| self.scanned + end);
        if end.unwrap_or(buffer.len()) > self.longest(Encoding::Json) {
            return Err(Error::new(Code::TooLarge, "a line above the configured limit"));
        }
        let Some(end) = end else {
            self.scanned = buffer.len();
            return Ok(None);
        };
        self.scanned = 0;
        let line = buffer.split_to(end).freeze();
        buffer.advance(1);
        let is_batch = line.first() == Some(&b'[') && !self.greeted;
        if line.first() != Some(&b'{') && !is_batch && !self.plaintext {
            return Err(Error::malformed("a line that is not a JSON object"));
        }
        Ok(Some(Frame::Text(line)))
    }

    fn cut_length(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>> {
        let Some(length) = buffer.first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        // The buffer grows with what comes, not with what is announced.
        let kind = buffer.get(4).copied();
        let longest = match kind {
            Some(b'{') | None => self.longest(Encoding::Json),
            Some(_) => self.longest(Encoding::Binary),
        };
        if length > longest {
            return Err(Error::new(Code::TooLarge, "a message above the configured limit"));
        }
        if length == 0 && !self.plaintext {
            return Err(Error::malformed("an empty message"));
        }
        if buffer.len() - 4 < length {
            return Ok(None);
        }
        buffer.advance(4);
        let message = buffer.split_to(length).freeze();
        match message.first() {
            Some(b'{') => Ok(Some(Frame::Text(message))),
            Some(1) => Ok(Some(Frame::Binary(message))),
            _ if self.plaintext => Ok(Some(Frame::plain(message))),
            _ => Err(Error::malformed("a message that is neither JSON nor a binary record")),
        }
    }
}

/// Its errors hold an [`Error`].
impl Decoder for Codec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
        let frame = self.cut(buffer).map_err(io::Error::other)?;
        self.greeted |= frame.is_some();
        Ok(frame)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => {
                let truncated = Error::new(Code::Truncated, "the pipe ended within a message");
                Err(io::Error::other(truncated))
            }
            frame => Ok(frame),
        }
    }
}

/// Its errors hold an [`Error`].
impl Encoder<Frame> for Codec {
    type Error = io::Error;

    /// A line feed in JSON is white space, so JSON in plaintext goes out with spaces instead.
    ///
    /// Errors: `Misuse` for what a line cannot hold.
    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> io::Result<()> {
        let misuse = |reason| Err(io::Error::other(Error::Misuse { reason }));
        let is_text = matches!(frame, Frame::Text(_));
        let message = frame.into_bytes();
        // Who has to speak before the initiator did speaks in lines.
        if self.framing == Some(Framing::Lengths) {
            let Ok(length) = u32::try_from(message.len()) else {
                return misuse("a message has less than 4 GiB");
            };
            buffer.reserve(4 + message.len());
            buffer.put_u32(length);
            buffer.put_slice(&message);
        } else if is_text {
            let start = buffer.len();
            buffer.reserve(message.len() + 1);
            buffer.put_slice(&message);
            for byte in buffer[start..].iter_mut().filter(|byte| **byte == b'\n') {
                *byte = b' ';
            }
            buffer.put_u8(b'\n');
        } else {
            return misuse("in lines, a message is text");
        }
        Ok(())
    }
}
