//! What has to be refused, with which code, and without a trace: the good one still works afterwards.

use std::time::Instant;

use super::{
    At, ENCODINGS, Script,
    records::{self, Ends},
    sides::{self, Sides},
};
use crate::{
    config::{Encoding, Hybrid},
    error::Code,
    protocol::{Opener, Responder, Session, keys::Direction},
};

pub(super) fn check(vector: &At<'_>) {
    vector.knows(&["name", "handshake", "stream", "good", "good_binary", "records", "hellos", "replies"]);
    for encoding in ENCODINGS {
        for record in vector.at("records").list() {
            record.knows(&["name", "code", "json", "binary"]);
            match record.at(records::field(encoding)).given() {
                Some(negative) => refuses_record(vector, &record, &negative, encoding),
                // The binary encoding has no words for some mistakes.
                None => assert!(
                    encoding == Encoding::Binary || record.at("binary").given().is_some(),
                    "{}",
                    record.path
                ),
            }
        }
    }
    for hello in vector.at("hellos").list() {
        hello.knows(&["name", "code", "hello"]);
        refuses_hello(vector, &hello);
    }
    for reply in vector.at("replies").list() {
        reply.knows(&["name", "code", "reply"]);
        refuses_reply(vector, &reply);
    }
}

/// The good record, in one encoding or the other.
#[track_caller]
fn good(vector: &At<'_>, encoding: Encoding) -> Vec<u8> {
    let good = vector.at(if encoding == Encoding::Json { "good" } else { "good_binary" });
    records::frame(&good, encoding)
}

/// Each in a session of its own, whose first record it would be.
fn refuses_record(vector: &At<'_>, record: &At<'_>, negative: &At<'_>, encoding: Encoding) {
    let (way, good) = (records::field(encoding), good(vector, encoding));
    let negative = records::frame(negative, encoding);
    let sides = Sides::new(&vector.at("handshake"), encoding);
    let id = vector.at("stream").number();
    if id == 0 {
        let Ends { mut opener, .. } = Ends::new(vector, &sides, Direction::Initiator, None, None, encoding);
        let open =
            |opener: &mut Opener, frame: &[u8]| opener.open(records::parse(frame, encoding)?, sides.now);
        record.is_refused(way, open(&mut opener, &negative));
        is_untouched(record, &sides.responder);
        record.at("the good one afterwards").ok(open(&mut opener, &good));
        return;
    }
    let begins = record.ok(records::parse(&good, encoding)).opening.map(|opening| opening.stream);
    assert_eq!(begins, Some(id), "{}: stream of the good one", vector.path);
    let responder = Responder::new(sides.responder.agreed.config.clone());
    responder.admit_shared(sides.responder.clone());
    let open = |frame: &[u8]| {
        let record = records::parse(frame, encoding).map_err(|error| (error, None))?;
        responder.open(record, sides.now).map(|(offered, _)| offered)
    };
    record.is_refused(way, open(&negative).map_err(|(error, _)| error));
    is_untouched(record, &sides.responder);

    let serve = |frame: &[u8]| {
        let offered = open(frame).map_err(|(error, _)| error)?;
        offered.claim(false, &mut Script::new(&[&[0; 16]]), sides.now)
    };
    let at = record.at("the good one afterwards");
    let claimed = at.ok(serve(&good));
    assert_eq!(claimed.caller.node_id(), sides.responder.peer(), "{}", at.path);
    assert!(sides.responder.is_confirmed(), "{}: has to confirm the session", at.path);
    let again = serve(&good).err().and_then(|error| error.code());
    assert_eq!(again, Some(Code::Replayed), "{}: a second time", at.path);
}

fn is_untouched(record: &At<'_>, session: &Session) {
    assert!(!session.is_confirmed(), "{}: has confirmed the session", record.path);
}

/// By a responder that takes part in ML-KEM and accepts everybody.
fn refuses_hello(vector: &At<'_>, hello: &At<'_>) {
    let handshake = vector.at("handshake");
    let now = Instant::now();
    let responder = Responder::new(sides::config(&handshake, "responder", "reply").hybrid(Hybrid::Offer));
    let accept = |message: &str| {
        // More randomness than any hello takes.
        let mut script = Script::new(&[&[9; 256]]);
        responder.accept(message.as_bytes(), |_| true, || true, &mut script, now)
    };
    hello.is_refused("hello", accept(&hello.at("hello").message()));
    let (reply, session) = hello.at("the good one afterwards").ok(accept(&handshake.at("hello").message()));
    let (_, initiator) = sides::start(&handshake, Encoding::Json);
    let ours = hello.at("the good one afterwards").ok(initiator.finish(&reply, now));
    assert_eq!(ours.id(), session.id(), "{}", hello.path);
    let again = accept(&handshake.at("hello").message()).err().and_then(|error| error.code());
    assert_eq!(again, Some(Code::Replayed), "{}: the good one a second time", hello.path);
}

/// By the initiator that said the handshake's hello.
fn refuses_reply(vector: &At<'_>, reply: &At<'_>) {
    let handshake = vector.at("handshake");
    let finish = |message: String| {
        let (_, initiator) = sides::start(&handshake, Encoding::Json);
        initiator.finish(message.as_bytes(), Instant::now())
    };
    reply.is_refused("reply", finish(reply.at("reply").message()));
    reply.at("the good one afterwards").ok(finish(handshake.at("reply").message()));
}
