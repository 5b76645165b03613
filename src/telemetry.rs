//! Every name that leaves the crate for a log or a metric, in one place.
//!
//! Values of fields are numbers, [`Code`]s, [`NodeId`](crate::NodeId)s and session ids: nothing secret has
//! a type that could be spelled here. Counters belong to a [`Config`](crate::Config), and so to the layers
//! that share it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Code;

/// Target of this crate's `tracing` events and spans.
pub const TARGET: &str = "tower_seal";

/// The span of a request on the client's side, from the call to the head of the response.
///
/// Its fields, where known: `session`, `peer`.
pub const SEAL_SPAN: &str = "seal";

/// The span of a request on the server's side, of handshakes too, from its head to that of the response. The
/// inner service runs in it.
///
/// Its fields, where known: `session`, `peer`.
pub const UNSEAL_SPAN: &str = "unseal";

/// The span of a duplex handshake on the initiator's side. Its fields, where known: `session`, `peer`.
pub const CONNECT_SPAN: &str = "connect";

/// The span of a duplex handshake on the responder's side. Its fields, where known: `session`, `peer`.
pub const ACCEPT_SPAN: &str = "accept";

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident, $name:literal;)*) => {
        /// A number that [`Telemetry`] keeps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Metric {
            $($(#[$doc])* $variant,)*
        }

        impl Metric {
            /// Every metric.
            pub const ALL: &[Metric] = &[$(Metric::$variant,)*];

            /// Its name, as in Prometheus.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Metric::$variant => $name,)*
                }
            }
        }
    };
}

metrics! {
    /// Handshakes that ended in a session, of either side.
    Handshakes, "tower_seal_handshakes_total";
    /// Sessions alive now. This one falls, too.
    SessionsLive, "tower_seal_sessions_live";
    /// Handshakes of two-way connections that both sides have confirmed.
    DuplexHandshakes, "tower_seal_duplex_handshakes_total";
    /// Two-way connections open now, in plaintext too. This one falls, too.
    ConnectionsLive, "tower_seal_connections_live";
    /// Records sealed.
    RecordsSealed, "tower_seal_records_sealed_total";
    /// Records opened, every check held.
    RecordsOpened, "tower_seal_records_opened_total";
    /// Requests taken, or sent, in plaintext, and two-way connections.
    PlaintextRequests, "tower_seal_plaintext_requests_total";
    /// Answers to calls that nobody waits for any more, or that nobody made; dropped.
    LateAnswers, "tower_seal_late_answers_total";
    /// Ed25519 verifications for records. Of records that were signed together, the first one costs one.
    SignaturesVerified, "tower_seal_signatures_verified_total";
    /// Public-key operations done for handshakes: signatures, verifications, key pairs made, key agreements, and what
    /// ML-KEM-768 adds to them.
    HandshakeOperations, "tower_seal_handshake_operations_total";
    /// Errors signed, which beside handshakes are all that a stranger can have signed.
    ErrorsSigned, "tower_seal_errors_signed_total";
}

/// Name of the counter of rejections, which has the label `code`.
pub const REJECTIONS: &str = "tower_seal_rejections_total";

/// Name of the histogram of how many records were signed together, each time that some were.
pub const BATCHES: &str = "tower_seal_batch_records";

/// The upper bounds of that histogram's buckets.
pub const BATCH_BOUNDS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The numbers of one [`Config`](crate::Config).
#[derive(Debug, Default)]
pub struct Telemetry {
    metrics: [AtomicU64; Metric::ALL.len()],
    rejections: [AtomicU64; Code::ALL.len()],
    batches: [AtomicU64; BATCH_BOUNDS.len()],
    batched: AtomicU64,
}

impl Telemetry {
    /// The present value of `metric`.
    #[must_use]
    pub fn value(&self, metric: Metric) -> u64 {
        self.metrics[metric as usize].load(Ordering::Relaxed)
    }

    /// How many messages were refused with `code` here.
    #[must_use]
    pub fn rejections(&self, code: Code) -> u64 {
        self.rejections[code as usize].load(Ordering::Relaxed)
    }

    /// How many signatures were made for records, by how many records they were for: up to each of
    /// [`BATCH_BOUNDS`], and above the one before. Where several configs share an identity, a batch of theirs counts
    /// for the one that signed it.
    #[must_use]
    pub fn batches(&self) -> [u64; BATCH_BOUNDS.len()] {
        std::array::from_fn(|bucket| self.batches[bucket].load(Ordering::Relaxed))
    }

    /// How many records were signed, alone or together.
    #[must_use]
    pub fn records_signed(&self) -> u64 {
        self.batched.load(Ordering::Relaxed)
    }

    pub(crate) fn count_batch(&self, records: usize) {
        let bucket = BATCH_BOUNDS.partition_point(|bound| *bound < records).min(BATCH_BOUNDS.len() - 1);
        self.batches[bucket].fetch_add(1, Ordering::Relaxed);
        self.batched.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, metric: Metric) {
        self.metrics[metric as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fall(&self, metric: Metric) {
        self.metrics[metric as usize].fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn reject(&self, code: Code) {
        self.rejections[code as usize].fetch_add(1, Ordering::Relaxed);
    }
}
