//! Instructions for sealing, opening, handshakes and whole exchanges, counted by callgrind: a guard against growth
//! that no noisy neighbour disturbs.
//!
//! `cargo run --release -p tower-seal-instructions` compares with `baseline.txt` here, and fails when anything is more
//! than 5 % away from it: above, it has grown, and below, as much could grow back unseen. `-- --update` writes a new
//! baseline, on purpose. `-- --keep FOLDER` leaves callgrind's files there, for `callgrind_annotate`. Needs valgrind;
//! what it counts is that of a processor with AES and AVX2, but without instructions for SHA, whatever the machine has
//! beyond, since that is what valgrind knows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt");
/// Per cent that a count may be away from its baseline.
const TOLERANCE: f64 = 5.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().position(|argument| argument == name);
    let value = |name: &str| option(name).and_then(|at| arguments.get(at + 1));
    if let Some(case) = value("--case") {
        cases::run(case);
        return ExitCode::SUCCESS;
    }
    let keep = value("--keep").map(PathBuf::from);
    let counts: Vec<(&str, u64)> =
        cases::NAMES.iter().map(|name| (*name, count(name, keep.as_deref()))).collect();
    if option("--update").is_some() {
        let text = counts.iter().fold(String::new(), |mut text, (name, count)| {
            let _ = writeln!(text, "{count:>9} {name}");
            text
        });
        fs::write(BASELINE, text).unwrap();
    }
    compare(&counts)
}

/// Instructions of one turn of a case.
fn count(case: &str, keep: Option<&Path>) -> u64 {
    let kept = keep.map(|folder| folder.join(case.replace([' ', ','], "_")).display().to_string());
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured_turns*", "--collect-atstart=no"])
        .arg(format!("--callgrind-out-file={}", kept.as_deref().unwrap_or("/dev/null")))
        .arg(std::env::current_exe().unwrap())
        .args(["--case", case])
        .output()
        .expect("valgrind has to be installed");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case} failed:\n{words}");
    let total = words.lines().find_map(|line| line.split_once("Collected : ")).expect("a count").1;
    total.trim().parse::<u64>().unwrap() / u64::from(cases::TURNS)
}

fn compare(counts: &[(&str, u64)]) -> ExitCode {
    let text = fs::read_to_string(BASELINE).unwrap_or_default();
    let mut baseline: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(count, name)| (name, count.parse().unwrap()))
        .collect();
    let mut away = Vec::new();
    println!("{:>12} {:>8}  per turn", "instructions", "change");
    for (name, count) in counts {
        match baseline.remove(name) {
            Some(before) => {
                let change = (*count as f64 / before as f64 - 1.0) * 100.0;
                println!("{count:>12} {change:>+7.1}%  {name}");
                if change.abs() > TOLERANCE {
                    away.push(*name);
                }
            }
            None => {
                println!("{count:>12} {:>8}  {name}", "new");
                away.push(*name);
            }
        }
    }
    away.extend(baseline.into_keys());
    if away.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\naway from the baseline by more than {TOLERANCE} %, not in it, or only in it: {}\nmend that, or run \
         `cargo run --release -p tower-seal-instructions -- --update` and commit the new baseline with the reason",
        away.join("; ")
    );
    ExitCode::FAILURE
}
