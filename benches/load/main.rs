//! Requests per second over loopback: plain, TLS, sealed by hand, and sealed by the layers in every mode, by HTTP/1.1
//! and by WebSocket, in one run, as ratios to plain; and, where records are signed, how many by each signature.
//!
//! `cargo bench --bench load --all-features` takes about a quarter of an hour; `-- --quick` under two minutes. Each
//! way runs in turn, round after round, so that a noisy neighbour disturbs all alike; what is printed are medians over
//! the rounds, and how far their middle half lies apart. Client and server share one process and its cores, as they
//! share the costs. `-- --plot FILE` draws the first size as an SVG.
//!
//! `-- --only "binary, unsigned" --over HTTP --size 1024 --in-flight 16` keeps plain, and the ways with this in their
//! name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../duplex/echo.rs"]
mod echo;
mod modes;
mod plot;
mod rates;
mod tls;
mod ways;
#[path = "../duplex/ways.rs"]
mod websockets;

use std::time::Duration;

use echo::Flush;
use rates::Rates;
use ways::Way;

const SIZES: [usize; 3] = [1 << 10, 256, 64 << 10];
const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];

struct Plan {
    rounds: usize,
    round: Duration,
    in_flight: Vec<usize>,
}

/// Of one transport and size: the ways, each with its rates for every number in flight.
pub(crate) struct Table {
    over: &'static str,
    size: usize,
    rows: Vec<Row>,
}

pub(crate) struct Row {
    name: String,
    rates: Vec<Rates>,
    /// How many records had a signature together.
    batches: Vec<String>,
}

#[tokio::main]
async fn main() {
    // Cargo passes `--bench`.
    let is_quick = std::env::args().any(|arg| arg == "--quick");
    let option = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let is_chosen = |name: &str, value: &str| option(name).is_none_or(|only| value.contains(&only));
    let are_equal = |name: &str, value: usize| option(name).is_none_or(|only| value.to_string() == only);
    let plan = Plan {
        rounds: if is_quick { 3 } else { 13 },
        round: Duration::from_millis(if is_quick { 60 } else { 150 }),
        in_flight: IN_FLIGHT.into_iter().filter(|&in_flight| are_equal("--in-flight", in_flight)).collect(),
    };

    assert!(!plan.in_flight.is_empty(), "--in-flight takes one of {IN_FLIGHT:?}");
    assert!(SIZES.into_iter().any(|size| are_equal("--size", size)), "--size takes one of {SIZES:?}");

    let mut http = ways::all().await;
    http.retain(|way| way.name == "plain" || is_chosen("--only", &way.name));
    let mut sockets = websockets::all(Flush::Each).await;
    sockets
        .retain(|way| way.name == "plain" || is_chosen("--only", &way.name) && way.name != websockets::SMALL);
    println!("requests per second, their ratio to plain, and the spread of {} rounds\n", plan.rounds);
    print!("| over, body | way |");
    plan.in_flight.iter().for_each(|in_flight| print!(" {in_flight} in flight |"));
    println!("\n|---|---|{}", "---|".repeat(plan.in_flight.len()));
    let mut tables = Vec::new();
    for size in SIZES.into_iter().filter(|&size| are_equal("--size", size)) {
        if is_chosen("--over", "HTTP") {
            let table = measure_http(&http, &plan, size).await;
            table.print();
            tables.push(table);
        }
        if is_chosen("--over", "WebSocket") {
            measure_sockets(&mut sockets, &plan, size).await.print();
        }
    }
    if let Some(file) = option("--plot") {
        plot::draw(tables.first().expect("only HTTP is drawn"), &plan.in_flight, &file);
        println!("\n{file}");
    }
}

async fn measure_http(ways: &[Way], plan: &Plan, size: usize) -> Table {
    let mut table = Table::new("HTTP", size, plan, ways.iter().map(|way| way.name.clone()));
    for (column, &in_flight) in plan.in_flight.iter().enumerate() {
        let before: Vec<_> = ways.iter().map(Way::signed).collect();
        // The first round warms up.
        for round in 0..=plan.rounds {
            for (way, row) in ways.iter().zip(&mut table.rows) {
                let time = if round == 0 { plan.round / 4 } else { plan.round };
                let rate = way.measure(size, in_flight, time).await;
                if round > 0 {
                    row.rates[column].push(rate);
                }
            }
        }
        for ((way, row), before) in ways.iter().zip(&mut table.rows).zip(before) {
            row.batches.push(way.signed().since(before));
        }
    }
    table
}

async fn measure_sockets(ways: &mut [websockets::Way], plan: &Plan, size: usize) -> Table {
    let mut table = Table::new("WebSocket", size, plan, ways.iter().map(|way| way.name.clone()));
    for (column, &in_flight) in plan.in_flight.iter().enumerate() {
        let before: Vec<_> = ways.iter().map(websockets::Way::signed).collect();
        for round in 0..=plan.rounds {
            for (way, row) in ways.iter_mut().zip(&mut table.rows) {
                let time = if round == 0 { plan.round / 4 } else { plan.round };
                let rate = way.client.measure(size, in_flight, Flush::Each, time).await;
                if round > 0 {
                    row.rates[column].push(rate);
                }
            }
        }
        for ((way, row), before) in ways.iter().zip(&mut table.rows).zip(before) {
            row.batches.push(way.signed().since(before));
        }
    }
    table
}

impl Table {
    fn new(over: &'static str, size: usize, plan: &Plan, names: impl Iterator<Item = String>) -> Self {
        let rates = || plan.in_flight.iter().map(|_| Rates::default()).collect();
        let row = |name| Row { name, rates: rates(), batches: Vec::new() };
        let rows = names.map(row).collect();
        Table { over, size, rows }
    }

    fn print(&self) {
        for Row { name, rates, batches } in &self.rows {
            print!("| {}, {} | {name} |", self.over, self.size);
            for ((rates, plain), batch) in rates.iter().zip(&self.rows[0].rates).zip(batches) {
                print!(" {}{batch} |", rates.beside(plain));
            }
            println!();
        }
    }
}
