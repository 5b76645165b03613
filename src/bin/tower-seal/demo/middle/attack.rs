//! What the middle does to a request or to its answer.

use std::ops::Range;

use axum::{body::Body, response::Response};
use http::{header, request};
use http_body_util::BodyExt;

use super::{
    HANDSHAKE, Message, Middle, RECORDS,
    forge::{self, Name},
};
use crate::BoxError;

/// An attack on one exchange.
pub(in crate::demo) enum Attack {
    /// Flips a bit in the ciphertext of the request.
    FlipRequest,
    /// Flips a bit in the ciphertext of the answer.
    FlipAnswer,
    /// Answers with what answered another request.
    Swap(Message),
    /// The same, but with the number of this request written over that of the other.
    Relabel(Message),
    /// Answers a hello itself, with a key of its own.
    OwnKey(Name),
    /// Answers in plaintext.
    Plaintext(&'static str),
}

impl Attack {
    /// Whether it is for a request with this content type.
    pub(super) fn is_for(&self, content_type: &str) -> bool {
        matches!(self, Attack::OwnKey(_)) == (content_type == HANDSHAKE)
    }
}

impl Middle {
    pub(super) async fn attack(
        &self,
        attack: Attack,
        number: usize,
        parts: request::Parts,
        body: Body,
    ) -> Result<Response, BoxError> {
        let request = body.collect().await?.to_bytes();
        match attack {
            Attack::FlipRequest => self.forward(number, parts, flip(&request)?.into()).await,
            Attack::FlipAnswer => {
                let answer = self.forward(number, parts, request.into()).await?;
                let (parts, body) = answer.into_parts();
                let body = flip(&body.collect().await?.to_bytes())?;
                Ok(Response::from_parts(parts, body.into()))
            }
            Attack::Swap(other) => answer(RECORDS, other.body()),
            Attack::Relabel(other) => answer(RECORDS, relabel(&request, &other.body())?),
            Attack::OwnKey(name) => answer(HANDSHAKE, forge::reply(&request, &self.seed, name)?),
            Attack::Plaintext(text) => answer("application/json", text.into()),
        }
    }
}

fn answer(content_type: &str, body: Vec<u8>) -> Result<Response, BoxError> {
    Ok(Response::builder().header(header::CONTENT_TYPE, content_type).body(body.into())?)
}

/// The record with the lowest bit flipped of a hex digit in the middle of its ciphertext.
fn flip(record: &[u8]) -> Result<Vec<u8>, BoxError> {
    let found = field(record, b"\"ciphertext\":\"", u8::is_ascii_hexdigit);
    let ciphertext = found.ok_or("there is no ciphertext to change")?;
    let mut record = record.to_vec();
    let digit = &mut record[ciphertext.start + ciphertext.len() / 2];
    *digit = match *digit {
        letter @ b'a'..=b'f' => b'a' + ((letter - b'a') ^ 1),
        digit => digit ^ 1,
    };
    Ok(record)
}

/// `answer` with the stream number of `request`.
fn relabel(request: &[u8], answer: &[u8]) -> Result<Vec<u8>, BoxError> {
    let stream =
        |record| field(record, b"\"stream\":", u8::is_ascii_digit).ok_or("there is no stream number");
    let (wanted, found) = (stream(request)?, stream(answer)?);
    Ok([&answer[..found.start], &request[wanted], &answer[found.end..]].concat())
}

/// Where the value after `name` stands in a record, as far as its bytes are `part` of it.
fn field(record: &[u8], name: &[u8], part: impl Fn(&u8) -> bool) -> Option<Range<usize>> {
    let start = record.windows(name.len()).position(|window| window == name)? + name.len();
    let length = record[start..].iter().take_while(|byte| part(byte)).count();
    (length > 0).then_some(start..start + length)
}
