//! What may be done to the bytes of one direction: of a body, of a connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::sleep;

use crate::dice::Dice;

/// What is done to one direction. Places are counted in bytes or in pieces, which are records mostly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Spoil {
    Nothing,
    Slow(Duration),
    Flip(usize),
    Cut {
        after: usize,
        cleanly: bool,
    },
    Lose(usize),
    Repeat(usize),
    Swap(usize),
    /// Every byte by itself, as many of them as these.
    Trickle(usize),
}

impl Spoil {
    pub(crate) fn roll(dice: &Dice) -> Self {
        let place = dice.pick(&[20, 150, 400, 1500]);
        match dice.below(8) {
            0 => Spoil::Slow(dice.time()),
            1 => Spoil::Flip(dice.below(place)),
            2 => Spoil::Cut { after: dice.below(place), cleanly: true },
            3 => Spoil::Cut { after: dice.below(place), cleanly: false },
            4 => Spoil::Lose(dice.below(4)),
            5 => Spoil::Repeat(dice.below(4)),
            6 => Spoil::Swap(dice.below(3)),
            _ => Spoil::Trickle(dice.between(1, 40)),
        }
    }
}

/// Changes a byte so that what it means for the receiver depends on its place only, and not on chance: of random hex
/// digits a flipped bit may leave the same number.
fn changed(byte: u8) -> u8 {
    match byte {
        b'0'..=b'8' | b'a'..=b'e' => byte + 1,
        b'9' => b'a',
        b'f' => b'0',
        _ => byte ^ 0x80,
    }
}

/// One direction, as it goes on.
pub(crate) struct Spoiler {
    spoil: Spoil,
    /// Pieces and bytes that have come.
    pieces: usize,
    bytes: usize,
    held: Option<Bytes>,
}

impl Spoiler {
    pub(crate) fn new(spoil: Spoil) -> Self {
        Spoiler { spoil, pieces: 0, bytes: 0, held: None }
    }

    /// What goes on when `piece` has come. An error is the end.
    pub(crate) async fn pass(&mut self, piece: Bytes) -> (Vec<Bytes>, Result<(), bool>) {
        let (number, before) = (self.pieces, self.bytes);
        self.pieces += 1;
        self.bytes += piece.len();
        let is_here = |at: usize| (before..before + piece.len()).contains(&at);
        match self.spoil {
            Spoil::Slow(rest) => sleep(rest).await,
            Spoil::Flip(at) if is_here(at) => {
                let mut changing = BytesMut::from(&piece[..]);
                changing[at - before] = changed(piece[at - before]);
                return (vec![changing.freeze()], Ok(()));
            }
            Spoil::Cut { after, cleanly } if is_here(after) => {
                return (vec![piece.slice(..after - before)], Err(cleanly));
            }
            Spoil::Lose(which) if which == number => return (Vec::new(), Ok(())),
            Spoil::Repeat(which) if which == number => return (vec![piece.clone(), piece], Ok(())),
            Spoil::Swap(which) if which == number => {
                self.held = Some(piece);
                return (Vec::new(), Ok(()));
            }
            Spoil::Trickle(many) if before == 0 => {
                let many = many.min(piece.len());
                let mut single: Vec<_> = (0..many).map(|at| piece.slice(at..=at)).collect();
                single.push(piece.slice(many..));
                return (single, Ok(()));
            }
            _ => {}
        }
        let mut pieces = vec![piece];
        pieces.extend(self.held.take());
        (pieces, Ok(()))
    }

    /// What is left at the end.
    pub(crate) fn end(&mut self) -> Option<Bytes> {
        self.held.take()
    }
}
