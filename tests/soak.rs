//! Nothing is left of a load but what was there before: a short one, or `TOWER_SEAL_SOAK_SECONDS=60`. In a program of
//! its own, where nothing else allocates meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../benches/soak/load.rs"]
mod load;
#[path = "../benches/soak/marks.rs"]
mod marks;

use std::time::Duration;

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_under_load() {
    let seconds = std::env::var("TOWER_SEAL_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(6, |text| text.parse().expect("a number of seconds"));
    let marks = load::soak(Duration::from_secs(seconds), || HEAP.current_usage()).await;
    assert!(marks.hold(), "something has grown");
}
