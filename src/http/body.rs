//! The two bodies: [`SealBody`] is what goes on the wire, [`OpenBody`] what came out of it.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::{
    BoxError,
    frames::Frames,
    now,
    source::{PIECE, Source},
};
use crate::{
    config::Config,
    error::{Code, Error, Result},
    protocol::{Draft, Final, Opener, Plaintext, Sealer},
    signing::Signing,
    telemetry::Telemetry,
};

/// A body as it goes on the wire: records, a handshake message, an error; or, in plaintext mode, the inner
/// body as it is.
///
/// Each piece of content that the inner body yields leaves as one record, at once.
pub struct SealBody<B> {
    kind: SealKind<B>,
}

enum SealKind<B> {
    Whole(Bytes),
    Records { first: Bytes, rest: Option<Box<Sealing<B>>> },
    Plain(Pin<Box<B>>),
}

/// A stream that is being sealed.
pub(super) struct Sealing<B> {
    source: Source<B>,
    sealer: Sealer,
    failure: Option<Arc<Failure>>,
    /// A record that waits for its signature.
    unsigned: Option<(Draft, Signing, Final)>,
}

impl<B> Sealing<B> {
    /// `failure` is, in a response, where the request, if it goes on, says that it was bad after all. Then the
    /// response ends without FINAL.
    pub(super) fn new(source: Source<B>, sealer: Sealer, failure: Option<Arc<Failure>>) -> Self {
        Sealing { source, sealer, failure, unsigned: None }
    }
}

impl<B> Sealing<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The next piece as a record.
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Bytes, Final)>> {
        loop {
            if let Some((_, signing, _)) = &mut self.unsigned {
                let proof = ready!(Pin::new(signing).poll(cx))?;
                if let Some((draft, _, last)) = self.unsigned.take() {
                    return Poll::Ready(Ok((draft.write(proof.as_ref()), last)));
                }
            }
            let piece = ready!(self.source.poll_piece(cx, PIECE)).transpose();
            let failed = self.failure.as_ref().and_then(|failure| failure.get());
            let piece = failed.map_or(piece, |error| Err(error.clone()))?;
            let last = if self.source.is_ended() { Final::Yes } else { Final::No };
            let draft = self.sealer.draft(Plaintext::from(&piece.unwrap_or_default()[..]), last, now())?;
            let signing = Signing::new(self.sealer.config(), draft.leaf());
            self.unsigned = Some((draft, signing, last));
        }
    }
}

impl<B> SealBody<B> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        SealBody { kind: SealKind::Whole(bytes) }
    }

    pub(super) fn records(first: Bytes, rest: Option<Sealing<B>>) -> Self {
        SealBody { kind: SealKind::Records { first, rest: rest.map(Box::new) } }
    }

    pub(super) fn plain(body: B) -> Self {
        SealBody { kind: SealKind::Plain(Box::pin(body)) }
    }
}

impl<B> Body for SealBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut self.get_mut().kind {
            SealKind::Whole(bytes) | SealKind::Records { first: bytes, .. } if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            SealKind::Whole(_) => Poll::Ready(None),
            SealKind::Records { rest, .. } => {
                poll_seal(rest, cx).map(|record| record.map(|record| record.map(Frame::data)))
            }
            SealKind::Plain(body) => poll_plain(body, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            SealKind::Whole(bytes) => bytes.is_empty(),
            SealKind::Records { first, rest } => first.is_empty() && rest.is_none(),
            SealKind::Plain(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            SealKind::Whole(bytes) | SealKind::Records { first: bytes, rest: None } => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            SealKind::Records { .. } => SizeHint::default(),
            SealKind::Plain(body) => body.size_hint(),
        }
    }
}

/// Seals the next piece. A body that fails ends without FINAL, and with its error.
fn poll_seal<B>(rest: &mut Option<Box<Sealing<B>>>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let Some(sealing) = rest else {
        return Poll::Ready(None);
    };
    let (record, over) = match ready!(sealing.poll_record(cx)) {
        Ok((record, last)) => (Ok(record), last == Final::Yes),
        Err(error) => (Err(error), true),
    };
    if over {
        *rest = None;
    }
    Poll::Ready(Some(record))
}

/// A body as it came out of records, every check held; or, in plaintext mode, the outer body as it is.
///
/// It ends well only with the stream's FINAL record: anything else is an error. Its data may share the buffer into
/// which the transport has read it: copy what is to be kept for long.
pub struct OpenBody<B> {
    kind: OpenKind<B>,
}

enum OpenKind<B> {
    Records { content: Bytes, rest: Option<Box<Opening<B>>> },
    Plain(Pin<Box<B>>),
}

/// Records without content that are opened before others have a turn; each may cost a verification.
const EMPTY_IN_A_ROW: usize = 32;

/// A stream that is being opened.
pub(super) struct Opening<B> {
    pub(super) frames: Frames<B>,
    pub(super) opener: Opener,
    pub(super) budget: Budget,
    /// Where to say that the stream failed.
    pub(super) failure: Option<Arc<Failure>>,
}

