//! What both halves of a connection share: the transport, and how the connection ended.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker, ready},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _, task::AtomicWaker};
use tokio::time::{Sleep, sleep};

use super::{Frame, Transport, as_end, now, transport_error};
use crate::{
    config::Config,
    error::{Code, Error},
    protocol::{MAX_ERROR, MessageKind, error_message},
    telemetry::{self, Metric},
    trust::Verified,
};

/// How long the last words, and the end of the transport, may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// The lock is held within a poll only, and while nothing is sealed or opened.
pub(super) struct Link<T> {
    wire: Mutex<Wire<T>>,
    tasks: Arc<Tasks>,
    /// Wakes both halves, as either of them may have to go on with what the other began.
    waker: Waker,
    pub(super) config: Config,
    pub(super) peer: Option<Verified>,
}

#[derive(Default)]
pub(super) struct Tasks {
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
}

/// A half that waits for nothing any more is not woken for the sake of the other.
pub(super) fn settled<R>(waker: &AtomicWaker, polled: Poll<R>) -> Poll<R> {
    if polled.is_ready() {
        waker.take();
    }
    polled
}

impl Wake for Tasks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl<T> Link<T> {
    /// `peer` is `None` in plaintext.
    pub(super) fn new(transport: T, config: Config, peer: Option<Verified>) -> Self {
        config.telemetry().count(Metric::ConnectionsLive);
        let tasks = Arc::new(Tasks::default());
        let wire = Wire {
            transport,
            config: config.clone(),
            tasks: tasks.clone(),
            failure: None,
            leaving: None,
            patience: None,
            active: now(),
            sent_final: false,
            got_final: false,
            silent: false,
            sealed: peer.is_some(),
        };
        Link { wire: Mutex::new(wire), waker: Waker::from(tasks.clone()), tasks, config, peer }
    }

    /// Whether messages are sealed here, so that without a key nothing is sent or taken.
    pub(super) fn is_sealed(&self) -> bool {
        self.peer.is_some()
    }

    pub(super) fn wire(&self) -> MutexGuard<'_, Wire<T>> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// What the transport is polled with.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        self.config.telemetry().fall(Metric::ConnectionsLive);
    }
}

/// The transport, and where the connection stands.
pub(super) struct Wire<T> {
    pub(super) transport: T,
    config: Config,
    tasks: Arc<Tasks>,
    /// The first, and the only one that anybody gets.
    failure: Option<Error>,
    leaving: Option<Leaving>,
    patience: Option<Pin<Box<Sleep>>>,
    /// When the last message came or went.
    pub(super) active: Instant,
    pub(super) sent_final: bool,
    pub(super) got_final: bool,
    /// The transport has ended in the direction in which FINAL has come.
    pub(super) silent: bool,
    sealed: bool,
}

/// What is still to be done before the transport goes.
enum Leaving {
    Say(Frame),
    Close,
    Over,
}

/// Whether the far side is to be told of a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Peer,
    Nobody,
}

impl<T> Wire<T> {
    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Whether the transport has been closed.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.leaving, Some(Leaving::Over))
    }

    /// When nothing will have come or gone for too long; `None` for never.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        self.active.checked_add(self.config.bounds().duplex_idle)
    }

    /// Ends the connection with `error`, unless it has failed before.
    pub(super) fn fail(&mut self, error: Error, tell: Tell) {
        if self.failure.is_some() {
            return;
        }
        if let Some(code) = error.code() {
            self.config.telemetry().reject(code);
        }
        tracing::debug!(target: telemetry::TARGET, reason = %error, "connection failed");
        // What has no code is nothing that the far side could make sense of.
        let say = tell == Tell::Peer && self.sealed && error.code().is_some();
        self.leaving =
            Some(if say { Leaving::Say(Frame::Text(error_message(&error))) } else { Leaving::Close });
        self.failure = Some(error);
        self.tasks.wake_by_ref();
    }
}

impl<T: Transport> Wire<T> {
    /// What the transport reports is the end of the connection.
    pub(super) fn fail_by_transport(&mut self, error: T::Failure) {
        self.fail_by(transport_error(error));
    }

    pub(super) fn fail_by(&mut self, error: Error) {
        // After FINAL nothing is missing.
        let error = if self.got_final { error } else { as_end(error) };
        self.fail(error, Tell::Peer);
    }

    /// The failure, if there is one, once its last words are said.
    pub(super) fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        let Some(error) = self.failure.clone() else {
            return Poll::Ready(None);
        };
        self.poll_leave(cx).map(|()| Some(error))
    }

    /// Closes the transport, in a time that is bounded.
    pub(super) fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let was_over = self.is_over();
        if self.poll_words(cx).is_pending() {
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(FAREWELL)));
            ready!(patience.as_mut().poll(cx));
        }
        self.patience = None;
        if !was_over {
            self.leaving = Some(Leaving::Over);
            // The other half may be waiting for just that.
            self.tasks.wake_by_ref();
        }
        Poll::Ready(())
    }

    fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.leaving.take().unwrap_or(Leaving::Close) {
                Leaving::Say(frame) => {
                    let Poll::Ready(room) = self.transport.poll_ready_unpin(cx) else {
                        self.leaving = Some(Leaving::Say(frame));
                        return Poll::Pending;
                    };
                    // What is still going wrong changes nothing any more.
                    let _ = room.and_then(|()| self.transport.start_send_unpin(frame));
                    self.leaving = Some(Leaving::Close);
                }
                Leaving::Close => {
                    self.leaving = Some(Leaving::Close);
                    let _ = ready!(self.transport.poll_close_unpin(cx));
                    self.leaving = Some(Leaving::Over);
                }
                Leaving::Over => {
                    self.leaving = Some(Leaving::Over);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Looks whether anything follows the peer's FINAL, which nothing may, and lets the transport answer pings.
    /// Called by both halves, as nobody may read any more.
    pub(super) fn watch_silence(&mut self, cx: &mut Context<'_>) {
        if !self.sealed || !self.got_final || self.silent || self.leaving.is_some() {
            return;
        }
        match self.transport.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(frame))) if is_complaint(&frame) => self.fail(COMPLAINT, Tell::Nobody),
            Poll::Ready(Some(Ok(_))) => self.fail(Error::malformed("a message after FINAL"), Tell::Peer),
            Poll::Ready(Some(Err(error))) => self.fail_by_transport(error),
            Poll::Ready(None) => self.silent = true,
            Poll::Pending => {}
        }
    }
}

/// On an open connection an error of the peer, which nothing authenticates, is no more than its end.
pub(super) const COMPLAINT: Error =
    Error::new(Code::Truncated, "the far side, or somebody on the way, broke off with an error");

pub(super) fn is_complaint(frame: &Frame) -> bool {
    matches!(frame, Frame::Text(text) if is_error(text))
}

pub(super) fn is_error(text: &[u8]) -> bool {
    text.len() <= MAX_ERROR && MessageKind::of(text) == Some(MessageKind::Error)
}
