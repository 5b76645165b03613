//! Signs records together that are ready together: for the shells, which have an executor.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
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
    turn: Option<Arc<Turn>>,
}

/// That of everything else that is ready: over when the executor says so, and not because somebody polls once more.
#[derive(Default)]
struct Turn {
    is_over: AtomicBool,
    task: AtomicWaker,
}

impl Turn {
    fn begin(cx: &Context<'_>) -> Arc<Self> {
        let turn = Arc::new(Turn::default());
        turn.task.register(cx.waker());
        // All that it does is to wake when the others have had their turn.
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&Waker::from(turn.clone())));
        turn
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        if self.is_over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Signing {
    pub(crate) fn new(config: &Config, leaf: Option<[u8; 32]>) -> Self {
        Signing(leaf.map(|leaf| {
            let most = config.bounds().signed_together;
            let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
            let ticket = (most > 1).then(|| config.identity().queue().join(leaf, most, sign));
            Waiting { config: config.clone(), leaf, ticket, turn: None }
        }))
    }

    /// Whether it waits for nothing.
    #[cfg_attr(not(feature = "duplex"), expect(dead_code, reason = "only a connection has more than one"))]
    pub(crate) fn is_ready(&self) -> bool {
        self.0.as_ref().and_then(|waiting| waiting.ticket.as_ref()).is_none_or(Ticket::is_signed)
    }
}

impl Future for Signing {
    type Output = Result<Option<Proof>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(Waiting { config, leaf, ticket, turn }) = &mut self.0 else {
            return Poll::Ready(Ok(None));
        };
        let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
        let Some(ticket) = ticket else {
            return Poll::Ready(sign(leaf, 1).map(|signature| Some(Proof::alone(signature))));
        };
        if !ticket.is_signed() && turn.get_or_insert_with(|| Turn::begin(cx)).poll(cx).is_pending() {
            return Poll::Pending;
        }
        ticket.poll(config.identity().queue(), cx, sign).map_ok(Some)
    }
}
