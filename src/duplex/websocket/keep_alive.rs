//! When to ping, and when to give up.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Limits;

/// Pings are no closer to each other, whatever the limits say.
const CLOSEST: Duration = Duration::from_millis(10);

/// What goes on where nothing comes.
///
/// ```text
///  Quiet ── nothing heard for `ping` ──> Due ── the ping has left ──> Asked ── nothing heard for `pong` ──> dead
///                                         └── nothing taken for `stall` ──> dead
/// ```
pub(super) struct KeepAlive {
    ping: Duration,
    pong: Duration,
    stall: Duration,
    state: State,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Quiet,
    /// A ping is to be sent, or waits to be written behind other messages.
    Due {
        since: Instant,
        is_queued: bool,
    },
    /// A ping has left, and any sign of life is an answer.
    Asked(Instant),
}

/// What has become necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Ping,
    /// The far side is silent, or takes nothing: give up.
    End(&'static str),
}

impl KeepAlive {
    pub(super) fn new(limits: &Limits) -> Self {
        KeepAlive {
            ping: limits.ping.max(CLOSEST),
            pong: limits.pong,
            stall: limits.stall,
            state: State::Quiet,
            timer: None,
        }
    }

    /// Whether a ping is still to be handed to the WebSocket.
    pub(super) fn wants_ping(&self) -> bool {
        matches!(self.state, State::Due { is_queued: false, .. })
    }

    pub(super) fn queued(&mut self) {
        if let State::Due { is_queued, .. } = &mut self.state {
            *is_queued = true;
        }
    }

    /// All that was to be written is.
    pub(super) fn flushed(&mut self) {
        if let State::Due { is_queued: true, .. } = self.state {
            self.state = State::Asked(Instant::now());
        }
    }

    /// To be asked when nothing more is there to be read. `heard` is when bytes last came, of whatever message;
    /// `taken`, when some last went.
    pub(super) fn poll(&mut self, heard: Instant, taken: Instant, cx: &mut Context<'_>) -> Poll<Need> {
        loop {
            match self.state {
                State::Due { since, is_queued: false } if heard > since => self.state = State::Quiet,
                State::Asked(at) if heard >= at => self.state = State::Quiet,
                _ => {}
            }
            let (since, limit) = match self.state {
                State::Quiet => (heard, self.ping),
                State::Due { since, .. } => (since.max(heard).max(taken), self.stall),
                State::Asked(at) => (at, self.pong),
            };
            let now = Instant::now();
            let Some(until) = since.checked_add(limit) else {
                return Poll::Pending;
            };
            if now >= until {
                return Poll::Ready(match self.state {
                    State::Quiet => {
                        self.state = State::Due { since: now, is_queued: false };
                        Need::Ping
                    }
                    State::Due { .. } => Need::End("the far side takes nothing any more"),
                    State::Asked(_) => Need::End("the far side does not answer pings"),
                });
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            // Set for another state it may be too late; too early does no harm.
            if timer.deadline() > until || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}
