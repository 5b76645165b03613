//! What the middle has on its tape, beside what it has there when nothing is sealed.

use std::io::Write;

use serde_json::{Value, json};

use super::{
    middle::{Exchange, Message, RECORDS},
    search::{Needle, size},
    show::{NO_BREAK, Show, abridged},
    stage::{self, Stage},
};
use crate::BoxError;

/// What was said: names, arguments and answers, and words that every MCP message has.
const SAID: [&str; 12] = [
    "add_numbers",
    "count_down",
    "pay_invoice",
    "who_am_i",
    "Pays an invoice",
    "Ada Lovelace",
    "has been paid 250",
    "ignition in 2",
    "lift-off",
    "jsonrpc",
    "tools/call",
    "inputSchema",
];

/// The arguments of the call that is looked at.
pub(super) fn invoice() -> Value {
    json!({ "payee": "Ada Lovelace", "euros": 250 })
}

/// What another middle has on its tape after the same conversation, without the seal.
pub(super) struct Unsealed {
    exchanges: Vec<Exchange>,
    /// The number of the exchange in which the invoice was paid.
    paid: usize,
}

impl Unsealed {
    /// The request to pay the invoice.
    pub(super) fn request(&self) -> Result<&Message, BoxError> {
        Ok(&self.call()?.request)
    }

    fn call(&self) -> Result<&Exchange, BoxError> {
        Ok(self.exchanges.get(self.paid).ok_or("the call without the seal is not on its tape")?)
    }
}

/// Has the same conversation without the seal.
pub(super) async fn rehearse() -> Result<Unsealed, BoxError> {
    let (server, middle, mut client) = stage::without_layers().await?;
    client.tools().await?;
    client.call("add_numbers", json!({ "a": 2, "b": 40 })).await?;
    let paid = middle.tape().len();
    client.call("pay_invoice", invoice()).await?;
    client.call("who_am_i", json!({})).await?;
    client.count_down(&server, |_| Ok::<_, BoxError>(())).await?;
    Ok(Unsealed { exchanges: middle.tape().exchanges(), paid })
}

/// Shows one call as the two ends know it, and as the middle saw it.
pub(super) fn compare<W: Write>(
    show: &mut Show<W>,
    stage: &Stage,
    paid: usize,
    unsealed: &Unsealed,
) -> Result<(), BoxError> {
    let body = |message: &Message| String::from_utf8_lossy(&message.body()).trim_end().to_owned();
    let plain = unsealed.call()?;
    let sealed = stage.middle.tape().exchange(paid).ok_or("the call is not on the tape")?;
    show.chapter("The same call, without the seal and with it, as the middle saw it")?;
    show.fact("unsealed", &body(&plain.request))?;
    show.fact("  answer", &body(&plain.answer))?;
    show.wire("sealed", &abridged(&body(&sealed.request)))?;
    show.wire("  answer", &abridged(&body(&sealed.answer)))?;
    let types = sealed.messages().map(|message| &*message.content_type);
    show.claim(types == [RECORDS; 2], "what passed through the middle were two envelopes, one each way")?;
    Ok(())
}

/// Shows that nothing of what was said is anywhere on the tape.
pub(super) fn learned<W: Write>(
    show: &mut Show<W>,
    stage: &Stage,
    unsealed: &Unsealed,
) -> Result<(), BoxError> {
    show.chapter("What the middle has learned")?;
    let exchanges = stage.middle.tape().exchanges();
    let needles = SAID.map(Needle::new);
    let found = |exchanges: &[Exchange]| {
        needles.iter().filter(|needle| needle.is_in(exchanges)).map(Needle::text).collect::<Vec<_>>()
    };
    let (with, without) = (found(&exchanges), found(&unsealed.exchanges));
    let tape = format!("{} requests and answers, {} bytes", exchanges.len(), grouped(size(&exchanges)));
    show.fact("on its tape", &tape)?;
    show.fact("searched for", &listed(&SAID))?;
    show.fact("", "as they are, in hex of either case, and in base64 at any offset")?;
    show.claim(
        with.is_empty(),
        &match &with[..] {
            [] => format!("none of these {} is there", SAID.len()),
            found => format!("these are there: {}", listed(found)),
        },
    )?;
    let all = without.len() == SAID.len();
    show.claim(
        all,
        &format!("the search works: without the seal it finds {} of {}", without.len(), SAID.len()),
    )?;
    show.fact("what it knows", "that these two nodes talked, when, how often, and how much")?;
    Ok(())
}

fn listed(texts: &[&str]) -> String {
    texts.join(" · ").replace(' ', NO_BREAK).replace("·\u{a0}", "· ")
}

/// A number with a comma after every third digit.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
