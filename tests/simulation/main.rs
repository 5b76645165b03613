//! Whatever the network does, nothing is read, forged, repeated, reordered or lost without notice, and the service
//! stays up: thousands of small worlds, each made of chance from one seed, in which clients, a server and whoever
//! stands between live by a clock that runs ahead when nobody has anything to do.
//!
//! The clock of these worlds jumps forward only, since the one that the crate counts by, `Instant`, does so too:
//! `clippy.toml` forbids the one that people set. Where a computation of times has an earlier moment than it expects
//! it takes both for the same.
//!
//! A failing seed is printed with all that happened. `TOWER_SEAL_SEED=42 cargo test --test simulation exchanges` lives
//! through that one again; `TOWER_SEAL_SEEDS=10000` tries so many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bodies;
mod connections;
mod dice;
mod exchanges;
mod fates;
mod frames;
mod ledger;
mod middle;
mod seeds;
mod spoil;

#[test]
fn exchanges_survive_what_a_network_can_do() {
    let words = [
        "is told: an answer",
        "is told: a part, ",
        "is told: nothing, it is gone",
        "is told: OutcomeUnknown",
        "is told: TimedOut",
        "is told: Transport",
        "is told: Unsealed",
        "is told: Decryption",
        "code: Expired, signed: true",
        "code: Replayed, signed: true",
        "code: InvalidSignature",
        "code: PathMismatch",
        "code: OutOfOrder",
        "code: Truncated",
        "code: UnknownSession, signed: false",
        "Repeatable",
        "Early",
        "the server restarts",
        "the network parts",
        "the clock jumps",
        "messages once more",
    ];
    seeds::try_all(1000, &words, exchanges::world);
}

#[test]
fn connections_survive_what_a_network_can_do() {
    let words = [
        "and the end",
        "Decryption",
        "code: Replayed",
        "code: OutOfOrder",
        "code: Truncated",
        "code: Malformed",
        "code: Timeout",
        "code: Busy",
        "the server restarts",
        "the network parts",
        "the clock jumps",
    ];
    seeds::try_all(1000, &words, connections::world);
}

#[test]
fn a_seed_makes_the_same_world_again() {
    seeds::assert_replayable(40, exchanges::world);
    seeds::assert_replayable(40, connections::world);
}
