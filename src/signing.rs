//! Signs records together that are ready together: for the shells, which have an executor.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use futures_util::task::AtomicWaker;
use tokio::task::yield_now;

use crate::{
    config::Config,
    error::Result,
    identity::{Proof, queue::Ticket},
    protocol,
};

/// The proof of a leaf, and none where there is no leaf to sign.
///
/// It waits in the queue from the beginning. When it is polled, it lets everything else that is ready have a turn, so
/// that it can be in the same batch, and another one while leaves come, up to [`MOST_TURNS`]. A record that is alone
/// waits for nothing but that one turn; once eight in a row have been alone, only every eighth waits even for that.
pub(crate) struct Signing(Option<Waiting>);

struct Waiting {
    config: Config,
    leaf: [u8; 32],
    /// `None` if it is signed alone.
    ticket: Option<Ticket>,
    turn: Option<Turn>,
    /// How many turns the executor has given.
    turns: usize,
}

/// How many turns others get, lest a record that is ready wait for as long as work comes in.
const MOST_TURNS: usize = 4;

/// That of everything else that is ready: over when the executor says so, and not because somebody polls once more.
struct Turn {
    shared: Arc<Shared>,
    /// How many leaves there were when it began.
    leaves: usize,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    task: AtomicWaker,
}

/// What the executor holds for as long as the turn lasts. It may let go without a wake, as when a `block_on` returns:
/// that is the end of the turn, too.
struct Held(Arc<Shared>);

impl Turn {
    fn begin(leaves: usize, cx: &Context<'_>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.task.register(cx.waker());
        let held = Waker::from(Arc::new(Held(shared.clone())));
        // All that it does is to keep the waker until the others have had their turn. Where there are none, as in a
        // `block_on` beside the runtime's own threads, it wakes at once: then the turn is what this task does yet
        // before it is polled again.
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&held));
        Turn { shared, leaves }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.shared.task.register(cx.waker());
        if self.shared.is_over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Held {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.task.wake();
    }
}

impl Signing {
    pub(crate) fn new(config: &Config, leaf: Option<[u8; 32]>) -> Self {
        Signing(leaf.map(|leaf| {
            let most = config.bounds().signed_together;
            let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
            let ticket = (most > 1).then(|| config.identity().queue().join(leaf, most, sign));
            Waiting { config: config.clone(), leaf, ticket, turn: None, turns: 0 }
        }))
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.as_ref().and_then(|waiting| waiting.ticket.as_ref()).is_none_or(Ticket::is_signed)
    }
}

