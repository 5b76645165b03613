//! Signs records together that are ready together: for the shells, which have an executor.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::task::yield_now;

use crate::{
    config::Config,
    identity::{Proof, Ticket},
    protocol,
};

/// The proof of a leaf, and none where there is no leaf to sign.
///
/// It lets everything else that is ready have one turn, so that it can be in the same batch; a record that is
/// alone waits for nothing.
pub(crate) struct Signing {
    config: Option<Config>,
    state: State,
}

enum State {
    Fresh([u8; 32]),
    Queued(Ticket),
    /// There is nothing to sign.
    Bare,
}

impl Signing {
    pub(crate) fn new(config: &Config, leaf: Option<[u8; 32]>) -> Self {
        match leaf {
            Some(leaf) => Signing { config: Some(config.clone()), state: State::Fresh(leaf) },
            None => Signing { config: None, state: State::Bare },
        }
    }
}

impl Future for Signing {
    type Output = Option<Proof>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Proof>> {
        let this = self.get_mut();
        let Some(config) = &this.config else { return Poll::Ready(None) };
        let queue = config.identity().queue();
        let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
        match &this.state {
            State::Bare => Poll::Ready(None),
            State::Fresh(leaf) => {
                let most = config.bounds().signed_together;
                if most <= 1 {
                    return Poll::Ready(Some(Proof::alone(sign(leaf, 1))));
                }
                this.state = State::Queued(queue.join(*leaf, most, sign));
                // All that it does is to wake this task when the others have had their turn.
                pin!(yield_now()).poll(cx).map(|()| None)
            }
            State::Queued(ticket) => Poll::Ready(Some(ready!(ticket.poll(queue, cx, sign)))),
        }
    }
}
