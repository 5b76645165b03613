//! Handshakes: every value on the way from the secrets to the last record, and each record there and back.

use std::{collections::HashMap, sync::Arc};

use super::{
    At, ENCODINGS,
    records::{self, Ends, Firsts},
    sides::{self, Sides},
};
use crate::{
    config::{Encoding, Signatures},
    protocol::keys::{self, Direction, SessionKeys},
};

const RECORD: &[&str] =
    &["type", "session", "stream", "salt", "deadline", "nonce", "ciphertext", "signature", "path", "sender"];

pub(super) fn check(vector: &At<'_>) {
    vector.knows(&[
        "name",
        "initiator",
        "responder",
        "psk",
        "kem_seed",
        "kem",
        "hello",
        "hello_bytes",
        "h1",
        "reply",
        "reply_bytes",
        "th",
        "shared_secret",
        "prk",
        "dir_0",
        "dir_1",
        "exporter",
        "exported",
        "streams",
    ]);
    for side in ["initiator", "responder"] {
        vector.at(side).knows(&["identity_secret", "node_id", "ephemeral_secret"]);
    }
    for stream in vector.at("streams").list() {
        stream.knows(&[
            "direction",
            "id",
            "salt",
            "deadline",
            "request_leaf",
            "secret",
            "key_0",
            "iv_0",
            "records",
        ]);
        for record in stream.at("records").list() {
            record.knows(&["plaintext", "final", "padding", "epoch", "leaf", "json", "binary"]);
        }
    }
    for encoding in ENCODINGS {
        let sides = Sides::new(vector, encoding);
        are_derived(vector, &sides);
        Streams::new(vector, sides, encoding).run();
    }
}

/// Sections 2 and 3, up to the streams.
fn are_derived(vector: &At<'_>, sides: &Sides) {
    vector.at("hello_bytes").is(&sides.hello_bytes);
    vector.at("h1").is(&sides.h1);
    vector.at("reply_bytes").is(&sides.reply_bytes);
    vector.at("th").is(&sides.th);
    let x25519 = sides::shared(vector, "initiator", "reply");
    vector.at("shared_secret").is(&*x25519);
    vector.at("shared_secret").is(&*sides::shared(vector, "responder", "hello"));
    let [kem, psk] =
        ["kem", "psk"].map(|secret| vector.at(secret).given().map(|it| it.hex()).unwrap_or_default());
    let (prk, expander) = keys::prk(&sides.th, &x25519, &kem, &psk);
    vector.at("prk").is(&*prk);
    let directions = SessionKeys::directions(&expander);
    vector.at("dir_0").is(&*directions[0]);
    vector.at("dir_1").is(&*directions[1]);
    for session in [&sides.initiator, &sides.responder] {
        let keys = &session.agreed.keys;
        vector.at("exporter").is(&*keys.exporter);
        for exported in vector.at("exported").list() {
            exported.knows(&["name", "label", "context", "length", "value"]);
            let mut value = vec![0; usize::try_from(exported.at("length").number()).unwrap_or(0)];
            let label = exported.at("label").text().as_bytes();
            exported.ok(session.export(label, &exported.at("context").hex(), &mut value));
            exported.at("value").is(&value);
        }
    }
}

/// A stream of the vector, and how far it has come.
struct Lane<'a> {
    at: At<'a>,
    direction: Direction,
    id: u64,
    records: Vec<At<'a>>,
    next: usize,
    ends: Option<Ends>,
}

/// The streams of a session, between which the vector tells no order.
struct Streams<'a> {
    sides: Sides,
    encoding: Encoding,
    lanes: Vec<Lane<'a>>,
    firsts: HashMap<u64, Firsts>,
}

