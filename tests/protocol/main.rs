//! Every promise of PROTOCOL.md, sections 1 to 5 and 7 to 9, as far as it concerns the core: through the public
//! API, against a peer that is written a second time by hand (`support`).

#![allow(clippy::unwrap_used, clippy::panic, clippy::result_large_err)]

pub(crate) mod support;

mod batches;
mod bits;
mod confirmation;
mod curves;
mod exchanges;
mod flips;
mod handshake_form;
mod handshake_order;
mod interleaved;
mod negotiation;
mod openings;
mod orders;
mod records;
mod refusals;
mod secrecy;
mod secrets_joined;
mod sessions;
mod signatures;
