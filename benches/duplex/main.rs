//! Round trips per second through one WebSocket connection over loopback: plain, mTLS, and sealed, in one run, as
//! ratios to plain.
//!
//! `cargo bench --bench duplex --features websocket` takes under four minutes; `-- --quick` under one. The ways run in
//! turn, round after round, so that a noisy neighbour disturbs all alike; what is printed are medians over the rounds.
//! The client has one thread, the server another. With many in flight it matters much when they flush: after each
//! message, or what is ready together, which takes most system calls out of plain WebSockets and leaves the rest bare.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod echo;
#[path = "../load/modes.rs"]
mod modes;
#[path = "../load/tls.rs"]
mod tls;
mod ways;

use std::time::Duration;

use echo::Flush;
use ways::Way;

struct Plan {
    rounds: usize,
    round: Duration,
}

const SIZES: [usize; 3] = [256, 1 << 10, 64 << 10];
const IN_FLIGHT: [(usize, Flush); 3] = [(1, Flush::Each), (64, Flush::Each), (64, Flush::Together)];

const FULL: Plan = Plan { rounds: 7, round: Duration::from_millis(500) };
const QUICK: Plan = Plan { rounds: 3, round: Duration::from_millis(200) };

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo passes `--bench`.
    let plan = if std::env::args().any(|arg| arg == "--quick") { QUICK } else { FULL };
    // For a profiler: `-- --only "binary unsigned" --size 1024 --in-flight 64 --flush together` keeps the ways with
    // this in their name.
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let is_chosen = |name: &str, value: &str| option(name).is_none_or(|only| value.contains(&only));
    let mut each = ways::all(Flush::Each).await;
    let mut together = ways::all(Flush::Together).await;
    for ways in [&mut each, &mut together] {
        ways.retain(|way| is_chosen("--only", &way.name));
    }
    println!(
        "\nround trips per second, their ratio to plain, and how many records had a signature together (median of {} rounds)\n",
        plan.rounds
    );
    print!("| message | in flight | flushed |");
    each.iter().for_each(|way| print!(" {} |", way.name));
    println!("\n|---|---|---|{}", "---|".repeat(each.len()));
    for size in SIZES.into_iter().filter(|size| is_chosen("--size", &size.to_string())) {
        for (in_flight, flush) in IN_FLIGHT {
            let (ways, name) = match flush {
                Flush::Each => (&mut each, "each"),
                Flush::Together => (&mut together, "together"),
            };
            if is_chosen("--in-flight", &in_flight.to_string()) && is_chosen("--flush", name) {
                print!("| {size} | {in_flight} | {name} |");
                row(ways, &plan, size, in_flight, flush).await;
            }
        }
    }
}

async fn row(ways: &mut [Way], plan: &Plan, size: usize, in_flight: usize, flush: Flush) {
    let mut rates = vec![Vec::new(); ways.len()];
    let before: Vec<_> = ways.iter().map(Way::signed).collect();
    for round in 0..=plan.rounds {
        for (way, rates) in ways.iter_mut().zip(&mut rates) {
            // The first round warms up.
            let time = if round == 0 { plan.round / 4 } else { plan.round };
            let rate = way.client.measure(size, in_flight, flush, time).await;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let medians: Vec<f64> = rates.iter_mut().map(|rates| median(rates)).collect();
    for ((rate, way), before) in medians.iter().zip(ways).zip(before) {
        print!(" {rate:.0} ({:.2}){} |", rate / medians[0], way.signed().since(before));
    }
    println!();
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
