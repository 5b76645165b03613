//! The lines of a child's stdout.

use std::{io, mem};

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio_util::codec::Decoder;
use tower_seal::config::PORTABLE_RECORD;

use crate::long_line::LongLine;

/// Bytes of a line that are skipped; whoever has not ended it then does not mean to.
const ENDLESS: usize = 64 << 20;

#[derive(Debug)]
pub(super) enum Spoken {
    Line(Bytes),
    /// No record can carry it.
    Long(LongLine),
    /// That neither, and it goes on and on.
    Endless,
}

/// Reads lines as long as a record can carry, and of longer ones what they begin and end with.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Bytes in which there is no end of a line.
    searched: usize,
    long: Option<LongLine>,
}

impl Decoder for Lines {
    type Item = Spoken;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Spoken>> {
        let end = memchr(b'\n', &buffer[self.searched..]);
        let end = end.map(|end| self.searched + end);
        self.searched = 0;
        match (end, &mut self.long) {
            (Some(end), None) if end <= PORTABLE_RECORD => {
                let mut line = buffer.split_to(end + 1);
                line.truncate(end);
                Ok(Some(Spoken::Line(line.freeze())))
            }
            (Some(end), long) => {
                let line = buffer.split_to(end + 1);
                long.get_or_insert_default().push(&line[..end]);
                Ok(self.long.take().map(Spoken::Long))
            }
            (None, None) if buffer.len() <= PORTABLE_RECORD => {
                self.searched = buffer.len();
                Ok(None)
            }
            (None, long) => {
                let long = long.get_or_insert_default();
                long.push(buffer);
                buffer.clear();
                Ok((long.length() > ENDLESS).then_some(Spoken::Endless))
            }
        }
    }

    /// The last line may lack its end.
    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Spoken>> {
        if let Some(spoken) = self.decode(buffer)? {
            return Ok(Some(spoken));
        }
        self.searched = 0;
        if let Some(long) = self.long.take() {
            return Ok(Some(Spoken::Long(long)));
        }
        let rest = mem::take(buffer).freeze();
        Ok((!rest.is_empty()).then_some(Spoken::Line(rest)))
    }
}
