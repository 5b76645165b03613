//! What may become of a message and its answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, header};
use tower_seal::error::Code;

use crate::{
    bodies::{Body, full},
    dice::Dice,
    spoil::Spoil,
};

/// On its way to the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Going {
    Arrives,
    /// It never left, and that is known.
    Refused,
    Broken,
    Hangs,
    Held(Duration),
    /// A copy comes later.
    Repeated(Duration),
    /// A copy came before, and its answer is lost.
    Second,
    /// Something older comes with it.
    Accompanied,
    OtherPath,
    /// The server restarts first.
    Restart,
    Spoilt(Spoil),
}

/// Back from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Coming {
    Arrives,
    Broken,
    Hangs,
    Held(Duration),
    /// That of another message comes in its place.
    Swapped,
    Forged(usize),
    /// The server restarts when it has answered, perhaps not to the end.
    Restart,
    Spoilt(Spoil),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    pub(crate) going: Going,
    pub(crate) coming: Coming,
}

impl Fate {
    pub(crate) const ARRIVES: Fate = Fate { going: Going::Arrives, coming: Coming::Arrives };

    /// One in `calm` meets a fault.
    pub(crate) fn roll(dice: &Dice, calm: usize) -> Self {
        let mut fate = Self::ARRIVES;
        if !dice.one_in(calm) {
            return fate;
        }
        if dice.one_in(2) {
            fate.going = match dice.below(11) {
                0 => Going::Refused,
                1 => Going::Broken,
                2 => Going::Hangs,
                3 => Going::Held(dice.time()),
                4 => Going::Repeated(dice.time()),
                5 => Going::Second,
                6 => Going::Accompanied,
                7 => Going::OtherPath,
                8 => Going::Restart,
                _ => Going::Spoilt(Spoil::roll(dice)),
            };
        } else {
            fate.coming = match dice.below(9) {
                0 => Coming::Broken,
                1 => Coming::Hangs,
                2 => Coming::Held(dice.time()),
                3 => Coming::Swapped,
                4 => Coming::Forged(dice.below(FORGERIES)),
                5 => Coming::Restart,
                _ => Coming::Spoilt(Spoil::roll(dice)),
            };
        }
        fate
    }
}

const FORGERIES: usize = Code::ALL.len() + 4;

/// An answer that the server never gave.
pub(crate) fn forged(which: usize) -> Response<Body> {
    let (status, kind, content) = match Code::ALL.get(which) {
        Some(code) => {
            let text = format!(r#"{{"type":"error","code":"{code}","message":"forged"}}"#);
            (code.http_status(), "application/vnd.tower-seal.error+json", Bytes::from(text))
        }
        None => match which - Code::ALL.len() {
            0 => (200, "application/json", Bytes::from("{\"ok\":true}")),
            1 => (200, "application/vnd.tower-seal", Bytes::from(&[0, 0, 0, 5, 1, 0, 1, 2, 3][..])),
            2 => (200, "application/vnd.tower-seal", Bytes::new()),
            _ => (302, "text/html", Bytes::from("elsewhere")),
        },
    };
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::LOCATION, "/elsewhere")
        .body(full(content))
        .unwrap()
}
