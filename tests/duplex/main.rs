//! Every promise of the `duplex` room: PROTOCOL.md section 6 and the first part of its issue, through the public
//! API, over sockets where the transport matters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod batches;
mod cuts;
mod endings;
mod faults;
mod first_records;
mod floods;
mod halves;
mod handshakes;
mod many;
mod pipes;
mod plaintext;
mod redial;
mod silence;
mod sockets;
mod upgrades;
mod websockets;
