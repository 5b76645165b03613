//! What a transport carries: whole messages, each text or binary.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};

use super::BoxError;
use crate::{
    config::Encoding,
    error::{Code, Error, Result},
    protocol::Record,
};

/// One message of a transport that keeps their limits and their order.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// UTF-8: handshake messages, errors, and records in JSON.
    Text(Bytes),
    /// A binary record.
    Binary(Bytes),
}

/// A pipe of [`Frame`]s in both directions: any [`Stream`] and [`Sink`] of them.
///
/// Where its errors hold an [`Error`] of this crate, that one is reported; any other is [`Error::Transport`].
pub trait Transport:
    Stream<Item = Result<Frame, <Self as Transport>::Failure>>
    + Sink<Frame, Error = <Self as Transport>::Failure>
    + Unpin
{
    /// The transport's own errors.
    type Failure: Into<BoxError>;
}

impl<T, E> Transport for T
where
    T: Stream<Item = Result<Frame, E>> + Sink<Frame, Error = E> + Unpin,
    E: Into<BoxError>,
{
    type Failure = E;
}

impl Frame {
    /// A record as a sealer wrote it.
    pub(super) fn record(bytes: Bytes, encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Frame::Text(bytes),
            Encoding::Binary => Frame::Binary(bytes),
        }
    }

    /// A message that is not sealed.
    pub(super) fn plain(bytes: Bytes) -> Self {
        if std::str::from_utf8(&bytes).is_ok() { Frame::Text(bytes) } else { Frame::Binary(bytes) }
    }

    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Frame::Text(_) => Encoding::Json,
            Frame::Binary(_) => Encoding::Binary,
        }
    }

    pub(super) fn len(&self) -> usize {
        let (Frame::Text(bytes) | Frame::Binary(bytes)) = self;
        bytes.len()
    }

    /// Its bytes, whatever they are.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        let (Frame::Text(bytes) | Frame::Binary(bytes)) = self;
        bytes
    }

    /// The record that it is. Errors: `malformed`; `too_large` above `limit` bytes of plaintext.
    pub(super) fn into_record(self, limit: usize) -> Result<Record> {
        let bytes = match self {
            Frame::Text(text) => return Record::parse_json(&text, limit),
            Frame::Binary(bytes) => bytes,
        };
        if bytes.len() > Record::longest(Encoding::Binary, limit) {
            return Err(Error::new(Code::TooLarge, "a record above the configured limit"));
        }
        // Most transports keep a hold on the buffer that they read into: then this is the one copy on the way in.
        Record::parse(BytesMut::from(bytes), Encoding::Binary, limit)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:?}, {} bytes)", self.encoding(), self.len())
    }
}
