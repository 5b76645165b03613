//! Hello, reply, and a first record each way (PROTOCOL section 6): what both sides do.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;

use super::{
    Frame, Transport, as_end,
    link::{FAREWELL, is_complaint},
    now, transport_error,
};
use crate::{
    config::{Config, Encoding, PORTABLE_RECORD},
    error::{Code, Error, Result},
    protocol::{Final, MAX_HANDSHAKE, Opener, Record, Sealer, error_message, refusal},
};

/// The answer to whom the handshake took too long.
pub(super) const LATE: Error = Error::new(Code::Timeout, "the handshake was not finished in time");

/// The most bytes of record 0: every receiver takes 1 MiB of plaintext, and all of it may be padding.
pub(super) const FIRST_RECORD: usize = Record::longest(Encoding::Json, PORTABLE_RECORD);

/// What a handshake leads to: both streams, and the encoding of the one that is sent.
pub(super) type Ends = ((Sealer, Encoding), Opener);

/// A hello or a reply. Errors: `Refused` where it is an error, `truncated` where the connection ends.
pub(super) async fn next<T: Transport>(transport: &mut T) -> Result<Frame> {
    receive(transport, MAX_HANDSHAKE).await
}

/// What should be record 0, which may be padded. Errors: as [`next`].
pub(super) async fn next_record<T: Transport>(transport: &mut T) -> Result<Frame> {
    receive(transport, FIRST_RECORD).await
}

async fn receive<T: Transport>(transport: &mut T, limit: usize) -> Result<Frame> {
    const ENDED: Error = Error::new(Code::Truncated, "the connection ended within the handshake");
    let frame = transport.next().await.ok_or(ENDED)?.map_err(|error| as_end(transport_error(error)))?;
    if frame.len() > limit {
        return Err(Error::new(Code::TooLarge, "a message above the limit of the handshake"));
    }
    if is_complaint(&frame) {
        return Err(refusal(&frame.into_bytes()));
    }
    Ok(frame)
}

/// Errors: `malformed` for a binary frame, since hello and reply are JSON.
pub(super) fn text(frame: Frame) -> Result<Bytes> {
    match frame {
        Frame::Text(text) => Ok(text),
        Frame::Binary(_) => Err(Error::malformed("a binary message in place of a hello or a reply")),
    }
}

pub(super) async fn send<T: Transport>(transport: &mut T, frame: Frame) -> Result<()> {
    transport.send(frame).await.map_err(|error| as_end(transport_error(error)))
}

/// Confirms: record 0 of this side, which is empty.
pub(super) async fn send_first<T: Transport>(
    transport: &mut T,
    sealer: &mut Sealer,
    encoding: Encoding,
) -> Result<()> {
    let record = sealer.seal(&b""[..], Final::No, now())?;
    send(transport, Frame::record(record, encoding)).await
}

/// Record 0 of the peer. Errors: `malformed` where it is not empty, or FINAL; those of opening.
pub(super) fn open_first(frame: Frame, opener: &mut Opener, config: &Config) -> Result<()> {
    let opened = opener.open(frame.into_record(config.bounds().record)?, now())?;
    if opened.last == Final::Yes || !opened.plaintext.is_empty() {
        return Err(Error::malformed("a first record that is not empty, or FINAL"));
    }
    Ok(())
}

/// Counts a handshake that failed, tells the peer, and closes the transport.
pub(super) async fn dismiss<T: Transport>(transport: &mut T, config: &Config, error: &Error) {
    // What the peer refused is no refusal of this side, and an error is not answered with an error.
    let ours = error.code().filter(|_| !matches!(error, Error::Refused { .. }));
    if let Some(code) = ours {
        config.telemetry().reject(code);
    }
    tracing::debug!(target: crate::telemetry::TARGET, reason = %error, "handshake failed");
    let last_words = async {
        if ours.is_some() {
            let _ = transport.send(Frame::Text(error_message(error))).await;
        }
        let _ = transport.close().await;
    };
    let _ = timeout(FAREWELL, last_words).await;
}
