//! Group commit for signatures: leaves that are ready together are signed together, once.
//!
//! ```text
//!  join ──> the open batch ── whoever looks first, once those who are ready have had turns ──> signs for all
//!                └── while somebody signs, those that come wait in the next one
//! ```
//!
//! Where leaves have come one at a time, whoever comes signs at once; only every eighth looks whether that has
//! changed.
//!
//! There is no timer, and nobody is in charge: any of those that wait may sign for all. So none of them can be
//! left behind by another that is dropped, or not polled any more.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use super::Signature;
use crate::{error::Result, suite::tree::Tree};

/// The most leaves in one batch. Beyond, a signature is a small part of the costs, and paths grow.
pub(crate) const MOST_LEAVES: usize = 256;

/// After so many batches of one leaf each, the next is expected to be alone, too, and need not wait; but of so many,
/// one does. So of many leaves that come at once, fewer than these are signed alone before the others are noticed.
const LONELY: u32 = 8;

/// The leaves of one identity that wait to be signed.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leaves: Vec<[u8; 32]>,
    batch: Arc<Batch>,
    /// How many batches in a row had one leaf.
    lonely: u32,
    /// How many are signing just now.
    signing: usize,
    /// Who is to look again when one of them has done so.
    waiting: Vec<Waker>,
    /// How often those have been woken.
    wakes: u64,
}

/// Empty until it has been signed; `None` if whoever wanted to sign it could not go on.
#[derive(Default)]
struct Batch(OnceLock<Option<SignedTree>>);

struct SignedTree {
    tree: Tree,
    signature: Signature,
}

/// A place in a batch.
pub(crate) struct Ticket {
    batch: Arc<Batch>,
    leaf: [u8; 32],
    index: u32,
    /// Whom [`company`](Self::company) has had woken, and when.
    noted: Option<(u64, Waker)>,
}

/// What a record carries so that it can be verified: a signature, and the way from its leaf to what was signed.
pub(crate) struct Proof {
    signature: Signature,
    place: Option<(Arc<Batch>, u32)>,
}

impl Queue {
    /// Adds a leaf to the open batch. One that has `most` leaves, or more, is signed first, by `sign`, which gets a
    /// root and how many leaves are below it.
    pub(crate) fn join(
        &self,
        leaf: [u8; 32],
        most: usize,
        sign: impl Fn(&[u8; 32], usize) -> Result<Signature>,
    ) -> Ticket {
        let mut state = self.state();
        while state.leaves.len() >= most.clamp(1, MOST_LEAVES) {
            let (leaves, batch) = state.take();
            drop(state);
            self.commit(leaves, &batch, &sign);
            state = self.state();
        }
        let index = state.leaves.len() as u32;
        state.leaves.push(leaf);
        Ticket { batch: state.batch.clone(), leaf, index, noted: None }
    }

    /// Signs a batch that has been taken, and wakes all who wait.
    fn commit(
        &self,
        leaves: Vec<[u8; 32]>,
        batch: &Batch,
        sign: impl FnOnce(&[u8; 32], usize) -> Result<Signature>,
    ) {
        let ending = Ending { queue: self, batch };
        if let Some(tree) = Tree::new(leaves)
            && let Ok(signature) = sign(&tree.root(), tree.len())
        {
            batch.0.get_or_init(|| Some(SignedTree { tree, signature }));
        }
        drop(ending);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it may pay to wait for others. While somebody signs, everybody has to wait anyway.
    fn expects_company(&self) -> bool {
        let is_alone = self.leaves.len() == 1 && self.signing == 0;
        !is_alone || self.lonely < LONELY || self.lonely.is_multiple_of(LONELY)
    }

    /// Closes the open batch. Whoever takes it commits it.
    fn take(&mut self) -> (Vec<[u8; 32]>, Arc<Batch>) {
        self.signing += 1;
        self.lonely = if self.leaves.len() == 1 { self.lonely.wrapping_add(1) } else { 0 };
        let leaves = Vec::with_capacity(self.leaves.len());
        (std::mem::replace(&mut self.leaves, leaves), std::mem::take(&mut self.batch))
    }
}

/// The end of signing, also by a panic: those that waited for it then sign for themselves.
struct Ending<'a> {
    queue: &'a Queue,
    batch: &'a Batch,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.batch.0.get_or_init(|| None);
        let mut state = self.queue.state();
        state.signing -= 1;
        let waiting = std::mem::take(&mut state.waiting);
        state.wakes += 1;
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Ticket {
    /// Whether somebody has signed its batch, or given up.
    pub(crate) fn is_signed(&self) -> bool {
        self.batch.0.get().is_some()
    }

    /// How many leaves its batch has so far; `None` once nobody can join it any more, or is expected to. Wakes when
    /// somebody has signed.
    pub(crate) fn company(&mut self, queue: &Queue, cx: &Context<'_>) -> Option<usize> {
        let mut state = queue.state();
        if !Arc::ptr_eq(&state.batch, &self.batch) || !state.expects_company() {
            return None;
        }
        let is_noted = |(when, waker): &(u64, Waker)| *when == state.wakes && waker.will_wake(cx.waker());
        if !self.noted.as_ref().is_some_and(is_noted) {
            state.waiting.push(cx.waker().clone());
            self.noted = Some((state.wakes, cx.waker().clone()));
        }
        Some(state.leaves.len())
    }

    /// Ready once the batch has been signed: by this call, if nobody has done so and nobody is signing.
    ///
    /// To be called when whatever else is ready has had a turn, so that it can be in the same batch.
    ///
    /// Errors: those of `sign`.
    pub(crate) fn poll(
        &self,
        queue: &Queue,
        cx: &mut Context<'_>,
        sign: impl Fn(&[u8; 32], usize) -> Result<Signature>,
    ) -> Poll<Result<Proof>> {
        if !self.is_signed() {
            let mut state = queue.state();
            if Arc::ptr_eq(&state.batch, &self.batch) && state.signing == 0 {
                let (leaves, batch) = state.take();
                drop(state);
                queue.commit(leaves, &batch, &sign);
            } else if !self.is_signed() {
                // Whoever is signing wakes all who are here before it leaves.
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(match self.batch.0.get() {
            Some(Some(signed)) if signed.tree.depth() > 0 => {
                Proof { signature: signed.signature, place: Some((self.batch.clone(), self.index)) }
            }
            Some(Some(signed)) => Proof::alone(signed.signature),
            _ => Proof::alone(sign(&self.leaf, 1)?),
        }))
    }
}

impl Proof {
    /// Of a record whose leaf is the root.
    pub(crate) fn alone(signature: Signature) -> Self {
        Proof { signature, place: None }
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    pub(crate) fn index(&self) -> u32 {
        self.place.as_ref().map_or(0, |(_, index)| *index)
    }

    /// How many siblings there are: at most 8, for as many leaves as a batch has here.
    pub(crate) fn depth(&self) -> usize {
        self.tree().map_or(0, Tree::depth)
    }

    /// From the leaf up.
    pub(crate) fn siblings(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.tree().into_iter().flat_map(|tree| tree.siblings(self.index()))
    }

    fn tree(&self) -> Option<&Tree> {
        let (batch, _) = self.place.as_ref()?;
        batch.0.get()?.as_ref().map(|signed| &signed.tree)
    }
}

#[cfg(test)]
mod tests;
