//! All chance of a world, from one seed, and what came of it.

use std::{
    fmt::Display,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// SplitMix64: the same numbers for the same seed, on every machine.
#[derive(Clone)]
pub(crate) struct Dice(Arc<Mutex<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(Arc::new(Mutex::new(seed)))
    }

    fn roll(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    pub(crate) fn between(&self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(crate) fn one_in(&self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Mostly milliseconds, sometimes minutes.
    pub(crate) fn time(&self) -> Duration {
        let most = self.pick(&[20, 20, 500, 500, 3_000, 20_000, 100_000]);
        Duration::from_millis(self.between(1, most) as u64)
    }
}

/// What happened, when, by the clock of the test. No random bytes are in it, so that it is the same each time.
#[derive(Clone)]
pub(crate) struct Trace {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(crate) fn new(lines: Arc<Mutex<Vec<String>>>) -> Self {
        Trace { began: Instant::now(), lines }
    }

    pub(crate) fn note(&self, what: impl Display) {
        let line = format!("{:>9} ms  {what}", self.began.elapsed().as_millis());
        self.lines.lock().unwrap().push(line);
    }
}

/// FNV-1a over all lines.
pub(crate) fn hash(lines: &[String]) -> u64 {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A yes or no to wait for. Those who wait are woken in their order, where a channel's would be in any.
#[derive(Clone, Default)]
pub(crate) struct Flag(Arc<(Mutex<bool>, Notify)>);

impl Flag {
    pub(crate) fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    pub(crate) fn set(&self, value: bool) {
        *self.0.0.lock().unwrap() = value;
        self.0.1.notify_waiters();
    }

    pub(crate) async fn becomes(&self, value: bool) {
        loop {
            let changed = self.0.1.notified();
            if self.is_set() == value {
                return;
            }
            changed.await;
        }
    }
}
