//! Requests per second over loopback HTTP/1.1: plain, mTLS, and sealed, in one run, as ratios to plain.
//!
//! `cargo bench --bench load` takes under five minutes; `-- --quick` under one. Each way of carrying a request
//! runs in turn, round after round, so that a noisy neighbour disturbs all alike; what is printed are medians
//! over the rounds. Client and server share one process and its cores, as they share the costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ways;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ways::Way;

struct Plan {
    sizes: &'static [usize],
    in_flight: &'static [usize],
    rounds: usize,
    round: Duration,
}

const FULL: Plan = Plan {
    sizes: &[256, 1 << 10, 64 << 10],
    in_flight: &[1, 16, 64],
    rounds: 5,
    round: Duration::from_millis(700),
};
const QUICK: Plan = Plan {
    sizes: &[256, 1 << 10, 64 << 10],
    in_flight: &[1, 16, 64],
    rounds: 1,
    round: Duration::from_millis(600),
};

#[tokio::main]
async fn main() {
    // Cargo passes `--bench`.
    let plan = if std::env::args().any(|arg| arg == "--quick") { QUICK } else { FULL };
    let mut ways = ways::all().await;
    // `-- --only "binary unsigned" --size 1024` keeps the ways with this in their name, and one size: for a profiler.
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    if let Some(name) = option("--only") {
        ways.retain(|way| way.name.contains(&name));
    }
    let size: Option<usize> = option("--size").and_then(|size| size.parse().ok());
    println!("\nrequests per second, and their ratio to plain (median of {} rounds)\n", plan.rounds);
    print!("| body | c |");
    ways.iter().for_each(|way| print!(" {} |", way.name));
    println!("\n|---|---|{}", "---|".repeat(ways.len()));
    for &size in plan.sizes.iter().filter(|&&planned| size.is_none_or(|size| size == planned)) {
        for &in_flight in plan.in_flight {
            row(&ways, &plan, size, in_flight).await;
        }
    }
}

async fn row(ways: &[Way], plan: &Plan, size: usize, in_flight: usize) {
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 0..=plan.rounds {
        for (way, rates) in ways.iter().zip(&mut rates) {
            // The first round warms up.
            let time = if round == 0 { plan.round / 4 } else { plan.round };
            let rate = measure(way, size, in_flight, time).await;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let medians: Vec<f64> = rates.iter_mut().map(|rates| median(rates)).collect();
    print!("| {size} | {in_flight} |");
    medians.iter().for_each(|rate| print!(" {rate:.0} ({:.2}) |", rate / medians[0]));
    println!();
}

/// Requests per second with so many in flight.
async fn measure(way: &Way, size: usize, in_flight: usize, time: Duration) -> f64 {
    let body = bytes::Bytes::from(vec![b'x'; size]);
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let end = start + time;
    let workers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (call, body, done) = (way.call.clone(), body.clone(), done.clone());
            tokio::spawn(worker(move || call(body.clone()), done, end))
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

async fn worker<F: Future<Output = ()>>(call: impl Fn() -> F, done: Arc<AtomicU64>, end: Instant) {
    while Instant::now() < end {
        call().await;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
