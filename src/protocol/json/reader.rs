//! A strict JSON reader that borrows: what the protocol's notation paragraph asks of a message.
//!
//! [`Object::parse`] checks a whole document before it hands out any of it, unknown fields included: UTF-8,
//! the grammar of RFC 8259, and beyond it that no name stands twice in an object, that there is no null and no
//! lone surrogate, and that nothing nests deeper than [`MAX_DEPTH`]. A message that two parsers could read
//! differently (section 4 on names, 8.2 on surrogates) is an attack on one of them, and `malformed` here.
//!
//! Only names and places are kept: memory is O(number of names), however long the strings are, and those are
//! borrowed from the message and decoded when asked for. Time is O(n log n), for sorting the names.
//!
//! ```text
//! let record = Object::parse(bytes)?;
//! let nonce = record.required("nonce")?.hex::<12>()?;
//! let path = record.optional("path").map(Value::object).transpose()?;
//! ```

use std::{borrow::Cow, iter};

use bytes::BufMut;

use crate::error::{Error, Result};

/// How deep objects and arrays may nest, the outermost counted (RFC 8259 section 9 leaves it to the parser).
pub(crate) const MAX_DEPTH: usize = 64;

/// How many names a document may have, in all its objects together: more than fit into the 16 KiB of a
/// handshake, so that only a record with a great many unknown fields is refused, whose sorting would cost a
/// stranger nothing and the reader seconds.
pub(crate) const MAX_NAMES: usize = 4096;

/// The greatest integer that every JSON parser keeps exact (RFC 8259 section 6).
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// One JSON object, checked as a whole; its fields are borrowed, and sorted by the bytes of their names.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    fields: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl<'a> Object<'a> {
    /// Reads a whole document: one object, white space around it, and nothing else (RFC 8259 section 2), not
    /// even a byte order mark (section 8.1).
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        Self::parse_text(std::str::from_utf8(bytes).map_err(|_| Error::malformed("JSON that is not UTF-8"))?)
    }

    fn parse_text(text: &'a str) -> Result<Self> {
        let mut reader = Reader::new(text);
        reader.fields.reserve(16); // a record has 10, and 2 in its path: one allocation
        reader.skip_space();
        reader.object()?;
        reader.skip_space();
        ensure(reader.rest().is_empty(), "text after the JSON object")?;
        Ok(Object { fields: reader.fields })
    }

    /// The field of this name, which may be left out.
    pub(crate) fn optional(&self, name: &str) -> Option<Value<'a>> {
        let at = self.fields.binary_search_by(|(field, _)| (**field).cmp(name)).ok()?;
        self.fields.get(at).map(|&(_, value)| value)
    }

    /// The field of this name, which is `malformed` to leave out.
    pub(crate) fn required(&self, name: &str) -> Result<Value<'a>> {
        self.optional(name).ok_or(Error::malformed("a required JSON field is missing"))
    }

    /// All fields, in the order of the bytes of their names.
    pub(crate) fn fields(&self) -> impl ExactSizeIterator<Item = (&str, Value<'a>)> {
        self.fields.iter().map(|(name, value)| (&**name, *value))
    }
}

/// The value of a field: known to be good JSON, not yet known to be what the protocol wants there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    String(Text<'a>),
    Integer(u64),
    /// What no field of the protocol holds: a boolean, or a number that is negative, too big or no integer.
    Other,
    /// The object's own text, from brace to brace.
    Object(&'a str),
    /// The array's own text, from bracket to bracket.
    Array(&'a str),
}

impl<'a> Value<'a> {
    /// The string, decoded: borrowed unless it has an escape.
    pub(crate) fn string(self) -> Result<Cow<'a, str>> {
        let Value::String(text) = self else { return malformed("a JSON field that should be a string") };
        text.decode()
    }

    /// The integer, from 0 to [`MAX_INTEGER`] and written without sign, fraction or exponent.
    pub(crate) fn integer(self) -> Result<u64> {
        let Value::Integer(number) = self else { return malformed("a JSON field that should be an integer") };
        Ok(number)
    }

    /// The object inside. It is read a second time, so each level that is asked for costs its length.
    pub(crate) fn object(self) -> Result<Object<'a>> {
        let Value::Object(text) = self else { return malformed("a JSON field that should be an object") };
        Object::parse_text(text)
    }

    /// The strings of an array of strings; more than `max` of them are `malformed`, and not kept.
    pub(crate) fn strings(self, max: usize) -> Result<Vec<Cow<'a, str>>> {
        let Value::Array(text) = self else { return malformed("a JSON field that should be an array") };
        let mut strings = Vec::new();
        Reader::new(text).array(|value| {
            ensure(strings.len() < max, "a JSON array with too many elements")?;
            strings.push(value.string()?);
            Ok(())
        })?;
        Ok(strings)
    }

    /// The `N` bytes for which a string of hex stands.
    pub(crate) fn hex<const N: usize>(self) -> Result<[u8; N]> {
        fixed_hex(&self.string()?)
    }
}