impl Future for Signing {
    type Output = Result<Option<Proof>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let is_ready = self.is_ready();
        let Some(Waiting { config, leaf, ticket, turn, turns }) = &mut self.0 else {
            return Poll::Ready(Ok(None));
        };
        let sign = |root: &[u8; 32], leaves| protocol::sign(config, root, leaves);
        let Some(ticket) = ticket else {
            return Poll::Ready(sign(leaf, 1).map(|signature| Some(Proof::alone(signature))));
        };
        let queue = config.identity().queue();
        // Whoever signs for it meanwhile wakes it, too.
        if !is_ready && let Some(leaves) = ticket.company(queue, cx) {
            if let Some(turn) = turn {
                ready!(turn.poll(cx));
            }
            if *turns < MOST_TURNS && turn.as_ref().is_none_or(|turn| turn.leaves < leaves) {
                let begun = turn.insert(Turn::begin(leaves, cx));
                // What this task does yet by itself takes nobody's time, and ends with its poll.
                *turns += usize::from(begun.poll(cx).is_pending());
                return Poll::Pending;
            }
        }
        ticket.poll(queue, cx, sign).map_ok(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::{
        FutureExt as _,
        future::{Either, join, join_all, select},
    };
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::{Identity, trust::AnyIdentity};

    fn config() -> Config {
        Config::new(Identity::generate(), AnyIdentity)
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    fn depth(proof: Result<Option<Proof>>) -> usize {
        proof.unwrap().unwrap().depth()
    }

    #[test]
    fn nothing_to_sign_is_ready_at_once() {
        assert!(Signing::new(&config(), None).now_or_never().unwrap().unwrap().is_none());
    }

    #[test]
    fn a_turn_outlives_no_block_on() {
        let (config, runtime) = (config(), runtime());
        let mut signing = Signing::new(&config, Some([1; 32]));
        // The executor returns before it has woken anybody.
        assert!(runtime.block_on(async { (&mut signing).now_or_never() }).is_none());
        assert_eq!(depth(runtime.block_on(signing)), 0);
    }

    #[test]
    fn a_turn_outlives_no_runtime() {
        let config = config();
        let mut signing = Signing::new(&config, Some([1; 32]));
        assert!(runtime().block_on(async { (&mut signing).now_or_never() }).is_none());
        assert_eq!(depth(runtime().block_on(signing)), 0);
    }

    #[test]
    fn it_works_without_a_runtime() {
        let mut signing = Signing::new(&config(), Some([1; 32]));
        assert!((&mut signing).now_or_never().is_none(), "others of the same task may join");
        assert_eq!(depth((&mut signing).now_or_never().unwrap()), 0);
    }

    #[test]
    fn what_one_task_has_ready_goes_together_beside_the_workers_too() {
        let config = config();
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let all = join_all((0..4).map(|i| Signing::new(&config, Some([i; 32]))));
        assert_eq!(runtime.block_on(all).into_iter().map(depth).collect::<Vec<_>>(), [2; 4]);
    }

    #[test]
    fn there_are_turns_for_as_long_as_leaves_come() {
        let config = config();
        let depths = runtime().block_on(async {
            let early = Signing::new(&config, Some([0; 32]));
            // Who joins in a turn does so before those that wait look again.
            let late = (1..4).rev().map(|late| {
                let config = &config;
                async move {
                    for _ in 0..late {
                        yield_now().await;
                    }
                    Signing::new(config, Some([late; 32])).await
                }
            });
            let (late, early) = join(join_all(late), early).await;
            late.into_iter().chain([early]).map(depth).collect::<Vec<_>>()
        });
        assert_eq!(depths, [2; 4]);
    }

    #[test]
    fn who_is_ready_waits_for_few_turns_however_many_come() {
        let config = config();
        let mut all = Vec::new();
        let early = runtime().block_on(async {
            let early = Signing::new(&config, Some([0; 32]));
            let come = async {
                loop {
                    yield_now().await;
                    all.push(Signing::new(&config, Some([1; 32])));
                }
            };
            // Those who come look before the early one does, in each turn.
            match select(pin!(come), early).await {
                Either::Right((proof, _)) => depth(proof),
                Either::Left((never, _)) => never,
            }
        });
        assert_eq!((all.len(), early), (MOST_TURNS, 3), "five leaves");
    }

    #[test]
    fn many_at_once_soon_go_together_where_all_were_alone_before() {
        let config = config();
        let sign = |leaf| {
            let config = config.clone();
            async move { Signing::new(&config, Some([leaf; 32])).await }
        };
        let signatures = || config.telemetry().batches().iter().sum::<u64>();
        runtime().block_on(async {
            for leaf in 0..20 {
                // Where it is expected to stay alone, its first poll signs.
                let is_expected = leaf > 8 && leaf != 16;
                let mut signing = Box::pin(sign(leaf));
                let proof = match (&mut signing).now_or_never() {
                    Some(proof) if is_expected => proof,
                    None if !is_expected => signing.await,
                    _ => panic!("{leaf}"),
                };
                assert_eq!(depth(proof), 0);
            }
            let before = signatures();
            let tasks: Vec<_> = (0..64).map(|leaf| tokio::spawn(sign(leaf))).collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
            assert!(signatures() - before <= 8, "{} for 64", signatures() - before);
        });
    }

    #[test]
    fn who_is_polled_again_and_again_waits_for_the_others_all_the_same() {
        let config = config();
        let depths = runtime().block_on(async {
            let mut impatient = Signing::new(&config, Some([0; 32]));
            for _ in 0..3 {
                assert!((&mut impatient).now_or_never().is_none());
            }
            let others = (1..4).map(|i| Signing::new(&config, Some([i; 32])));
            let all = join_all([impatient].into_iter().chain(others)).await;
            all.into_iter().map(depth).collect::<Vec<_>>()
        });
        assert_eq!(depths, [2; 4]);
        assert_eq!(config.telemetry().batches()[2], 1);
    }

    #[test]
    fn whoever_signs_wakes_those_that_still_wait_for_their_turn() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Release);
            }
        }
        let config = config();
        let woken = Arc::new(Woken(AtomicBool::default()));
        runtime().block_on(async {
            let mut early = Signing::new(&config, Some([1; 32]));
            let waker = Waker::from(woken.clone());
            assert!(Pin::new(&mut early).poll(&mut Context::from_waker(&waker)).is_pending());
            // This thread is busy, so the turn is not over; another one, beside all executors, has had its own.
            let other = std::thread::scope(|scope| {
                let sign = || {
                    let mut other = Signing::new(&config, Some([2; 32]));
                    std::iter::from_fn(|| Some((&mut other).now_or_never())).flatten().next().unwrap()
                };
                scope.spawn(sign).join().unwrap()
            });
            assert_eq!(depth(other), 1);
            assert!(woken.0.load(Ordering::Acquire));
            assert_eq!(depth(early.await), 1);
        });
    }

    #[test]
    fn two_runtimes_that_share_an_identity_lose_nothing() {
        let config = config();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (config, done) = (&config, &done);
                scope.spawn(move || {
                    runtime().block_on(async {
                        for round in 0..200_u8 {
                            let all = (0..4).map(|i| Signing::new(config, Some([round ^ i ^ thread; 32])));
                            for proof in join_all(all).await {
                                depth(proof);
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                });
            }
        });
        assert_eq!(done.into_inner(), 2 * 200 * 4);
    }
}
