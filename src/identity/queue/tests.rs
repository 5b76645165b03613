//! One signature for many, whoever comes, goes, fails or panics.

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

fn company(ticket: &mut Ticket, queue: &Queue) -> Option<usize> {
    ticket.company(queue, &Context::from_waker(Waker::noop()))
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
        let Poll::Ready(Ok(proof)) = ticket.poll(&queue, &mut Context::from_waker(Waker::noop()), counted)
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
    let Poll::Ready(Ok(proof)) = poll(&queue.join(leaf(7), 1, sign), &queue) else { panic!("it is alone") };
    assert_eq!((proof.depth(), proof.index()), (0, 0));
    holds(&proof, 7);
}

#[test]
fn who_has_been_alone_waits_for_company_only_now_and_then() {
    let queue = Queue::default();
    for turn in 0..=2 * LONELY + 1 {
        let mut ticket = queue.join(leaf(0), MOST_LEAVES, sign);
        let waits = turn <= LONELY || turn == 2 * LONELY;
        assert_eq!(company(&mut ticket, &queue), waits.then_some(1), "{turn}");
        assert!(poll(&ticket, &queue).is_ready());
    }

    // Once somebody has had company, everybody waits for it again; and who has it waits in any case.
    let mut tickets = [queue.join(leaf(1), MOST_LEAVES, sign), queue.join(leaf(2), MOST_LEAVES, sign)];
    assert!(tickets.iter_mut().all(|ticket| company(ticket, &queue) == Some(2)));
    assert!(poll(&tickets[0], &queue).is_ready());
    assert_eq!(company(&mut queue.join(leaf(3), MOST_LEAVES, sign), &queue), Some(1));
}

#[test]
fn who_has_to_wait_for_anothers_signature_waits_for_company_meanwhile() {
    let queue = Queue::default();
    for number in 0..=LONELY {
        assert!(poll(&queue.join(leaf(number as usize), MOST_LEAVES, sign), &queue).is_ready());
    }
    let mut ticket = queue.join(leaf(0), MOST_LEAVES, sign);
    assert_eq!(company(&mut ticket, &queue), None);
    let slowly = |root: &[u8; 32], leaves| {
        assert_eq!(company(&mut queue.join(leaf(1), MOST_LEAVES, sign), &queue), Some(1));
        sign(root, leaves)
    };
    assert!(ticket.poll(&queue, &mut Context::from_waker(Waker::noop()), slowly).is_ready());
}

#[test]
fn who_goes_leaves_nobody_behind() {
    let queue = Queue::default();
    let mut tickets: Vec<Ticket> = (0..4).map(|number| queue.join(leaf(number), MOST_LEAVES, sign)).collect();
    tickets.remove(0);
    tickets.remove(1);
    for (ticket, number) in tickets.iter().zip([1, 3]) {
        let Poll::Ready(Ok(proof)) = poll(ticket, &queue) else { panic!("nobody else is signing") };
        holds(&proof, number);
    }
    // When all go, their leaves are in the next batch, and nothing else is left of them.
    drop(queue.join(leaf(4), 2, sign));
    let Poll::Ready(Ok(proof)) = poll(&queue.join(leaf(5), 2, sign), &queue) else { panic!("it is alone") };
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
    let tickets: Vec<Ticket> = (0..600).map(|number| queue.join(leaf(number), MOST_LEAVES, sign)).collect();
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
