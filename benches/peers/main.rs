//! Handshakes and messages per second in memory, on one core: tower-seal beside Noise by snow and TLS 1.3 by rustls,
//! in one run, as ratios to rustls.
//!
//! `cargo bench --bench peers --features aws-lc-rs` takes under a minute; `-- --quick` a few seconds. The ways run in
//! turn, round after round, so that a noisy neighbour disturbs all alike; what is printed are medians over the rounds,
//! and how far the rounds lie apart.
//!
//! A handshake is what both sides compute together. *Proved* adds what makes the server sure that the client is there
//! now: tower-seal's first records, which otherwise carry the first messages; the others have that in the handshake.
//! A message is copied in, sealed, opened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod noise;
#[path = "../load/rates.rs"]
mod rates;
mod sealed;
#[path = "../load/tls.rs"]
mod tls;
mod tls_pair;

use std::time::{Duration, Instant};

use rates::Rates;
use rustls::crypto::{aws_lc_rs, ring};
use tower_seal::config::Backend;

const SIZES: [usize; 5] = [64, 256, 1 << 10, 16 << 10, 64 << 10];

struct Plan {
    rounds: usize,
    round: Duration,
}

const FULL: Plan = Plan { rounds: 7, round: Duration::from_millis(100) };
const QUICK: Plan = Plan { rounds: 3, round: Duration::from_millis(20) };

/// Something to do again and again.
type Work = Box<dyn FnMut()>;

/// Carries a message.
type Carry = Box<dyn FnMut(&[u8])>;

pub(crate) struct Way {
    name: String,
    handshake: Work,
    proved: Work,
    /// With ML-KEM-768 beside X25519, where there is that.
    hybrid: Option<Work>,
    message: Carry,
}

fn main() {
    // Cargo passes `--bench`.
    let plan = if std::env::args().any(|arg| arg == "--quick") { QUICK } else { FULL };
    let mut ways = vec![
        tls_pair::way("rustls, TLS 1.3, aws-lc-rs", aws_lc_rs::default_provider()),
        tls_pair::way("rustls, TLS 1.3, ring", ring::default_provider()),
        noise::way(),
    ];
    ways.extend(Backend::ALL.iter().map(|&backend| sealed::way(backend)));

    println!("per second, the ratio to the first row, and the spread of {} rounds\n", plan.rounds);
    let mut columns = vec!["handshake".to_owned(), "handshake, proved".into(), "with ML-KEM-768".into()];
    columns.extend(SIZES.map(|size| format!("{size} bytes")));
    println!("| way | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
    let mut table: Vec<_> = (0..columns.len()).map(|column| measure(&mut ways, &plan, column)).collect();
    for (row, way) in ways.iter().enumerate() {
        print!("| {} |", way.name);
        for rates in &mut table {
            match (&rates[row], &rates[0]) {
                (Some(rates), Some(first)) => print!(" {} |", rates.beside(first)),
                _ => print!(" |"),
            }
        }
        println!();
    }
}

/// A column of the table.
fn measure(ways: &mut [Way], plan: &Plan, column: usize) -> Vec<Option<Rates>> {
    let mut rates: Vec<_> = ways.iter().map(|_| None).collect();
    // The first round warms up.
    for round in 0..=plan.rounds {
        for (way, rates) in ways.iter_mut().zip(&mut rates) {
            let time = if round == 0 { plan.round / 4 } else { plan.round };
            let rate = match column {
                0 => rate(&mut way.handshake, time),
                1 => rate(&mut way.proved, time),
                2 => match &mut way.hybrid {
                    Some(work) => rate(work, time),
                    None => continue,
                },
                _ => {
                    let message = vec![b'x'; SIZES[column - 3]];
                    rate(&mut || (way.message)(&message), time)
                }
            };
            if round > 0 {
                rates.get_or_insert_with(Rates::default).push(rate);
            }
        }
    }
    rates
}

/// How often in a second.
fn rate(work: &mut dyn FnMut(), time: Duration) -> f64 {
    let (start, mut elapsed, mut done, mut burst) = (Instant::now(), Duration::ZERO, 0_u64, 1);
    while elapsed < time {
        (0..burst).for_each(|_| work());
        done += burst;
        elapsed = start.elapsed();
        // So that looking at the clock costs nothing.
        if elapsed < time / 32 {
            burst *= 2;
        }
    }
    done as f64 / elapsed.as_secs_f64()
}
