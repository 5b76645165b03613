//! Round trips per second through one WebSocket connection over loopback: plain, wss, and sealed, in one run, as
//! ratios to plain.
//!
//! `cargo bench --bench duplex --features websocket` takes under four minutes; `-- --quick` under one. The ways run in
//! turn, round after round, so that a noisy neighbour disturbs all alike; what is printed are medians over the rounds.
//! The client has one thread, the server another; both send what is ready together.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod echo;
mod ways;

use std::time::Duration;

use ways::Way;

struct Plan {
    rounds: usize,
    round: Duration,
}

const SIZES: [usize; 3] = [256, 1 << 10, 64 << 10];
const IN_FLIGHT: [usize; 2] = [1, 64];

const FULL: Plan = Plan { rounds: 7, round: Duration::from_millis(500) };
const QUICK: Plan = Plan { rounds: 3, round: Duration::from_millis(200) };

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo passes `--bench`.
    let plan = if std::env::args().any(|arg| arg == "--quick") { QUICK } else { FULL };
    let mut ways = ways::all().await;
    // For a profiler: `-- --only "binary unsigned" --size 1024 --in-flight 64` keeps the ways with this in their name.
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    if let Some(name) = option("--only") {
        ways.retain(|way| way.name.contains(&name));
    }
    let chosen = |name: &str, planned: &[usize]| -> Vec<usize> {
        let only: Option<usize> = option(name).and_then(|only| only.parse().ok());
        planned.iter().copied().filter(|&planned| only.is_none_or(|only| only == planned)).collect()
    };
    println!("\nround trips per second, and their ratio to plain (median of {} rounds)\n", plan.rounds);
    print!("| message | in flight |");
    ways.iter().for_each(|way| print!(" {} |", way.name));
    println!("\n|---|---|{}", "---|".repeat(ways.len()));
    for size in chosen("--size", &SIZES) {
        for in_flight in chosen("--in-flight", &IN_FLIGHT) {
            row(&mut ways, &plan, size, in_flight).await;
        }
    }
}

async fn row(ways: &mut [Way], plan: &Plan, size: usize, in_flight: usize) {
    let mut rates = vec![Vec::new(); ways.len()];
    for round in 0..=plan.rounds {
        for (way, rates) in ways.iter_mut().zip(&mut rates) {
            // The first round warms up.
            let time = if round == 0 { plan.round / 4 } else { plan.round };
            let rate = way.client.measure(size, in_flight, time).await;
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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
