//! The host's side: a message a line, in on stdin and out on stdout.

use std::{
    io::{self, BufReader, Write as _},
    mem, thread,
    time::Instant,
};

use bytes::{Buf as _, Bytes};
use memchr::memchr;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    message::Line,
    salvage::{salvage, too_long},
};
use crate::{
    failure::{Exit, Failure},
    long_line::LongLine,
    spell::Spell,
};

/// Bytes of a line on stdin. Longer ones are skipped.
const LONGEST: usize = 16 << 20;
/// Messages that wait in either direction, with 64 MiB at most; then the sender does.
const QUEUE: usize = 4;
/// What some put before the first line.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The host does not read any more, so nothing can be said to it.
#[derive(Debug)]
pub(super) struct Gone;

/// The program that started this one.
pub(super) struct Host {
    lines: mpsc::Receiver<Read>,
    ended: CancellationToken,
    out: mpsc::Sender<Bytes>,
    written: oneshot::Receiver<()>,
    bad: Spell,
}

/// A line, or what is kept of one that is too long.
type Read = Result<Bytes, LongLine>;

impl Host {
    /// Threads of their own, since the runtime would wait at its end for a read that it began.
    pub(super) fn start() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Failed, format!("cannot start a thread ({error})"));
        let (line, lines) = mpsc::channel(QUEUE);
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let read = move || {
            read(&line);
            drop(end);
        };
        thread::Builder::new().name("stdin".to_owned()).spawn(read).map_err(failed)?;
        let (out, mut said) = mpsc::channel(QUEUE);
        let (done, written) = oneshot::channel();
        let write = move || {
            let outcome = write(&mut said);
            // Whoever says something from now on learns that nobody hears it.
            drop(said);
            if let Err(error) = outcome {
                tracing::debug!(error = %error, "stdout cannot be written to");
            }
            let _ = done.send(());
        };
        thread::Builder::new().name("stdout".to_owned()).spawn(write).map_err(failed)?;
        Ok(Host { lines, ended, out, written, bad: Spell::default() })
    }

    /// The next message; `None` at the end. What is none is answered here. Dropping this future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Gone> {
        loop {
            // Before the line is taken, since this future may be dropped while it waits.
            let room = self.out.reserve().await.map_err(|_| Gone)?;
            let (rest, refusal) = match self.lines.recv().await {
                None => return Ok(None),
                Some(Err(line)) => (None, too_long(&line)),
                Some(Ok(bytes)) if bytes.trim_ascii().is_empty() => continue,
                Some(Ok(bytes)) => match Line::read(bytes.clone()) {
                    Ok(line) => return Ok(Some(line)),
                    Err(why) => salvage(&bytes, why),
                },
            };
            if self.bad.begins(Instant::now()) {
                tracing::warn!("a line on stdin is no JSON-RPC message of at most 16 MiB, and was not sent");
            }
            room.send(refusal);
            if rest.is_some() {
                return Ok(rest);
            }
        }
    }

    /// Cancelled when there is no more on stdin, whether that has been taken or not.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Says a message, which has one line.
    pub(super) async fn say(&self, message: Bytes) -> Result<(), Gone> {
        self.out.send(message).await.map_err(|_| Gone)
    }

    /// Says the last there is to say, and waits until all has been written.
    pub(super) async fn finish(self, last: Vec<Bytes>) {
        for message in last {
            if self.say(message).await.is_err() {
                return;
            }
        }
        drop(self.out);
        let _ = self.written.await;
    }
}

fn read(line: &mpsc::Sender<Read>) {
    let mut input = BufReader::with_capacity(64 << 10, io::stdin());
    let mut is_first = true;
    loop {
        match next_line(&mut input) {
            Ok(Some(mut read)) => {
                if let Ok(first) = &mut read
                    && mem::take(&mut is_first)
                    && first.starts_with(BOM)
                {
                    first.advance(BOM.len());
                }
                if line.blocking_send(read).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(error = %error, "stdin cannot be read, and counts as ended");
                return;
            }
        }
    }
}

fn next_line(input: &mut impl io::BufRead) -> io::Result<Option<Read>> {
    let (mut line, mut began, mut long) = (Vec::new(), false, None);
    loop {
        let part = match input.fill_buf() {
            Ok(part) => part,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if part.is_empty() {
            // The last line may lack its end.
            break;
        }
        began = true;
        let end = memchr(b'\n', part);
        let text = &part[..end.unwrap_or(part.len())];
        if long.is_none() && line.len() + text.len() > LONGEST {
            let mut ends = LongLine::default();
            ends.push(&mem::take(&mut line));
            long = Some(ends);
        }
        match &mut long {
            Some(long) => long.push(text),
            None => line.extend_from_slice(text),
        }
        let used = end.map_or(part.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(began.then(|| long.map_or_else(|| Ok(line.into()), Err)))
}

fn write(said: &mut mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    while let Some(message) = said.blocking_recv() {
        stdout.write_all(&message)?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_bound_and_the_last_may_lack_its_end() {
        let long = "x".repeat(LONGEST + 1);
        let text = format!("one\n\n{long}\n{}\nlast", &long[1..]);
        let mut input = BufReader::with_capacity(1000, text.as_bytes());
        let mut next = || next_line(&mut input).unwrap();
        assert_eq!(next().unwrap().unwrap(), "one");
        assert_eq!(next().unwrap().unwrap(), "");
        assert!(next().unwrap().is_err());
        assert_eq!(next().unwrap().unwrap().len(), LONGEST);
        assert_eq!(next().unwrap().unwrap(), "last");
        assert!(next().is_none());
    }
}
