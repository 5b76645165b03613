//! An allocator that keeps what is given back to it, so that it can be searched.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::{BTreeSet, HashMap},
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicPtr, Ordering},
    },
};

#[global_allocator]
static ALLOCATOR: Keeping = Keeping;

/// Whether blocks are kept.
static KEEPS: AtomicBool = AtomicBool::new(false);
/// The block that was kept last.
static LAST: AtomicPtr<Kept> = AtomicPtr::new(ptr::null_mut());
/// One search at a time.
static SEARCH: Mutex<()> = Mutex::new(());

struct Keeping;

/// A block that was given back, and that the system has not got.
struct Kept {
    block: *mut u8,
    size: usize,
    before: *mut Kept,
}

// SAFETY: memory is the system's, which gets each block back at most once, with the layout that it was made
// with. `realloc` is the trait's own: a new block, a copy, and the old block given back, so that it is kept too.
unsafe impl GlobalAlloc for Keeping {
    /// Zeroed, so that what is found in a block was written by those who had it, not by those before them.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one that the system asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !KEEPS.load(Ordering::Acquire) {
            // SAFETY: `block` came from the system, with this layout.
            unsafe { System.dealloc(block, layout) };
            return;
        }
        // SAFETY: the layout is not empty. The node is written before anybody can see it, and never given back.
        unsafe {
            let node = System.alloc(Layout::new::<Kept>()).cast::<Kept>();
            if node.is_null() {
                return;
            }
            let mut before = LAST.load(Ordering::Acquire);
            loop {
                node.write(Kept { block, size: layout.size(), before });
                match LAST.compare_exchange_weak(before, node, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return,
                    Err(other) => before = other,
                }
            }
        }
    }
}

/// What `run` returns, and everything that was given back meanwhile, by whichever thread: so no two tests have a secret
/// in common.
pub fn during<T>(run: impl FnOnce() -> T) -> (T, Freed) {
    let _alone = SEARCH.lock().unwrap_or_else(PoisonError::into_inner);
    LAST.store(ptr::null_mut(), Ordering::Release);
    KEEPS.store(true, Ordering::Release);
    let out = run();
    KEEPS.store(false, Ordering::Release);
    let mut blocks = Vec::new();
    let mut node = LAST.load(Ordering::Acquire);
    while !node.is_null() {
        // SAFETY: nodes and blocks live for ever, and nobody writes to them any more.
        let kept = unsafe { &*node };
        // SAFETY: as above; all bytes were set by `alloc_zeroed`.
        blocks.push(unsafe { std::slice::from_raw_parts(kept.block, kept.size) });
        node = kept.before;
    }
    blocks.reverse();
    (out, Freed(blocks))
}

/// Memory that has been given back.
pub struct Freed(Vec<&'static [u8]>);

/// Half a secret is found as well as all of it: what uses freed memory again writes over its beginning.
const PART: usize = 16;

impl Freed {
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|block| block.len()).sum()
    }

    /// Which of `secrets` are in it, with the sizes of the blocks.
    pub fn shows(&self, secrets: &[(String, Vec<u8>)]) -> BTreeSet<String> {
        let mut parts = HashMap::new();
        let mut begins = vec![false; 1 << 16];
        for (name, secret) in secrets {
            for part in secret.chunks_exact(PART) {
                begins[usize::from(u16::from_le_bytes([part[0], part[1]]))] = true;
                parts.insert(part, name);
            }
        }
        let mut found = BTreeSet::new();
        for block in &self.0 {
            for (at, part) in block.windows(PART).enumerate() {
                if begins[usize::from(u16::from_le_bytes([part[0], part[1]]))]
                    && let Some(name) = parts.get(part)
                {
                    found.insert(format!("{name}, at {at} of {} bytes", block.len()));
                }
            }
        }
        found
    }
}
