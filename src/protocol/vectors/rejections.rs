//! Errors that a responder signed (section 9).

use serde_json::{Value, json};

use super::{
    At,
    records::{self, Ends},
    sides::{self, Sides},
};
use crate::{
    config::Encoding,
    error::{Code, Error},
    protocol::{
        Awaiting,
        keys::Direction,
        record::Record,
        reject::{self, Subject},
        stream::{FirstRecord, Stream},
    },
};

pub(super) fn check(vector: &At<'_>) {
    vector.knows(&["name", "handshake", "request", "request_binary", "error"]);
    let sides = Sides::new(&vector.at("handshake"), Encoding::Json);
    for (field, encoding) in [("request", Encoding::Json), ("request_binary", Encoding::Binary)] {
        if let Some(request) = vector.at(field).given() {
            let frame = records::frame(&request, encoding);
            let parse = || request.ok(records::parse(&frame, encoding));
            is_written(vector, &request, parse());
            is_believed(vector, &request, &sides, parse);
        }
    }
}

/// The responder's half: the same error about the same request has the same signature.
fn is_written(vector: &At<'_>, request: &At<'_>, record: Record) {
    let error = vector.at("error");
    error.knows(&["type", "code", "message", "session", "stream", "node_id", "signature"]);
    let Some(subject) = Subject::of(record) else { request.fail("has no opening") };
    let responder = sides::config(&vector.at("handshake"), "responder", "reply");
    let signed = error.at("signature").given().is_some();
    let ours = reject::write(&Error::new(code(&error), "a vector"), signed.then_some((&subject, &responder)));
    error.has_fields_of(&ours, &["type", "code", "session", "stream", "node_id", "signature"]);
}

/// The initiator's half: it says `signed` of this error, and of no other.
fn is_believed(vector: &At<'_>, request: &At<'_>, sides: &Sides, parse: impl Fn() -> Record) {
    let error = vector.at("error");
    let awaiting = |record: &Record, id: u64| {
        let Some(opening) = record.opening else { request.fail("has no opening") };
        let stream = Stream::request(sides.initiator.clone(), opening, sides.now);
        Awaiting::new(sides.initiator.clone(), id, FirstRecord::sent(&stream, record))
    };
    let says = |what: &str, waiting: &Awaiting, message: &Value, expected: bool| {
        let code = code(&error.with(format!("{} {what}", error.path), message));
        match waiting.refused(message.to_string().as_bytes()) {
            Error::Refused { code: ours, signed } if ours == code && signed == expected => {}
            other => {
                error.fail(format_args!("({what}) should be {code}, signed: {expected}, and was {other:?}"))
            }
        }
    };
    let record = parse();
    let id = record.opening.map_or(0, |opening| opening.stream);
    let genuine = error.value;
    let signed = error.at("signature").given().is_some();
    says("as it is", &awaiting(&record, id), genuine, signed);
    if record.opening.is_some_and(|opening| opening.session == sides.responder.id()) {
        // Only to show that it was a request of this session; what the responder refused may not open.
        let mut ends = Ends::new(request, sides, Direction::Initiator, record.opening, None, Encoding::Json);
        if ends.opener.open(parse(), sides.now).is_err() {
            request.note("does not open");
        }
    }

    let with = |field: &str, value: Value| {
        let mut changed = genuine.clone();
        changed[field] = value;
        changed
    };
    for other in Code::ALL.iter().filter(|other| **other != code(&error)) {
        says("another code", &awaiting(&record, id), &with("code", json!(other.as_str())), false);
    }
    if !signed {
        return;
    }
    says("another message", &awaiting(&record, id), &with("message", json!("else")), true);
    says("another stream", &awaiting(&record, id), &with("stream", json!(id + 1)), false);
    for field in ["session", "node_id", "signature"] {
        let mut bytes = error.at(field).hex();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            bytes[at] ^= 1;
            says(field, &awaiting(&record, id), &with(field, json!(const_hex::encode(&bytes))), false);
            bytes[at] ^= 1;
        }
    }
    let initiator = json!(sides.responder.peer().to_string());
    says("another node", &awaiting(&record, id), &with("node_id", initiator), false);
    for field in ["session", "stream", "node_id", "signature"] {
        let mut without = genuine.clone();
        if let Some(fields) = without.as_object_mut() {
            fields.remove(field);
        }
        says(&format!("without {field}"), &awaiting(&record, id), &without, false);
    }

    says("to another stream", &awaiting(&record, id + 1), genuine, false);
    says("to another stream, renamed", &awaiting(&record, id + 1), &with("stream", json!(id + 1)), false);
    let mut changed = parse();
    let last = changed.body.len() - 1;
    changed.body[last] ^= 1;
    says("to another ciphertext", &awaiting(&changed, id), genuine, false);
    let mut changed = parse();
    changed.nonce.0[11] ^= 1;
    says("to another nonce", &awaiting(&changed, id), genuine, false);
}

#[track_caller]
fn code(error: &At<'_>) -> Code {
    error.ok(error.at("code").text().parse())
}
