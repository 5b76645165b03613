//! tower-seal: binary, unsigned, one direction of a two-way connection.

use std::{hint::black_box, time::Instant};

use bytes::BytesMut;
use rand_core::UnwrapErr;
use tower_seal::{
    Config, Identity,
    config::{Backend, Encoding, Hybrid, Signatures},
    protocol::{Destination, Final, Initiator, Opener, Record, Responder, Sealer, Session},
    trust::AnyIdentity,
};

use crate::Way;

const LIMIT: usize = 1 << 20;

pub(crate) fn way(backend: Backend) -> Way {
    let config = |hybrid| {
        Config::new(Identity::generate(), AnyIdentity)
            .backend(backend)
            .signatures(Signatures::Handshake)
            .hybrid(hybrid)
    };
    let pair = |hybrid| (config(hybrid), Responder::new(config(hybrid)));
    let (handshake, proved, hybrid) = (pair(Hybrid::Off), pair(Hybrid::Off), pair(Hybrid::Require));
    let (mut sealer, mut opener) = prove(shake(&proved));
    let now = Instant::now();
    Way {
        name: format!("tower-seal, unsigned, {backend:?}"),
        handshake: Box::new(move || drop(black_box(shake(&handshake)))),
        proved: Box::new(move || drop(black_box(prove(shake(&proved))))),
        hybrid: Some(Box::new(move || drop(black_box(shake(&hybrid))))),
        message: Box::new(move |message| {
            let frame = sealer.seal(black_box(message), Final::No, now).unwrap();
            let frame = frame.try_into_mut().unwrap_or_else(|frame| BytesMut::from(&frame[..]));
            let record = Record::parse(frame, Encoding::Binary, LIMIT).unwrap();
            black_box(opener.open(record, now).unwrap());
        }),
    }
}

/// Hello and reply.
fn shake((client, server): &(Config, Responder)) -> (Session, Session) {
    let (rng, now) = (&mut UnwrapErr(getrandom::SysRng), Instant::now());
    let (hello, initiator) = Initiator::start(client, Destination::default(), rng).unwrap();
    let (reply, theirs) = server.accept(&hello, |_| true, || true, rng, now).unwrap();
    (initiator.finish(&reply, now).unwrap(), theirs)
}

/// The first record of each side. What is left is the client's direction.
fn prove((ours, theirs): (Session, Session)) -> (Sealer, Opener) {
    let now = Instant::now();
    let (mut sealer, mut back) = ours.into_duplex(false, now).unwrap();
    let (mut answer, mut opener) = theirs.into_duplex(false, now).unwrap();
    let parse = |frame: &[u8]| Record::parse(frame.into(), Encoding::Binary, LIMIT).unwrap();
    let frame = sealer.seal(&b""[..], Final::No, now).unwrap();
    opener.open(parse(&frame), now).unwrap();
    let frame = answer.seal(&b""[..], Final::No, now).unwrap();
    back.open(parse(&frame), now).unwrap();
    (sealer, opener)
}