/// Whether a stream failed: a server asks before it answers.
pub(super) struct Failure {
    config: Config,
    error: OnceLock<Error>,
    /// Whether nobody is going to ask, so that the failure has to be counted where it happens.
    answered: AtomicBool,
}

impl Failure {
    pub(super) fn new(config: Config, answered: bool) -> Self {
        Failure { config, error: OnceLock::new(), answered: AtomicBool::new(answered) }
    }

    /// What has been found so far. From now on nobody asks.
    pub(super) fn found(&self) -> Option<Error> {
        self.answered.store(true, Ordering::Release);
        self.error.get().cloned()
    }

    fn get(&self) -> Option<&Error> {
        self.error.get()
    }

    fn set(&self, error: &Error) {
        let _ = self.error.set(error.clone());
        if self.answered.load(Ordering::Acquire) {
            count(self.config.telemetry(), error);
        }
    }
}

/// Bytes of content that may still come.
pub(super) struct Budget(u64);

impl Budget {
    /// Errors: `too_large` when `content` is over it already.
    pub(super) fn new(limit: u64, content: &Bytes) -> Result<Self> {
        let mut budget = Budget(limit);
        budget.spend(content.len())?;
        Ok(budget)
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        let Some(left) = self.0.checked_sub(bytes as u64) else {
            return Err(Error::new(Code::TooLarge, "a body above the configured limit"));
        };
        self.0 = left;
        Ok(())
    }
}

impl<B> OpenBody<B> {
    pub(super) fn records(content: Bytes, rest: Option<Opening<B>>) -> Self {
        OpenBody { kind: OpenKind::Records { content, rest: rest.map(Box::new) } }
    }

    pub(super) fn plain(body: B) -> Self {
        OpenBody { kind: OpenKind::Plain(Box::pin(body)) }
    }
}

impl<B> Body for OpenBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut self.get_mut().kind {
            OpenKind::Records { content, .. } if !content.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(content)))))
            }
            OpenKind::Records { rest, .. } => {
                let Some(opening) = rest else {
                    return Poll::Ready(None);
                };
                let content = ready!(opening.poll_content(cx));
                if let (Some(Err(error)), Some(failure)) = (&content, &opening.failure) {
                    failure.set(error);
                }
                if !matches!(content, Some(Ok(_))) || opening.is_over() {
                    *rest = None;
                }
                Poll::Ready(content.map(|content| content.map(Frame::data)))
            }
            OpenKind::Plain(body) => poll_plain(body, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            OpenKind::Records { content, rest } => content.is_empty() && rest.is_none(),
            OpenKind::Plain(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            OpenKind::Records { content, rest: None } => SizeHint::with_exact(content.len() as u64),
            OpenKind::Records { .. } => SizeHint::default(),
            OpenKind::Plain(body) => body.size_hint(),
        }
    }
}

impl<B> Opening<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The content of the next record that has any. After FINAL it waits for the end of the outer body, since
    /// anything that follows is an error.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        for _ in 0..EMPTY_IN_A_ROW {
            if self.opener.is_finished() {
                return self.frames.poll_end(cx).map(|end| end.err().map(Err));
            }
            let content = match ready!(self.frames.poll_record(cx)) {
                Ok(Some(record)) => self.opener.open(record, now()),
                Ok(None) => Err(Error::new(Code::Truncated, "the body ended without a FINAL record")),
                Err(error) => Err(error),
            }
            .and_then(|opened| self.budget.spend(opened.plaintext.len()).map(|()| opened.plaintext));
            match content {
                Ok(content) if content.is_empty() => {}
                content => return Poll::Ready(Some(content)),
            }
        }
        // A body that has nothing but these at hand, and no end of them, must not keep the executor from all else.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether FINAL has come and nothing can follow.
    pub(super) fn is_over(&self) -> bool {
        self.opener.is_finished() && self.frames.is_at_end()
    }
}

fn poll_plain<B>(body: &mut Pin<Box<B>>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    body.as_mut().poll_frame(cx).map(|frame| {
        frame.map(|frame| {
            frame
                .map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
                .map_err(|error| Error::Transport(Arc::from(error.into())))
        })
    })
}

impl<B> std::fmt::Debug for SealBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealBody").finish_non_exhaustive()
    }
}

impl<B> std::fmt::Debug for OpenBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenBody").finish_non_exhaustive()
    }
}

/// Reads a short outer body, of a handshake or an error.
///
/// Errors: `too_large` above `limit` bytes; `Transport`.
pub(super) async fn collect<B>(body: B, limit: usize) -> Result<Vec<u8>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|error| Error::Transport(Arc::from(error.into())))?;
        if let Ok(mut data) = frame.into_data() {
            if bytes.len() + data.remaining() > limit {
                return Err(Error::new(Code::TooLarge, "a message above its limit"));
            }
            while data.has_remaining() {
                bytes.extend_from_slice(data.chunk());
                data.advance(data.chunk().len());
            }
        }
    }
    Ok(bytes)
}

/// Counts an error that opening found, where it has a code.
pub(super) fn count(telemetry: &Telemetry, error: &Error) {
    if let Some(code) = error.code() {
        telemetry.reject(code);
    }
}
