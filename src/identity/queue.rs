//! Group commit for signatures: leaves that are ready together are signed together, once.
//!
//! ```text
//!  join ──> the open batch ── whoever looks first, once those who are ready have had turns ──> signs for all
//!                └── while somebody signs, those that come wait in the next one
//! ```
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

/// The leaves of one identity that wait to be signed.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leaves: Vec<[u8; 32]>,
    batch: Arc<Batch>,
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
    /// Closes the open batch. Whoever takes it commits it.
    fn take(&mut self) -> (Vec<[u8; 32]>, Arc<Batch>) {
        self.signing += 1;
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

    /// How many leaves its batch has so far; `None` once nobody can join it any more. Wakes when somebody has signed.
    pub(crate) fn company(&mut self, queue: &Queue, cx: &Context<'_>) -> Option<usize> {
        let mut state = queue.state();
        if !Arc::ptr_eq(&state.batch, &self.batch) {
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
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;
    use crate::suite::tree::root;

    /// Stands for a signature: the root, twice.
    fn sign(root: &[u8; 32], _: usize) -> Result<Signature> {
        Ok(Signature([*root, *root].concat().try_into().unwrap()))
    }

    fn leaf(number: usize) -> [u8; 32] {
        let mut leaf = [0; 32];
        leaf[..8].copy_from_slice(&number.to_be_bytes());
        leaf
    }

    fn holds(proof: &Proof, number: usize) {
        let siblings: Vec<u8> = proof.siblings().flatten().copied().collect();
        let root = root(leaf(number), proof.index(), &siblings);
        assert!(sign(&root, 0).unwrap() == *proof.signature(), "the proof of leaf {number}");
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(ticket: &Ticket, queue: &Queue) -> Poll<Result<Proof>> {
        ticket.poll(queue, &mut Context::from_waker(Waker::noop()), sign)
    }

    #[test]
    fn one_signature_for_all_that_wait_whoever_looks_first() {
        let queue = Queue::default();
        let count = AtomicUsize::new(0);
        let counted = |root: &[u8; 32], leaves| {
            count.fetch_add(1, Ordering::SeqCst);
            assert_eq!(leaves, 5);
            sign(root, leaves)
        };
        let tickets: Vec<Ticket> = (0..5).map(|number| queue.join(leaf(number), MOST_LEAVES, sign)).collect();
        for (number, ticket) in tickets.iter().enumerate().rev() {
            let Poll::Ready(Ok(proof)) =
                ticket.poll(&queue, &mut Context::from_waker(Waker::noop()), counted)
            else {
                panic!("nobody else is signing");
            };
            assert_eq!(proof.depth(), 3);
            holds(&proof, number);
        }
        assert_eq!(count.into_inner(), 1);
    }

    #[test]
    fn a_lone_leaf_has_no_path() {
        let queue = Queue::default();
        let Poll::Ready(Ok(proof)) = poll(&queue.join(leaf(7), 1, sign), &queue) else {
            panic!("it is alone")
        };
        assert_eq!((proof.depth(), proof.index()), (0, 0));
        holds(&proof, 7);
    }

    #[test]
    fn who_goes_leaves_nobody_behind() {
        let queue = Queue::default();
        let mut tickets: Vec<Ticket> =
            (0..4).map(|number| queue.join(leaf(number), MOST_LEAVES, sign)).collect();
        tickets.remove(0);
        tickets.remove(1);
        for (ticket, number) in tickets.iter().zip([1, 3]) {
            let Poll::Ready(Ok(proof)) = poll(ticket, &queue) else { panic!("nobody else is signing") };
            holds(&proof, number);
        }
        // When all go, their leaves are in the next batch, and nothing else is left of them.
        drop(queue.join(leaf(4), 2, sign));
        let Poll::Ready(Ok(proof)) = poll(&queue.join(leaf(5), 2, sign), &queue) else {
            panic!("it is alone")
        };
        holds(&proof, 5);
    }

    #[test]
    fn those_that_come_while_somebody_signs_go_together_and_are_woken() {
        let queue = Queue::default();
        let early = [queue.join(leaf(0), 2, sign), queue.join(leaf(1), 2, sign)];
        let (woken, late) = (Arc::new(Woken::default()), Mutex::new(Vec::new()));
        let waker = Waker::from(woken.clone());
        let slowly = |root: &[u8; 32], leaves| {
            // Another of the same batch, and two of the next one, look while this one is being signed.
            if leaves == 2 {
                let mut cx = Context::from_waker(&waker);
                assert!(early[1].poll(&queue, &mut cx, sign).is_pending());
                for number in [2, 3] {
                    let ticket = queue.join(leaf(number), 9, sign);
                    assert!(ticket.poll(&queue, &mut cx, sign).is_pending());
                    late.lock().unwrap().push(ticket);
                }
                assert_eq!(woken.0.load(Ordering::SeqCst), 0);
            }
            sign(root, leaves)
        };
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(proof)) = early[0].poll(&queue, &mut cx, slowly) else { panic!("it signs") };
        holds(&proof, 0);
        assert_eq!(woken.0.load(Ordering::SeqCst), 3);
        let Poll::Ready(Ok(proof)) = poll(&early[1], &queue) else { panic!("it has been signed") };
        holds(&proof, 1);
        for (number, ticket) in [2, 3].into_iter().zip(late.into_inner().unwrap()) {
            let Poll::Ready(Ok(proof)) = poll(&ticket, &queue) else { panic!("nobody is signing any more") };
            assert_eq!(proof.depth(), 1);
            holds(&proof, number);
        }
    }

    #[test]
    fn a_full_batch_is_signed_before_the_next_begins() {
        let queue = Queue::default();
        let tickets: Vec<Ticket> =
            (0..600).map(|number| queue.join(leaf(number), MOST_LEAVES, sign)).collect();
        for (number, ticket) in tickets.iter().enumerate() {
            let Poll::Ready(Ok(proof)) = poll(ticket, &queue) else { panic!("nobody is signing") };
            assert_eq!(proof.depth(), if number < 512 { 8 } else { 7 });
            holds(&proof, number);
        }
    }

    #[test]
    fn a_panic_of_one_loses_nobody_elses_signature() {
        let queue = Queue::default();
        let tickets = [queue.join(leaf(0), 2, sign), queue.join(leaf(1), 2, sign)];
        let mut cx = Context::from_waker(Waker::noop());
        let result = catch_unwind(AssertUnwindSafe(|| tickets[0].poll(&queue, &mut cx, |_, _| panic!("!"))));
        assert!(result.is_err());
        let Poll::Ready(Ok(proof)) = poll(&tickets[1], &queue) else { panic!("it signs for itself") };
        assert_eq!(proof.depth(), 0);
        holds(&proof, 1);
        let Poll::Ready(Ok(proof)) = poll(&queue.join(leaf(2), 1, sign), &queue) else {
            panic!("the queue works")
        };
        holds(&proof, 2);
    }

    #[test]
    fn who_cannot_sign_fails_alone() {
        let queue = Queue::default();
        let tickets = [queue.join(leaf(0), 2, sign), queue.join(leaf(1), 2, sign)];
        let mut cx = Context::from_waker(Waker::noop());
        let failed = tickets[0].poll(&queue, &mut cx, |_, _| Err(crate::Error::Decryption));
        assert!(matches!(failed, Poll::Ready(Err(_))));
        let Poll::Ready(Ok(proof)) = poll(&tickets[1], &queue) else { panic!("it signs for itself") };
        holds(&proof, 1);
    }

    #[test]
    fn threads_that_sign_at_once_get_what_they_need() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let queue = &queue;
                scope.spawn(move || {
                    for round in 0..500 {
                        let number = thread * 1000 + round;
                        let ticket = queue.join(leaf(number), 9, sign);
                        let woken = Arc::new(Woken::default());
                        let waker = Waker::from(woken.clone());
                        let proof = loop {
                            match ticket.poll(queue, &mut Context::from_waker(&waker), sign) {
                                Poll::Ready(proof) => break proof.unwrap(),
                                // A wake that is lost would leave it here for ever.
                                Poll::Pending => {
                                    while woken.0.swap(0, Ordering::SeqCst) == 0 {
                                        std::thread::yield_now();
                                    }
                                }
                            }
                        };
                        holds(&proof, number);
                    }
                });
            }
        });
    }
}