/// A JSON string as it stands between its quotes, with escapes that are known to be good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// What the string stands for: borrowed, unless it has an escape.
    fn decode(self) -> Result<Cow<'a, str>> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.raw));
        }
        let mut decoded = String::with_capacity(self.raw.len()); // no escape is shorter than its character
        let mut rest = self.raw;
        while let Some((plain, tail)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
            let (character, length) = escape(tail.as_bytes())?;
            decoded.push_str(plain);
            decoded.push(character);
            rest = tail.get(length..).unwrap_or_default();
        }
        decoded.push_str(rest);
        Ok(Cow::Owned(decoded))
    }
}

const BAD_HEX: &str = "hex of the wrong length, or with a digit that is none";

/// The `N` bytes for which `text` stands: exactly 2`N` hex digits, in either case.
pub(crate) fn fixed_hex<const N: usize>(text: &str) -> Result<[u8; N]> {
    // A prefix `0x`, which const-hex would take, leaves too few digits of this length.
    ensure(text.len() / 2 == N, BAD_HEX)?;
    const_hex::decode_to_array(text).or(malformed(BAD_HEX))
}

/// The bytes, any number of them, for which `text` stands.
pub(crate) fn any_hex(text: &str) -> Result<Vec<u8>> {
    let bytes = const_hex::decode(text).or(malformed(BAD_HEX))?;
    // const-hex takes a leading `0x` or `0X` for a prefix, which leaves too few bytes.
    ensure(bytes.len() == text.len() / 2, BAD_HEX)?;
    Ok(bytes)
}

/// Appends `text` as a JSON string, with its quotes and the escapes that RFC 8259 section 7 demands.
pub(crate) fn write_string(out: &mut impl BufMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some((plain, tail)) = rest.split_at_checked(plain_run(rest)) {
        out.put_slice(plain);
        let Some((&special, tail)) = tail.split_first() else { break };
        match special {
            b'"' | b'\\' => out.put_slice(&[b'\\', special]),
            _ => out.put_slice(format!("\\u{special:04x}").as_bytes()),
        }
        rest = tail;
    }
    out.put_u8(b'"');
}

/// Where the reader stands, and the fields of all objects that are open there, the innermost object's last.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    names: usize,
    fields: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader { text, at: 0, depth: 0, names: 0, fields: Vec::new() }
    }

    /// Reads one object and leaves its fields, sorted, at the end of `self.fields`.
    fn object(&mut self) -> Result<()> {
        let first = self.fields.len();
        let mut more = self.open(b'{', b'}')?;
        while more {
            let name = self.string()?.decode()?;
            self.skip_space();
            ensure(self.eat(b':'), "a JSON name without its colon")?;
            self.skip_space();
            let value = self.value()?;
            self.names += 1;
            ensure(self.names <= MAX_NAMES, "more JSON names than any message needs")?;
            self.fields.push((name, value));
            more = self.more(b'}')?;
        }
        // Names are compared decoded, as `"a"` and `"\u0061"` are the same (RFC 8259 section 8.3).
        let own = self.fields.get_mut(first..).unwrap_or_default();
        own.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        ensure(own.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a != b)), "a JSON name twice")
    }

    fn array(&mut self, mut each: impl FnMut(Value<'a>) -> Result<()>) -> Result<()> {
        let mut more = self.open(b'[', b']')?;
        while more {
            each(self.value()?)?;
            more = self.more(b']')?;
        }
        Ok(())
    }

    /// Any value, except null. This is where the reader recurs, and `open` bounds how deep.
    fn value(&mut self) -> Result<Value<'a>> {
        let (start, outer) = (self.at, self.fields.len());
        match self.rest() {
            [b'"', ..] => self.string().map(Value::String),
            [b'{', ..] => {
                self.object()?;
                self.fields.truncate(outer);
                Ok(Value::Object(self.since(start)))
            }
            [b'[', ..] => {
                self.array(|_| Ok(()))?;
                Ok(Value::Array(self.since(start)))
            }
            [b'-' | b'0'..=b'9', ..] => self.number(),
            [b't', b'r', b'u', b'e', ..] => {
                self.at += 4;
                Ok(Value::Other)
            }
            [b'f', b'a', b'l', b's', b'e', ..] => {
                self.at += 5;
                Ok(Value::Other)
            }
            [b'n', b'u', b'l', b'l', ..] => malformed("a null in JSON"),
            _ => malformed("no JSON value where one should be"),
        }
    }

    /// A string with its quotes (RFC 8259 section 7).
    fn string(&mut self) -> Result<Text<'a>> {
        ensure(self.eat(b'"'), "no JSON string where one should be")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_run(self.rest());
            match self.rest() {
                [b'"', ..] => break,
                [b'\\', ..] => self.at += escape(self.rest())?.1,
                [_, ..] => return malformed("a control character in a JSON string"),
                [] => return malformed("a JSON string without its end"),
            }
            escaped = true;
        }
        let raw = self.since(start);
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    /// A number (RFC 8259 section 6). One that is no integer of the protocol is checked and forgotten.
    fn number(&mut self) -> Result<Value<'a>> {
        const BAD: &str = "a bad JSON number";
        let negative = self.eat(b'-');
        let whole = self.digits();
        ensure(whole == "0" || !(whole.is_empty() || whole.starts_with('0')), BAD)?;
        let fraction = self.eat(b'.');
        ensure(!fraction || !self.digits().is_empty(), BAD)?;
        let exponent = self.eat(b'e') || self.eat(b'E');
        let _sign = exponent && (self.eat(b'+') || self.eat(b'-'));
        ensure(!exponent || !self.digits().is_empty(), BAD)?;
        match whole.parse() {
            Ok(number) if number <= MAX_INTEGER && !(negative || fraction || exponent) => {
                Ok(Value::Integer(number))
            }
            _ => Ok(Value::Other),
        }
    }

    /// Goes into an object or array, and says whether there is anything in it.
    fn open(&mut self, open: u8, close: u8) -> Result<bool> {
        ensure(self.eat(open), "a message that is no JSON object")?;
        ensure(self.depth < MAX_DEPTH, "JSON that nests too deep")?;
        self.skip_space();
        let empty = self.eat(close);
        self.depth += usize::from(!empty);
        Ok(!empty)
    }

    /// After an element: goes on to the next, or out of the object or array if it was the last.
    fn more(&mut self, close: u8) -> Result<bool> {
        self.skip_space();
        let more = self.eat(b',');
        if more {
            self.skip_space();
        } else {
            ensure(self.eat(close), "a JSON object or array without its end")?;
            self.depth -= 1;
        }
        Ok(more)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest().first() == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().iter().take_while(space).count();
    }

    fn digits(&mut self) -> &'a str {
        let start = self.at;
        self.at += self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.since(start)
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// What was read since `start`. Both ends stand beside ASCII, and so on character boundaries.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }
}

