//! Records of a vector, and the two ends of the stream that they stand in.

use std::sync::Arc;

use bytes::BytesMut;

use super::{At, sides::Sides};
use crate::{
    config::Encoding,
    error::Result,
    protocol::{
        Final, Opener, Plaintext, Record, Sealer,
        keys::Direction,
        record::Opening,
        stream::{FirstRecord, Opened, Stream, sign_alone},
    },
    trust::SessionId,
};

/// Far above what a vector holds.
const LIMIT: usize = 16 << 20;

pub(super) fn field(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Binary => "binary",
        Encoding::Json => "json",
    }
}

/// The bytes of the record that stands here.
#[track_caller]
pub(super) fn frame(record: &At<'_>, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Binary => record.hex(),
        Encoding::Json => record.message().into_bytes(),
    }
}

pub(super) fn parse(frame: &[u8], encoding: Encoding) -> Result<Record> {
    Record::parse(BytesMut::from(frame), encoding, LIMIT)
}

/// The record of a vector, which has both encodings.
#[track_caller]
pub(super) fn record(vector: &At<'_>, encoding: Encoding) -> Record {
    let at = vector.at(field(encoding));
    at.ok(parse(&frame(&at, encoding), encoding))
}

pub(super) fn siblings(record: &Record) -> &[u8] {
    &record.body[record.siblings.clone()]
}

/// Panics unless `opened` is what the vector says.
#[track_caller]
pub(super) fn is_plaintext(vector: &At<'_>, opened: &Opened) {
    vector.at("plaintext").is(&opened.plaintext);
    let last = vector.at("final");
    if last.given().is_some() && last.flag() != (opened.last == Final::Yes) {
        last.fail(format_args!("is {}\n     and ours {:?}", last.flag(), opened.last));
    }
}

/// A stream's opening, as a vector spells it; none in stream 0.
#[track_caller]
pub(super) fn opening(stream: &At<'_>, session: SessionId, direction: Direction) -> Option<Opening> {
    let id = stream.at("id").number();
    let (salt, deadline) = (stream.at("salt"), stream.at("deadline"));
    let timed = id != 0 && direction == Direction::Initiator;
    if !timed && deadline.given().is_some_and(|deadline| deadline.number() != 0) {
        deadline.fail("stands in requests only");
    }
    if id == 0 {
        salt.is(&[]);
        return None;
    }
    let deadline = timed.then(|| deadline.number());
    Some(stream.ok(Opening::parse(*session.as_bytes(), id, salt.bytes(), deadline)))
}

/// The first record of a request, as either side remembers it.
#[derive(Clone)]
pub(super) struct Firsts {
    pub(super) initiator: Arc<FirstRecord>,
    /// Where it signs.
    pub(super) responder: Option<Arc<FirstRecord>>,
}

impl Firsts {
    /// Of a request of which a vector has only the leaf.
    pub(super) fn with_leaf(sides: &Sides, leaf: [u8; 32]) -> Self {
        Firsts {
            initiator: Arc::new(FirstRecord::with_leaf(&sides.initiator, leaf)),
            responder: Some(Arc::new(FirstRecord::with_leaf(&sides.responder, leaf))),
        }
    }
}

/// The two ends of a stream.
pub(super) struct Ends {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    epoch: u64,
}

impl Ends {
    /// `firsts` are there in the response of an exchange.
    #[track_caller]
    pub(super) fn new(
        vector: &At<'_>,
        sides: &Sides,
        direction: Direction,
        opening: Option<Opening>,
        firsts: Option<&Firsts>,
        encoding: Encoding,
    ) -> Self {
        let stream = |sends: bool| {
            let by_initiator = sends == (direction == Direction::Initiator);
            let session = if by_initiator { &sides.initiator } else { &sides.responder }.clone();
            match (opening, firsts) {
                (None, _) => Stream::duplex(session, direction, sides.now),
                (Some(opening), None) => Stream::request(session, opening, sides.now),
                (Some(opening), Some(firsts)) => {
                    let ours = Some(firsts.initiator.clone());
                    let first = if by_initiator { ours } else { firsts.responder.clone() };
                    Stream::response(session, opening, first, sides.now)
                }
            }
        };
        let sealer = vector.ok(Sealer::new(stream(true), encoding, false));
        let opener = vector.ok(Opener::new(stream(false)));
        Ends { sealer, opener, epoch: 0 }
    }

    /// Seals the vector's record anew: the frame, and what the sender remembers of it.
    #[track_caller]
    pub(super) fn seal(&mut self, vector: &At<'_>, sides: &Sides) -> (Vec<u8>, FirstRecord) {
        let plaintext = vector.at("plaintext").hex();
        let padding = usize::try_from(vector.at("padding").number()).unwrap_or(usize::MAX);
        let last = if vector.at("final").flag() { Final::Yes } else { Final::No };
        while self.epoch < vector.at("epoch").number() {
            vector.ok(self.sealer.rekey());
            self.epoch += 1;
        }
        let plaintext = Plaintext::from(&plaintext[..]);
        let draft = vector.ok(self.sealer.draft_padded(plaintext, padding, last, sides.now));
        let first = FirstRecord::drafted(self.sealer.stream(), &draft);
        let proof = sign_alone(self.sealer.config(), draft.leaf()).unwrap();
        let (frame, ciphertext) = draft.write_both(proof.as_ref());
        (frame.to_vec(), first.sent(ciphertext))
    }
}

/// What the responder remembers of the request that begins with `record`.
pub(super) fn received(sides: &Sides, opening: Opening, record: &Record) -> Option<FirstRecord> {
    let stream = Stream::request(sides.responder.clone(), opening, sides.now);
    let leaf = stream.leaf(record.nonce, record.ciphertext());
    FirstRecord::received(&stream, record.nonce, leaf)
}
