//! Full load by HTTP and WebSocket with sessions renewed all the time; ends with 1 where memory, descriptors or tasks
//! have grown. `cargo bench --bench soak --all-features` takes 30 minutes; `-- --seconds 60` so many.
//!
//! `cargo test --all-features --test soak` is the same in the debug profile, for a few seconds, or as many as
//! `TOWER_SEAL_SOAK_SECONDS` says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod load;
mod marks;

use std::{process::ExitCode, time::Duration};

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

#[tokio::main]
async fn main() -> ExitCode {
    let seconds = std::env::args().skip_while(|arg| arg != "--seconds").nth(1);
    let seconds = seconds.map_or(30 * 60, |text| text.parse().expect("a number of seconds"));
    let marks = load::soak(Duration::from_secs(seconds), || HEAP.current_usage()).await;
    match marks.hold() {
        true => ExitCode::SUCCESS,
        false => {
            println!("\nsomething has grown");
            ExitCode::FAILURE
        }
    }
}
