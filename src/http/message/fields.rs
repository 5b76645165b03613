//! Which header fields an inner message has, and which the application gets to see.

use std::collections::HashSet;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, CONNECTION},
};

use super::varint::Reader;
use crate::{
    error::{Code, Error, Result},
    http::with_hyphens,
};

/// The most field lines that a message may have. A line costs the sender 3 bytes and a map some 100.
const MAX_FIELD_LINES: usize = 1024;

/// The header fields of a message that is sealed: those that opening takes, less the ones that
/// `connection` names (RFC 9110 section 7.6.1), and less `accept-encoding`, as nothing inside is compressed.
pub(super) struct Sealed<'a> {
    headers: &'a HeaderMap,
    named: HashSet<HeaderName>,
}

impl<'a> Sealed<'a> {
    pub(super) fn new(headers: &'a HeaderMap) -> Self {
        let options =
            headers.get_all(CONNECTION).into_iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
        let named = options.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
        Sealed { headers, named }
    }

    /// The lines, as the map has them: values of one name in their order, without outer white space.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let kept = self.headers.iter().filter(|(name, _)| {
            check_name(name.as_str().as_bytes()).is_ok()
                && **name != ACCEPT_ENCODING
                && !self.named.contains(*name)
        });
        kept.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes().trim_ascii()))
    }
}

/// Reads a header section; the values share its memory.
///
/// # Errors
///
/// `too_large` above 1024 lines. `malformed` for what PROTOCOL section 7 lists, and for what [`HeaderMap`]
/// can't hold: control characters in a value other than HTAB (RFC 9110 section 5.5 calls them invalid), and
/// names of 64 KiB and more.
pub(super) fn open(section: &Bytes) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut reader = Reader::new(section);
    while !reader.rest().is_empty() {
        let (name, value) = (reader.piece()?, reader.piece()?);
        if headers.len() == MAX_FIELD_LINES {
            return Err(TOO_MANY);
        }
        check_name(name).map_err(Error::malformed)?;
        let name = HeaderName::from_lowercase(name).map_err(|_| Error::malformed(NO_NAME))?;
        if value.trim_ascii().len() != value.len() {
            return Err(Error::malformed("a field value has white space around it"));
        }
        let value = HeaderValue::from_maybe_shared(section.slice_ref(value))
            .map_err(|_| Error::malformed("a field value has a control character"))?;
        headers.try_append(name, value).map_err(|_| TOO_MANY)?;
    }
    Ok(headers)
}

/// Removes the fields that an application believes because only its own infrastructure can have set them:
/// `forwarded`, `x-forwarded-*`, `x-real-ip` and, from the configuration, `more`.
///
/// No infrastructure sees the inner message: there, the initiator itself would be the one who wrote them.
pub(crate) fn strip_infrastructure(headers: &mut HeaderMap, more: &[HeaderName]) {
    let is_infrastructure = |name: &&HeaderName| {
        let name = with_hyphens(name);
        matches!(&*name, "forwarded" | "x-real-ip")
            || name.starts_with("x-forwarded-")
            || more.iter().any(|other| with_hyphens(other) == name)
    };
    let found: Vec<HeaderName> = headers.keys().filter(is_infrastructure).cloned().collect();
    for name in &found {
        headers.remove(name);
    }
}

const TOO_MANY: Error = Error::new(Code::TooLarge, "the inner message has too many fields");
const NO_NAME: &str = "a field name is not a lower-case token";

/// Refuses names that are not lower-case tokens (RFC 9110 section 5.6.2, RFC 9113 section 8.2), which
/// `HeaderName` alone would not (it takes `"`), and names of fields that have no place in a message of
/// this protocol: those that speak of one connection or hop, announce trailers, or frame a body that is
/// framed by records, and `host`, since there is an authority.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(NO_NAME);
    }
    match name {
        b"host" => Err("there is a host field beside the authority"),
        b"connection" | b"keep-alive" | b"proxy-connection" | b"upgrade" | b"te" | b"expect" => {
            Err("there is a field that speaks of one connection")
        }
        b"transfer-encoding" | b"trailer" | b"content-length" => Err("there is a field that frames the body"),
        _ => Ok(()),
    }
}

const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'^'..=b'z' | b'|' | b'~')
}
