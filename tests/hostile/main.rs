//! What a stranger's bytes cost in memory, counted by the allocator in a program of its own: no more than so much for
//! each KiB of them, and four times as many bytes never more than about four times as much; where content passes
//! through, no more than so much, however long it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../protocol/support/hand.rs"]
mod hand;
#[path = "../support/pieces.rs"]
mod pieces;
#[allow(dead_code)]
#[path = "../protocol/support/wire.rs"]
mod wire;

mod bodies;
mod inputs;
mod linear;
mod paths;
mod readers;

use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What is counted is all of the program's heap.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    /// The most bytes that were there at once.
    peak: u64,
    /// All that was allocated, whether it was freed meanwhile or not.
    bytes: u64,
    blocks: u64,
}

/// Counts from nothing: what is there already counts neither here nor when it is freed.
fn cost<T>(act: impl FnOnce() -> T) -> Cost {
    let profiler = dhat::Profiler::builder().testing().build();
    let left = act();
    let stats = dhat::HeapStats::get();
    drop(profiler);
    drop(left);
    Cost { peak: stats.max_bytes as u64, bytes: stats.total_bytes, blocks: stats.total_blocks }
}
