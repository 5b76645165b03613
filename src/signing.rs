//! Signs records together that are ready together: for the shells, which have an executor.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::task::yield_now;

use crate::{
    config::Config,
    error::Result,
    identity::{Proof, Ticket},
    protocol::{self, Draft},
};

/// The record as it goes on the wire, signed where it has to be.
///
/// Errors: `busy` where the backend gets no memory.
pub(crate) async fn sign(config: &Config, draft: Draft) -> Result<Bytes> {
    let proof = Signing::new(config, draft.leaf()).await?;
    Ok(draft.write(proof.as_ref()))
}

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
    type Output = Result<Option<Proof>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Option<Proof>>> {
        let this = self.get_mut();
        let Some(config) = &this.config else { return Poll::Ready(Ok(None)) };
        let queue = config.identity().queue();
        let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
        match &this.state {
            State::Bare => Poll::Ready(Ok(None)),
            State::Fresh(leaf) => {
                let most = config.bounds().signed_together;
                if most <= 1 {
                    return Poll::Ready(sign(leaf, 1).map(|signature| Some(Proof::alone(signature))));
                }
                this.state = State::Queued(queue.join(*leaf, most, sign));
                // All that it does is to wake this task when the others have had their turn.
                pin!(yield_now()).poll(cx).map(|()| Ok(None))
            }
            State::Queued(ticket) => ticket.poll(queue, cx, sign).map_ok(Some),
        }
    }
}
