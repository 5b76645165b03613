//! Lines that are no messages, or not all of them: what can be carried, and what the host is told of the rest.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    fault::{self, Fault},
    message::{Id, Kind, Line, Unreadable},
};
use crate::long_line::LongLine;

/// Bytes of an answer after which no more is said of what else cannot be read.
const LONGEST: usize = 1 << 20;

/// What of a line that cannot be read can be carried all the same, and the answer to the rest.
pub(super) fn salvage(bytes: &[u8], why: Unreadable) -> (Option<Line>, Bytes) {
    let members = members(bytes);
    if members.is_empty() {
        return (None, fault::unreadable(why, id(bytes).as_ref()));
    }
    let (mut good, mut refused, mut bytes) = (Vec::new(), Vec::new(), 0);
    for member in members {
        match Kind::of(member.as_bytes()) {
            Ok(_) => good.push(member),
            // A batch of nothings is shorter by far than an answer to each.
            Err(_) if bytes > LONGEST => {}
            Err(why) => {
                let refusal = fault::unreadable(why, id(member.as_bytes()).as_ref());
                bytes += refusal.len();
                refused.push(refusal);
            }
        }
    }
    // Answers to a batch are one.
    let mut answer = b"[".to_vec();
    answer.extend_from_slice(&refused.join(&b","[..]));
    answer.push(b']');
    (batch(&good), answer.into())
}

/// A batch without its requests.
pub(super) fn without_asks(line: &Line) -> Option<Line> {
    let members = members(&line.bytes).into_iter();
    let others = members.filter(|member| !matches!(Kind::of(member.as_bytes()), Ok(Kind::Request { .. })));
    batch(&others.collect::<Vec<_>>())
}

/// The answer to a line of more bytes than are read.
pub(super) fn too_long(line: &LongLine) -> Bytes {
    // What asks nothing cannot be answered by its id.
    let id = line.member("method").and(line.member("id")).and_then(|id| Id::of(&id));
    let Some(id) = id else { return fault::unreadable(Unreadable::Invalid, None) };
    Fault::new("too_large", "A message has at most 16 MiB: this one was not sent. Send less at once.")
        .answer(&id)
}

/// Those of a batch.
fn members(bytes: &[u8]) -> Vec<&str> {
    let Ok(members) = serde_json::from_slice::<Vec<&RawValue>>(bytes) else { return Vec::new() };
    members.into_iter().map(RawValue::get).collect()
}

fn batch(members: &[&str]) -> Option<Line> {
    if members.is_empty() {
        return None;
    }
    Line::read(format!("[{}]", members.join(",")).into()).ok()
}

/// The id of what looks like a request.
fn id(object: &[u8]) -> Option<Id> {
    #[derive(Deserialize)]
    struct Asking<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
        #[serde(rename = "method")]
        _method: IgnoredAny,
    }
    if !object.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let asking: Asking<'_> = serde_json::from_slice(object).ok()?;
    Id::of(asking.id.get())
}
