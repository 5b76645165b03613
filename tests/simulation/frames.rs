//! A transport of frames, one end of which the middle holds.

#[path = "../support/frames.rs"]
mod ends;

use std::io;

use tokio::sync::mpsc;
use tower_seal::duplex::Frame;

pub(crate) use ends::{End, frames};

pub(crate) type Near<F> = mpsc::UnboundedSender<io::Result<F>>;
pub(crate) type Far<F> = mpsc::UnboundedReceiver<io::Result<F>>;

impl End {
    pub(crate) fn split(self) -> (Near<Frame>, Far<Frame>) {
        (self.to.expect("an end that was not closed"), self.from)
    }
}
