//! What a process has, at two moments without load, and how far these may lie apart.

use tower_seal::telemetry::{Metric, Telemetry};

/// At one moment. What only Linux tells is 0 elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    heap: usize,
    resident: usize,
    descriptors: usize,
    tasks: usize,
    sessions: usize,
    connections: usize,
}

pub(crate) struct Marks {
    pub(crate) early: Mark,
    pub(crate) late: Mark,
}

const MIB: usize = 1 << 20;

impl Mark {
    pub(crate) fn now(heap: usize, tasks: usize, telemetry: &Telemetry) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Mark {
            heap,
            resident: resident << 10,
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            tasks,
            sessions: telemetry.value(Metric::SessionsLive) as usize,
            connections: telemetry.value(Metric::ConnectionsLive) as usize,
        }
    }
}

impl Marks {
    /// Each number: its name, early, late, and the most that it may be then. What may come on top is for the sessions
    /// that happen to be in bounded tables, for what the allocator does not give back, and for a task that is not
    /// quite over; none of it grows with time.
    fn rows(&self) -> [(&'static str, usize, usize, usize); 6] {
        let Marks { early, late } = self;
        [
            ("bytes of heap", early.heap, late.heap, early.heap + MIB),
            ("bytes resident", early.resident, late.resident, early.resident + early.resident / 4 + 16 * MIB),
            ("descriptors", early.descriptors, late.descriptors, early.descriptors + 2),
            ("tasks", early.tasks, late.tasks, early.tasks + 2),
            ("sessions", early.sessions, late.sessions, 64 + 16),
            ("connections", early.connections, late.connections, 0),
        ]
    }

    /// Prints them. Whether nothing has grown.
    pub(crate) fn hold(&self) -> bool {
        println!("\n| left without load | after the warm-up | at the end | at most |\n|---|---|---|---|");
        for (name, early, late, most) in self.rows() {
            println!("| {name} | {early} | {late} | {most} |");
        }
        self.rows().iter().all(|(_, _, late, most)| late <= most)
    }
}