impl<'a> Streams<'a> {
    fn new(vector: &At<'a>, sides: Sides, encoding: Encoding) -> Self {
        let lane = |at: At<'a>| Lane {
            direction: match at.at("direction").number() {
                0 => Direction::Initiator,
                1 => Direction::Responder,
                _ => at.at("direction").fail("is none"),
            },
            id: at.at("id").number(),
            records: at.at("records").list(),
            next: 0,
            ends: None,
            at,
        };
        let lanes = vector.at("streams").list().into_iter().map(lane).collect();
        Streams { sides, encoding, lanes, firsts: HashMap::new() }
    }

    fn run(mut self) {
        while let Some(waiting) = self.lanes.iter().find(|lane| lane.next < lane.records.len()) {
            let Some(lane) = self.ready() else {
                waiting.records[waiting.next]
                    .fail("can't come now: it is unsigned, and nothing has confirmed the session");
            };
            self.step(lane);
        }
    }

    /// An order in which both sides keep the rules of section 5: what has to be signed goes first.
    fn ready(&self) -> Option<usize> {
        let confirmed = self.sides.initiator.is_confirmed();
        let signed = |lane: &Lane<'_>| {
            let record = lane.records.get(lane.next);
            record.map(|record| records::record(record, self.encoding).signed.is_some())
        };
        let has_begun = |id| {
            self.lanes
                .iter()
                .all(|lane| lane.direction == Direction::Responder || lane.id != id || lane.next > 0)
        };
        let by_initiator = |lane: &&Lane<'_>| lane.direction == Direction::Initiator;
        let first = self
            .lanes
            .iter()
            .position(|lane| !confirmed && by_initiator(&lane) && signed(lane) == Some(true));
        first.or_else(|| {
            self.lanes.iter().position(|lane| match (lane.direction, signed(lane)) {
                (_, None) => false,
                (Direction::Responder, _) => has_begun(lane.id),
                (Direction::Initiator, Some(signed)) => {
                    signed || confirmed || self.sides.initiator.signatures() == Signatures::Every
                }
            })
        })
    }

    /// Seals and opens the next record of a stream.
    fn step(&mut self, lane: usize) {
        let mut ends = self.lanes[lane].ends.take().unwrap_or_else(|| self.begin(&self.lanes[lane]));
        let Lane { at, direction, id, records, next, .. } = &self.lanes[lane];
        let vector = &records[*next];
        let (frame, first) = ends.seal(vector, &self.sides);
        let theirs = records::record(vector, self.encoding);
        self.is_sealed(vector, &frame);
        vector.at("leaf").is(&ends.opener.leaf(&theirs));

        if *direction == Direction::Initiator
            && *next == 0
            && let Some(opening) = records::opening(at, self.sides.initiator.id(), *direction)
        {
            vector.at("leaf").is(first.leaf());
            let received = records::received(&self.sides, opening, &theirs);
            let firsts = Firsts { initiator: Arc::new(first), responder: received.map(Arc::new) };
            self.firsts.insert(*id, firsts);
        }
        let opened = vector.ok(ends.opener.open(theirs, self.sides.now));
        records::is_plaintext(vector, &opened);
        self.lanes[lane].next += 1;
        self.lanes[lane].ends = Some(ends);
    }

    fn begin(&self, lane: &Lane<'_>) -> Ends {
        let Lane { at, direction, id, .. } = lane;
        let opening = records::opening(at, self.sides.initiator.id(), *direction);
        let request = at.at("request_leaf");
        let firsts = (opening.is_some() && *direction == Direction::Responder).then(|| {
            let known = self.firsts.get(id).cloned();
            known.unwrap_or_else(|| Firsts::with_leaf(&self.sides, request.bytes()))
        });
        request.is(firsts.as_ref().map_or(&[], |firsts| firsts.initiator.leaf()));
        let ends = Ends::new(at, &self.sides, *direction, opening, firsts.as_ref(), self.encoding);
        let (secret, key, iv) = ends.sealer.epoch().reveal();
        at.at("secret").is(&*secret);
        at.at("key_0").is(&*key);
        at.at("iv_0").is(&iv);
        ends
    }

    /// Panics unless `frame` is the vector's record: every byte of it in binary, every field in JSON.
    fn is_sealed(&self, vector: &At<'_>, frame: &[u8]) {
        let at = vector.at(records::field(self.encoding));
        let [theirs, ours] = [&records::frame(&at, self.encoding)[..], frame]
            .map(|frame| at.ok(records::parse(frame, self.encoding)));
        if theirs.signed.is_some() && ours.signed.is_none() {
            at.note("is signed where nothing demands it: compared but for the signature");
            assert_eq!(theirs.opening, ours.opening, "{}: opening", at.path);
            assert_eq!(theirs.nonce, ours.nonce, "{}: nonce", at.path);
            assert_eq!(theirs.ciphertext(), ours.ciphertext(), "{}: ciphertext", at.path);
            return;
        }
        match self.encoding {
            Encoding::Binary => at.is(frame),
            Encoding::Json => {
                at.has_fields_of(frame, RECORD);
                if at.message().as_bytes() != frame {
                    at.note("has the same fields as ours, written otherwise");
                }
            }
        }
    }
}