/// How many bytes at the start may stand in a string as they are: none is `"`, `\` or a control character.
///
/// Almost every byte of a message is looked at here. `fold` over a block has no early exit, so the compiler
/// makes vector instructions of it: 20 GB/s, where a loop that stops at the first special byte does 2.
fn plain_run(bytes: &[u8]) -> usize {
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let (blocks, _) = bytes.as_chunks::<64>();
    let plain = |block: &&[u8; 64]| !block.iter().fold(false, |any, &byte| any | special(byte));
    let whole = blocks.iter().take_while(plain).count() * 64;
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().take_while(|&&byte| !special(byte)).count()
}

/// The character of the escape that `bytes` begin with, and the escape's length (RFC 8259 section 7).
fn escape(bytes: &[u8]) -> Result<(char, usize)> {
    let character = match bytes {
        [b'\\', b'u', ..] => {
            return unicode_escape(bytes).ok_or(Error::malformed("a bad \\u escape in JSON"));
        }
        [b'\\', same @ (b'"' | b'\\' | b'/'), ..] => char::from(*same),
        [b'\\', b'b', ..] => '\u{8}',
        [b'\\', b'f', ..] => '\u{c}',
        [b'\\', b'n', ..] => '\n',
        [b'\\', b'r', ..] => '\r',
        [b'\\', b't', ..] => '\t',
        _ => return malformed("an unknown escape in JSON"),
    };
    Ok((character, 2))
}

/// `\u` and four digits, or two of these that are a surrogate pair; half a pair is no character (section 8.2).
fn unicode_escape(bytes: &[u8]) -> Option<(char, usize)> {
    fn unit(bytes: &[u8]) -> Option<u16> {
        let digits = bytes.strip_prefix(b"\\u")?.first_chunk::<4>()?;
        let number = digits.iter().try_fold(0, |n, &digit| Some(n * 16 + char::from(digit).to_digit(16)?))?;
        u16::try_from(number).ok()
    }
    let first = unit(bytes)?;
    let second = bytes.get(6..).and_then(unit);
    let character = char::decode_utf16(iter::once(first).chain(second)).next()?.ok()?;
    Some((character, 6 * character.len_utf16()))
}

fn malformed<T>(reason: &'static str) -> Result<T> {
    Err(Error::malformed(reason))
}

fn ensure(holds: bool, reason: &'static str) -> Result<()> {
    if holds { Ok(()) } else { malformed(reason) }
}

#[cfg(test)]
mod tests;
