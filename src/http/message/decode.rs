//! Reading: from the plaintext of an opened record to the parts of `http`.
//!
//! Everything here was sealed by the peer, who is authenticated but not therefore well-behaved: what it
//! sends is handed to an HTTP application, so what could mean two things to two programs is refused.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{REQUEST, RESPONSE, fields, target, varint::Reader};
use crate::error::{Code, Error, Result};

const NO_AUTHORITY: Error = Error::malformed("the authority is not a host and a port");

/// Everything of an inner request but its body.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// `http` or `https`.
    pub(crate) scheme: Scheme,
    /// Host and port; there is no `host` among the headers.
    pub(crate) authority: Authority,
    /// The same as a field value.
    pub(crate) host: HeaderValue,
    /// Exactly as the initiator wrote it.
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
}

/// Reads a request, and the first piece of its content, which is a slice of `plaintext`.
///
/// # Errors
///
/// `too_large` if everything before the content has more than `max_head_bytes`, or more than 1024 field
/// lines. `malformed` for what PROTOCOL section 7 lists, and for the little that it allows and `http` can't
/// hold: `<`, `>` and `` ` `` in a path, `"`, `<` and `>` in a query, a path of 64 KiB and more, `%` in the
/// name of a host, and what [`fields::open`] lists.
pub(crate) fn decode_request(plaintext: &Bytes, max_head_bytes: usize) -> Result<(RequestHead, Bytes)> {
    let mut reader = Reader::new(plaintext);
    // Read for its length alone, and then from the copy, of which authority and path are slices, too.
    control(&mut reader)?;
    let (head, fields, content) = sections(reader, plaintext, max_head_bytes)?;
    let [method, scheme, authority, path] = control(&mut Reader::new(&head))?;

    let method = Method::from_bytes(method).map_err(|_| Error::malformed("the method is no token"))?;
    if method == Method::CONNECT {
        return Err(Error::malformed("the method is CONNECT"));
    }
    let scheme = target::scheme(scheme).map_err(Error::malformed)?;
    let host = head.slice_ref(authority);
    let authority = Authority::from_maybe_shared(host.clone()).map_err(|_| NO_AUTHORITY)?;
    target::authority(&authority).map_err(Error::malformed)?;
    let host = HeaderValue::from_maybe_shared(host).map_err(|_| NO_AUTHORITY)?;
    target::path(path).map_err(Error::malformed)?;
    let path = PathAndQuery::from_maybe_shared(head.slice_ref(path))
        .map_err(|_| Error::malformed("the path has a character that can't stand there unencoded"))?;
    let headers = fields::open(&fields)?;
    Ok((RequestHead { method, scheme, authority, host, path, headers }, content))
}

/// Reads a response, and the first piece of its content, which is a slice of `plaintext`.
///
/// # Errors
///
/// As [`decode_request`].
pub(crate) fn decode_response(
    plaintext: &Bytes,
    max_head_bytes: usize,
) -> Result<(StatusCode, HeaderMap, Bytes)> {
    let mut reader = Reader::new(plaintext);
    framing(&mut reader, RESPONSE)?;
    let status = reader.varint()?;
    let (_, fields, content) = sections(reader, plaintext, max_head_bytes)?;

    // Informational responses would stand here, before the final one (RFC 9292 section 3.5.1).
    let Some(status) = u16::try_from(status)
        .ok()
        .filter(|status| (200..=599).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
    else {
        return Err(Error::malformed("the status is below 200 or above 599"));
    };
    Ok((status, fields::open(&fields)?, content))
}

/// Method, scheme, authority and path of a request.
fn control<'a>(reader: &mut Reader<'a>) -> Result<[&'a [u8]; 4]> {
    framing(reader, REQUEST)?;
    Ok([reader.piece()?, reader.piece()?, reader.piece()?, reader.piece()?])
}

/// Reads the framing indicator. The others stand for the other kind of message, and for messages of
/// indeterminate length (RFC 9292 section 3.3), which section 7 does not use.
fn framing(reader: &mut Reader<'_>, indicator: u64) -> Result<()> {
    if reader.varint()? == indicator {
        Ok(())
    } else {
        Err(Error::malformed("not the kind of inner message that is due here"))
    }
}

/// Reads what comes behind the control data, to the end of `message`: header section and content. Before them it returns
/// everything in front of the content, of which the header section is a slice.
///
/// The head is copied, once: fields, path and host outlive the request in many an application, and as slices of the
/// record they would keep all of it in memory, content too. The limit comes before the copy.
fn sections(mut reader: Reader<'_>, message: &Bytes, max_head_bytes: usize) -> Result<(Bytes, Bytes, Bytes)> {
    let fields = reader.section()?.len();
    let (head, _) = message.split_at(message.len() - reader.rest().len());
    if head.len() > max_head_bytes {
        return Err(Error::new(Code::TooLarge, "the head of the inner message is over the limit"));
    }
    let content = reader.section()?;
    if !reader.section()?.is_empty() {
        return Err(Error::malformed("the inner message has trailers"));
    }
    if reader.rest().iter().any(|byte| *byte != 0) {
        return Err(Error::malformed("the inner message has padding that is not zero"));
    }
    let head = Bytes::copy_from_slice(head);
    let fields = head.slice(head.len() - fields..);
    Ok((head, fields, message.slice_ref(content)))
}
