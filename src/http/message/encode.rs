//! Writing: from the parts of `http` into the buffer that is about to be sealed.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use http::{
    HeaderMap, Method, StatusCode, Uri,
    header::HOST,
    request::Parts,
    uri::{Authority, Scheme},
};

use super::{REQUEST, RESPONSE, fields::Sealed, target, varint};
use crate::error::{Error, Result};

/// What comes behind the content: an empty trailer section, and the AEAD's tag once the record is sealed.
const BEHIND_CONTENT: usize = 1 + 16;

/// About how many bytes a message has beside its content, for who makes room: what is longer moves once.
pub(crate) fn usual_head(headers: &HeaderMap) -> usize {
    192 + 64 * headers.len()
}

/// Appends a request with `content`, the chunks of its body that are at hand, to `out`.
///
/// A URI without a scheme gets `default_scheme`, one without an authority that of the `host` field.
/// Afterwards `out` has room for the AEAD's tag, so that sealing in place does not move the content.
///
/// # Errors
///
/// `Misuse` for a request that no responder would take, as section 7 lists them (CONNECT, `*`, no
/// authority, `..` in the path …). Then `out` is as it was.
pub(crate) fn encode_request<D: AsRef<[u8]>>(
    parts: &Parts,
    default_scheme: &Scheme,
    content: &[D],
    out: &mut BytesMut,
) -> Result<()> {
    if parts.method == Method::CONNECT {
        return Err(misuse("CONNECT can't be sealed"));
    }
    let scheme = target::normal_scheme(parts.uri.scheme().unwrap_or(default_scheme)).map_err(misuse)?;
    let authority = authority(&parts.uri, &parts.headers)?;
    let path = path(&parts.uri)?;
    let content_len = content_len(content)?;

    varint::put(REQUEST, out);
    for piece in [parts.method.as_str(), scheme.as_str(), authority.as_str(), &path] {
        varint::put_piece(piece.as_bytes(), out);
    }
    put_sections(&parts.headers, content, content_len, out);
    Ok(())
}

/// Appends a response with `content`, the chunks of its body that are at hand, to `out`.
///
/// Afterwards `out` has room for the AEAD's tag, so that sealing in place does not move the content.
///
/// # Errors
///
/// `Misuse` for a status below 200 or above 599. Then `out` is as it was.
pub(crate) fn encode_response<D: AsRef<[u8]>>(
    status: StatusCode,
    headers: &HeaderMap,
    content: &[D],
    out: &mut BytesMut,
) -> Result<()> {
    if !(200..=599).contains(&status.as_u16()) {
        return Err(misuse("a status below 200 or above 599 can't be sealed"));
    }
    let content_len = content_len(content)?;

    varint::put(RESPONSE, out);
    varint::put(status.as_u16().into(), out);
    put_sections(headers, content, content_len, out);
    Ok(())
}

const fn misuse(reason: &'static str) -> Error {
    Error::Misuse { reason }
}

/// The URI's authority; in the server's form of a request, which has none there, the host field's.
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<Authority> {
    let authority = match uri.authority() {
        Some(authority) => authority.clone(),
        None => {
            let mut hosts = headers.get_all(HOST).iter();
            // RFC 9112 section 3.2: more than one is as bad as none.
            let (Some(host), None) = (hosts.next(), hosts.next()) else {
                return Err(misuse("a request needs one authority, in its URI or as its host field"));
            };
            Authority::try_from(host.as_bytes().trim_ascii())
                .map_err(|_| misuse("the host field is no authority"))?
        }
    };
    target::authority(&authority).map_err(misuse)?;
    Ok(authority)
}

fn path(uri: &Uri) -> Result<Cow<'_, str>> {
    let path = match uri.path_and_query().map_or("", |path| path.as_str()) {
        // `http` has `?query` behind an authority as it was written (RFC 9112 section 3.2.1).
        path if path.is_empty() || path.starts_with('?') => Cow::Owned(format!("/{path}")),
        path => Cow::Borrowed(path),
    };
    target::path(path.as_bytes()).map_err(misuse)?;
    Ok(path)
}

fn content_len<D: AsRef<[u8]>>(content: &[D]) -> Result<u64> {
    let len = content.iter().fold(0, |len: u64, chunk| len.saturating_add(chunk.as_ref().len() as u64));
    if len > varint::MAX { Err(misuse("content above 2^62-1 bytes")) } else { Ok(len) }
}

/// Appends the header section, the content, and an empty trailer section.
fn put_sections<D: AsRef<[u8]>>(headers: &HeaderMap, content: &[D], content_len: u64, out: &mut BytesMut) {
    let fields = Sealed::new(headers);
    let fields_len: usize = fields.lines().map(|(n, v)| varint::piece_len(n) + varint::piece_len(v)).sum();
    let lengths = varint::len(fields_len as u64) + varint::len(content_len);
    out.reserve(lengths + fields_len + content_len as usize + BEHIND_CONTENT);

    varint::put(fields_len as u64, out);
    for (name, value) in fields.lines() {
        varint::put_piece(name, out);
        varint::put_piece(value, out);
    }
    varint::put(content_len, out);
    for chunk in content {
        out.put_slice(chunk.as_ref());
    }
    out.put_u8(0);
}
