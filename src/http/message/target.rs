//! What a request may be for: the rules for scheme, authority and path, the same for sealing and opening.
//!
//! The path decides what the responder's application is asked to do, and is compared with the outer one
//! byte for byte (PROTOCOL section 7). So every spelling that some server reads as another path is
//! refused here: dot segments, `//host`, backslashes, fragments, anything that has to be encoded.

use http::uri::{Authority, Scheme};

type Check<T = ()> = Result<T, &'static str>;

const OTHER_SCHEME: &str = "the scheme is neither http nor https";

/// `http` or `https`, in lower case.
pub(super) fn scheme(scheme: &[u8]) -> Check<Scheme> {
    match scheme {
        b"http" => Ok(Scheme::HTTP),
        b"https" => Ok(Scheme::HTTPS),
        _ => Err(OTHER_SCHEME),
    }
}

/// `http` or `https`, in any case, as RFC 9110 section 4.2.3 normalises them.
pub(super) fn normal_scheme(scheme: &Scheme) -> Check<Scheme> {
    match scheme.as_str() {
        name if name.eq_ignore_ascii_case("http") => Ok(Scheme::HTTP),
        name if name.eq_ignore_ascii_case("https") => Ok(Scheme::HTTPS),
        _ => Err(OTHER_SCHEME),
    }
}

/// `host [ ":" port ]` with a host that is not empty (RFC 9110 sections 4.2.1 and 4.2.4).
///
/// The type alone takes `user@host`, `:80`, `host:http` and `a[b]` as well.
pub(super) fn authority(authority: &Authority) -> Check {
    let authority = authority.as_str().as_bytes();
    if authority.contains(&b'@') {
        return Err("the authority has userinfo");
    }
    let find = |wanted| authority.iter().position(|byte| *byte == wanted);
    // A literal has colons of its own (RFC 3986 section 3.2.2).
    let host_end = match authority {
        [b'[', ..] => find(b']').map(|at| at + 1),
        _ => find(b':'),
    };
    let (host, port) = authority.split_at(host_end.unwrap_or(authority.len()));
    let is_host = match host {
        [b'[', literal @ .., b']'] => !literal.is_empty(),
        _ => !host.is_empty() && !host.iter().any(|byte| matches!(byte, b'[' | b']')),
    };
    match port {
        [] if is_host => Ok(()),
        [b':', port @ ..] if is_host && port.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err("the authority is not a host and a port"),
    }
}

/// A path with its query, if any.
pub(super) fn path(target: &[u8]) -> Check {
    if !target.starts_with(b"/") || target.starts_with(b"//") {
        return Err("the path does not begin with exactly one slash");
    }
    if target.iter().any(|byte| !matches!(byte, b'!'..=b'~') || matches!(byte, b'\\' | b'#')) {
        return Err("the path has a character that can't stand there unencoded");
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if path.split(|byte| *byte == b'/').any(is_dot_segment) {
        return Err("the path has a dot segment");
    }
    Ok(())
}

/// `.` and `..` (RFC 3986 section 3.3), however their dots are spelled.
fn is_dot_segment(segment: &[u8]) -> bool {
    match strip_dot(segment) {
        Some([]) => true,
        Some(rest) => strip_dot(rest) == Some(&[]),
        None => false,
    }
}

fn strip_dot(segment: &[u8]) -> Option<&[u8]> {
    match segment {
        [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => Some(rest),
        _ => None,
    }
}
