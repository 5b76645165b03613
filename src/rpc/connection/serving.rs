//! The service's end of a connection: messages that wait for it, run in it, and its answers.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream as _, stream::FuturesUnordered};
use tower_service::Service;

use super::reason;
use crate::{
    config::Limits,
    error::Result,
    rpc::{
        BoxError, Message,
        fault::{Fault, error_answer, error_answers},
    },
    telemetry,
    trust::Verified,
};

/// Everything here is bounded: what waits by number and bytes, what runs or has been answered by number, and
/// what is refused by number and bytes.
pub(super) struct Serving<S: Service<Message>> {
    service: S,
    pub(super) caller: Option<Verified>,
    waiting: VecDeque<(Wants, Bytes)>,
    waiting_bytes: usize,
    /// Whether one waits for which there was no room.
    is_overfull: bool,
    running: FuturesUnordered<Running<S::Future>>,
    /// In the order in which they came about. Each keeps its place among the running until it leaves.
    answers: VecDeque<Answer>,
    /// Of answers that are errors made here, since each repeats an id that may be long.
    refused_bytes: usize,
    most_waiting: usize,
    most_waiting_bytes: usize,
    most_running: usize,
}

/// What answer a message wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// One to the request with this id, which is JSON text.
    Answer(Box<str>),
    /// An array, to this.
    Batch(Bytes),
    Nothing,
}

impl<S> Serving<S>
where
    S: Service<Message, Response = Option<Bytes>>,
    S::Error: Into<BoxError>,
{
    pub(super) fn new(service: S, limits: &Limits) -> Self {
        Serving {
            service,
            caller: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            is_overfull: false,
            running: FuturesUnordered::new(),
            answers: VecDeque::new(),
            refused_bytes: 0,
            most_waiting: limits.in_flight.max(1),
            most_waiting_bytes: limits.waiting_bytes.max(1),
            most_running: limits.serving.max(1),
        }
    }

    /// Whether another message may be read off the connection.
    ///
    /// While calls of ours wait, `for_answers`, it may even if there is no room for another to wait: the calls'
    /// answers could be behind it, and the service may be what waits for them. And it may even if the far side does
    /// not read our answers, which may be because it writes to us: a side stops only at more unanswered requests of
    /// the other than it may have calls of its own, and so of two that call each other never both do. But for calls
    /// that were given up, and notifications without room: then nothing is read until there is some.
    pub(super) fn takes_more(&self, for_answers: bool) -> bool {
        let (most_answers, has_room) = if for_answers {
            (self.most_running.saturating_add(self.most_waiting), !self.is_overfull)
        } else {
            (self.most_running, self.has_room())
        };
        has_room && self.answers.len() < most_answers && self.refused_bytes < self.most_waiting_bytes
    }

    /// Whether nothing waits, runs, or is to leave.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.answers.is_empty()
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.most_waiting && self.waiting_bytes < self.most_waiting_bytes
    }

    /// Takes a message for the service. One that wants an answer and for which there is no room gets an error.
    pub(super) fn take(&mut self, wants: Wants, message: Bytes) {
        if !self.has_room() {
            if let Some(busy) = wants.fault(Fault::Busy) {
                return self.refuse(busy);
            }
            self.is_overfull = true;
        }
        self.waiting_bytes = self.waiting_bytes.saturating_add(message.len());
        self.waiting.push_back((wants, message));
    }

    /// Answers in the service's place.
    pub(super) fn refuse(&mut self, error: Bytes) {
        self.refused_bytes = self.refused_bytes.saturating_add(error.len());
        self.answers.push_back(Answer { bytes: error, to: Wants::Nothing });
    }

    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        let answer = self.answers.pop_front()?;
        if answer.to == Wants::Nothing {
            self.refused_bytes = self.refused_bytes.saturating_sub(answer.bytes.len());
        }
        Some(answer)
    }

    /// Ends what runs, and forgets what waits.
    pub(super) fn stop(&mut self) {
        self.running = FuturesUnordered::new();
        self.waiting = VecDeque::new();
        self.answers = VecDeque::new();
    }

    /// Starts what may start, and collects what is done.
    ///
    /// Errors: that of the service, when it can take nothing any more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            while let Poll::Ready(Some((wants, result))) = Pin::new(&mut self.running).poll_next(cx) {
                self.finish(wants, result);
            }
            if !self.start(cx)? {
                return Ok(());
            }
        }
    }

    /// Whether any began.
    fn start(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let mut began = false;
        while !self.waiting.is_empty() && self.running.len() + self.answers.len() < self.most_running {
            match self.service.poll_ready(cx) {
                Poll::Ready(ready) => ready.map_err(reason)?,
                Poll::Pending => break,
            }
            let Some((wants, bytes)) = self.waiting.pop_front() else { break };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes.len());
            self.is_overfull &= !self.has_room();
            let future = self.service.call(Message { bytes, caller: self.caller });
            self.running.push(Running { wants, future: Box::pin(future) });
            began = true;
        }
        Ok(began)
    }

    fn finish(&mut self, wants: Wants, result: Result<Option<Bytes>, S::Error>) {
        match (wants, result) {
            // It has none, whatever the service says.
            (Wants::Nothing, _) | (_, Ok(None)) => {}
            (to, Ok(Some(bytes))) => self.answers.push_back(Answer { bytes, to }),
            (to, Err(_)) => {
                if let Some(error) = to.fault(Fault::Internal) {
                    self.refuse(error);
                }
            }
        }
    }
}

impl Wants {
    /// An answer that says why there is no other.
    fn fault(&self, fault: Fault) -> Option<Bytes> {
        match self {
            Wants::Answer(id) => Some(error_answer(Some(id), fault)),
            Wants::Batch(batch) => error_answers(batch, fault),
            Wants::Nothing => None,
        }
    }
}

/// An answer that is to leave.
pub(super) struct Answer {
    pub(super) bytes: Bytes,
    /// What it answers; `Nothing` for one that is an error made here.
    to: Wants,
}

impl Answer {
    /// What to send instead of an answer that the connection does not take.
    pub(super) fn instead(&self) -> Option<Self> {
        self.to.fault(Fault::TooLarge).map(|bytes| Answer { bytes, to: Wants::Nothing })
    }
}

struct Running<F> {
    wants: Wants,
    future: Pin<Box<F>>,
}

impl<F: Future<Output = Result<Option<Bytes>, E>>, E> Future for Running<F> {
    type Output = (Wants, F::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.future.as_mut().poll(cx));
        if result.is_err() {
            // Not which: the text of it may hold what was said.
            tracing::debug!(target: telemetry::TARGET, "a service failed to answer a message");
        }
        Poll::Ready((std::mem::replace(&mut self.wants, Wants::Nothing), result))
    }
}
