//! What signing cost a side.

use tower_seal::{Config, telemetry::Metric};

/// How often it signed for 1, 2, up to 4, 8 … 256 records.
pub(crate) fn batches(config: &Config) -> Vec<u64> {
    config.telemetry().batches().to_vec()
}

/// How many signatures it verified.
pub(crate) fn verified(config: &Config) -> u64 {
    config.telemetry().value(Metric::SignaturesVerified)
}

/// `ask` has each of two sides, which have signed one record so far, sign 64 that are ready together.
pub(crate) async fn assert_64_cost_one_signature_each_way(
    sides: [&Config; 2],
    ask: impl Future<Output = ()>,
) {
    let before = sides.map(verified);
    ask.await;
    for (side, before) in sides.into_iter().zip(before) {
        assert_eq!(batches(side), [1, 0, 0, 0, 0, 0, 1, 0, 0], "one alone, and one for 64");
        assert_eq!(side.telemetry().records_signed(), 65);
        assert_eq!(verified(side) - before, 1, "verifications");
    }
}
