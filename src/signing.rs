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
/// It waits in the queue from the beginning. When it is polled, it lets everything else that is ready have one turn,
/// so that it can be in the same batch; a record that is alone waits for nothing.
pub(crate) struct Signing(Option<Waiting>);

struct Waiting {
    config: Config,
    leaf: [u8; 32],
    /// `None` if it is signed alone.
    ticket: Option<Ticket>,
    others_had_a_turn: bool,
}

impl Signing {
    pub(crate) fn new(config: &Config, leaf: Option<[u8; 32]>) -> Self {
        Signing(leaf.map(|leaf| {
            let most = config.bounds().signed_together;
            let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
            let ticket = (most > 1).then(|| config.identity().queue().join(leaf, most, sign));
            Waiting { config: config.clone(), leaf, ticket, others_had_a_turn: false }
        }))
    }
}

impl Future for Signing {
    type Output = Result<Option<Proof>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(Waiting { config, leaf, ticket, others_had_a_turn }) = &mut self.0 else {
            return Poll::Ready(Ok(None));
        };
        let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
        let Some(ticket) = ticket else {
            return Poll::Ready(sign(leaf, 1).map(|signature| Some(Proof::alone(signature))));
        };
        if !ticket.is_signed() && !std::mem::replace(others_had_a_turn, true) {
            // All that it does is to wake this task when the others have had their turn.
            return pin!(yield_now()).poll(cx).map(|()| Ok(None));
        }
        ticket.poll(config.identity().queue(), cx, sign).map_ok(Some)
    }
}
