//! Many worlds, one for each seed.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::runtime::Builder;

use crate::dice::{Dice, Trace, hash};

/// What was wrong in a world, in words; nothing, if all went well.
pub(crate) type Wrongs = Vec<String>;

/// One seed to replay, with all that happens in its world.
const SEED: &str = "TOWER_SEAL_SEED";

/// How many seeds to try.
const SEEDS: &str = "TOWER_SEAL_SEEDS";

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

/// Lives through the world of one seed: what happened, and what was wrong.
fn live<F>(seed: u64, world: impl Fn(Dice, Trace) -> F) -> (Vec<String>, Wrongs)
where
    F: Future<Output = Wrongs>,
{
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let lived = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { world(Dice::new(seed), Trace::new(lines.clone())).await })
    }));
    drop(runtime);
    let lines = std::mem::take(&mut *lines.lock().unwrap());
    match lived {
        Ok(wrongs) => (lines, wrongs),
        Err(panic) => {
            report(seed, &lines, &["a panic".to_owned()]);
            resume_unwind(panic)
        }
    }
}

fn report(seed: u64, lines: &[String], wrongs: &[String]) {
    println!("{}\n\nseed {seed}, trace {:016x}", lines.join("\n"), hash(lines));
    for wrong in wrongs {
        println!("WRONG: {wrong}");
    }
    println!("to replay it: {SEED}={seed}");
}

/// Lives through the worlds of as many seeds as are asked for, `usual` of them else. In so many each of `words` has to
/// come up in some world: chance that never gets there proves nothing.
pub(crate) fn try_all<F>(usual: u64, words: &[&str], world: impl Fn(Dice, Trace) -> F + Sync)
where
    F: Future<Output = Wrongs>,
{
    if let Some(seed) = number(SEED) {
        let (lines, wrongs) = live(seed, &world);
        report(seed, &lines, &wrongs);
        assert!(wrongs.is_empty(), "seed {seed}: {wrongs:?}");
        return;
    }
    let (next, most) = (AtomicU64::new(0), number(SEEDS).unwrap_or(usual));
    let seen: Vec<_> = words.iter().map(|word| (*word, AtomicU64::new(0))).collect();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= most {
                return;
            }
            let (lines, wrongs) = live(seed, &world);
            if !wrongs.is_empty() {
                report(seed, &lines, &wrongs);
                panic!("seed {seed}: {wrongs:?}");
            }
            for (word, count) in &seen {
                let found = lines.iter().filter(|line| line.contains(word)).count();
                count.fetch_add(found as u64, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!("{most} seeds: {seen:?}");
    let missing = seen.iter().find(|(_, count)| count.load(Ordering::Relaxed) == 0);
    assert!(most < usual || missing.is_none(), "this never happened: {missing:?}");
}

/// The same seed makes the same world: everything in it happens again, at the same time.
pub(crate) fn assert_replayable<F>(seeds: u64, world: impl Fn(Dice, Trace) -> F)
where
    F: Future<Output = Wrongs>,
{
    for seed in 0..seeds {
        let [first, again] = [(); 2].map(|()| live(seed, &world).0);
        let differs = first.iter().zip(&again).position(|(first, again)| first != again);
        if let Some(line) = differs {
            panic!("seed {seed}, line {line}: {:?} and then {:?}", first[line], again[line]);
        }
        assert_eq!(hash(&first), hash(&again), "seed {seed}");
        assert!(!first.is_empty());
    }
}
