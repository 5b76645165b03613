//! Batches: records that share one signature, of one stream or of several sessions.

use std::collections::HashSet;

use super::{
    At, ENCODINGS,
    records::{self, Ends, Firsts},
    sides::{self, Sides},
};
use crate::{
    config::Encoding,
    error::Code,
    protocol::{
        batch,
        keys::Direction,
        record::{Record, Signed},
    },
};

const HANDSHAKE: &[&str] =
    &["name", "initiator", "responder", "hello", "reply", "th", "psk", "kem_seed", "kem"];

pub(super) fn check(vector: &At<'_>) {
    vector.knows(&["name", "handshake", "stream", "salt", "deadline", "request_leaf", "root", "records"]);
    vector.at("handshake").knows(HANDSHAKE);
    for encoding in ENCODINGS {
        let lane = Lane::new(&vector.at("handshake"), vector, "stream", encoding);
        open(vector, vec![lane], encoding);
    }
}

pub(super) fn check_sessions(vector: &At<'_>) {
    vector.knows(&["name", "responder", "sessions", "root", "streams", "records"]);
    let (sessions, streams) = (vector.at("sessions").list(), vector.at("streams").list());
    assert_eq!(sessions.len(), streams.len(), "{}: one stream for each session", vector.path);
    for (session, stream) in sessions.iter().zip(&streams) {
        session.knows(HANDSHAKE);
        stream.knows(&["id", "salt", "deadline", "request_leaf"]);
        let responder = sides::identity(session, "responder").node_id();
        assert_eq!(sides::identity(vector, "responder").node_id(), responder, "{}: responder", session.path);
    }
    for encoding in ENCODINGS {
        let lane = |(session, stream)| Lane::new(session, stream, "id", encoding);
        open(vector, sessions.iter().zip(&streams).map(lane).collect(), encoding);
    }
}

/// One session with one stream, which begins with its first record.
struct Lane<'a> {
    stream: At<'a>,
    id: u64,
    sides: Sides,
    ends: Option<Ends>,
}

impl<'a> Lane<'a> {
    fn new(handshake: &At<'_>, stream: &At<'a>, id: &str, encoding: Encoding) -> Self {
        Lane {
            stream: stream.again(),
            id: stream.at(id).number(),
            sides: Sides::new(handshake, encoding),
            ends: None,
        }
    }

    /// Who sends, as the JSON says in every record.
    fn direction(&self, record: &At<'_>) -> Direction {
        let sender = records::record(record, Encoding::Json).sender;
        match sender {
            Some(sender) if sender == self.sides.responder.peer() => Direction::Initiator,
            Some(sender) if sender == self.sides.initiator.peer() => Direction::Responder,
            _ => record.at("json").fail("is of neither side"),
        }
    }

    fn begin(&self, record: &At<'_>, encoding: Encoding) -> Ends {
        let opening = records::record(record, encoding).opening;
        assert_eq!(opening.map_or(0, |opening| opening.stream), self.id, "{}: stream", record.path);
        self.stream.at("salt").is(opening.as_ref().map_or(&[], |opening| &opening.salt));
        let direction = self.direction(record);
        let firsts = self.stream.at("request_leaf").given();
        let firsts = firsts.map(|leaf| Firsts::with_leaf(&self.sides, leaf.bytes()));
        assert_eq!(
            firsts.is_some(),
            opening.is_some() && direction == Direction::Responder,
            "{}: request_leaf belongs to responses",
            self.stream.path
        );
        Ends::new(record, &self.sides, direction, opening, firsts.as_ref(), encoding)
    }
}

/// Opens all records in order, and those with a bent path before them not.
fn open(vector: &At<'_>, mut lanes: Vec<Lane<'_>>, encoding: Encoding) {
    let root = vector.at("root");
    let mut places = HashSet::new();
    for record in vector.at("records").list() {
        record.knows(&["session", "plaintext", "final", "leaf", "json", "binary"]);
        let session = record.at("session").given().map_or(0, |session| session.number());
        let lane = usize::try_from(session).ok().and_then(|session| lanes.get_mut(session));
        let lane = lane.unwrap_or_else(|| record.at("session").fail("is none"));
        let mut ends = lane.ends.take().unwrap_or_else(|| lane.begin(&record, encoding));

        let theirs = records::record(&record, encoding);
        let leaf = ends.opener.leaf(&theirs);
        let Some(Signed { signature, index }) = theirs.signed else { record.fail("is not signed") };
        let ours = batch::root(leaf, index, records::siblings(&theirs));
        root.is(&ours);
        let sender = match lane.direction(&record) {
            Direction::Initiator => &lane.sides.initiator,
            Direction::Responder => &lane.sides.responder,
        };
        let again = record.ok(sender.agreed.config.sign(&batch::message(&ours)));
        assert!(again == signature, "{}: signature", record.path);
        if let Some(given) = record.at("leaf").given() {
            given.is(&leaf);
        }
        if !places.insert(index) {
            record.fail(format_args!("has the index {index} of another record"));
        }

        for bent in bent(&record, leaf, encoding) {
            let error = ends.opener.open(bent, lane.sides.now).err().and_then(|error| error.code());
            assert_eq!(error, Some(Code::InvalidSignature), "{}: with a bent path", record.path);
        }
        let opened = record.ok(ends.opener.open(theirs, lane.sides.now));
        records::is_plaintext(&record, &opened);
        lane.ends = Some(ends);
    }
}

/// The record with each bit of its index flipped (but where the last leaf, repeated, is its own sibling, which
/// leads to the same root), with each sibling changed, and without its path.
fn bent(vector: &At<'_>, leaf: [u8; 32], encoding: Encoding) -> Vec<Record> {
    let record = || records::record(vector, encoding);
    let length = record().siblings.len();
    let mut all = Vec::new();
    for level in 0..length / 32 {
        let mut flipped = record();
        let index = flipped.signed.as_ref().map_or(0, |signed| signed.index);
        let below = batch::root(leaf, index, &records::siblings(&flipped)[..level * 32]);
        if records::siblings(&flipped)[level * 32..][..32] != below {
            if let Some(signed) = &mut flipped.signed {
                signed.index ^= 1 << level;
            }
            all.push(flipped);
        }
        let mut changed = record();
        let at = changed.siblings.start + level * 32;
        changed.body[at] ^= 1;
        all.push(changed);
    }
    if length > 0 {
        let mut lone = record();
        lone.siblings.end = lone.siblings.start;
        lone.signed = lone.signed.map(|signed| Signed { index: 0, ..signed });
        all.push(lone);
    }
    all
}
