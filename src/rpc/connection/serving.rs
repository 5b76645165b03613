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
        fault::{Fault, error_answer},
    },
    telemetry,
    trust::Verified,
};

/// Everything here is bounded: what waits by number and bytes, what runs or has been answered by number.
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
    most_waiting: usize,
    most_waiting_bytes: usize,
    most_running: usize,
}

/// What answer a message wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// One to the request with this id, which is JSON text.
    Answer(Box<str>),
    /// An array.
    Batch,
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
            most_waiting: limits.in_flight.max(1),
            most_waiting_bytes: limits.record,
            most_running: limits.serving.max(1),
        }
    }

    /// Whether another message may be read off the connection.
    ///
    /// While calls of ours wait, `for_answers`, it may even if there is no room for another to wait: the calls'
    /// answers could be behind it, and the service may be what waits for them.
    pub(super) fn takes_more(&self, for_answers: bool) -> bool {
        self.answers.len() < self.most_running && (self.has_room() || for_answers && !self.is_overfull)
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.most_waiting && self.waiting_bytes < self.most_waiting_bytes
    }

    /// Takes a message for the service. A request for which there is no room gets an error for an answer.
    pub(super) fn take(&mut self, wants: Wants, message: Bytes) {
        match wants {
            Wants::Answer(id) if !self.has_room() => self.refuse(Some(&id), Fault::Busy),
            wants => {
                self.is_overfull = !self.has_room();
                self.waiting_bytes = self.waiting_bytes.saturating_add(message.len());
                self.waiting.push_back((wants, message));
            }
        }
    }

    /// Answers in the service's place.
    pub(super) fn refuse(&mut self, id: Option<&str>, fault: Fault) {
        self.answers.push_back(Answer::fault(id, fault));
    }

    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
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
        let answer = match (wants, result) {
            // It has none, whatever the service says.
            (Wants::Nothing, _) | (_, Ok(None)) => return,
            (to, Ok(Some(bytes))) => Answer { bytes, to },
            (to, Err(_)) => Answer::fault(to.id(), Fault::Internal),
        };
        self.answers.push_back(answer);
    }
}

impl Wants {
    fn id(&self) -> Option<&str> {
        match self {
            Wants::Answer(id) => Some(id),
            Wants::Batch | Wants::Nothing => None,
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
    fn fault(id: Option<&str>, fault: Fault) -> Self {
        Answer { bytes: error_answer(id, fault), to: Wants::Nothing }
    }

    /// What to send instead of an answer that the connection does not take.
    pub(super) fn instead(&self) -> Option<Self> {
        (self.to != Wants::Nothing).then(|| Answer::fault(self.to.id(), Fault::TooLarge))
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
