//! What a request may be for: the rules for scheme, authority and path, the same for sealing and opening.
//!
//! The path decides what the responder's application is asked to do, and is compared with the outer one
//! byte for byte (PROTOCOL section 7). So every spelling that some server reads as another path is
//! refused here: dot segments, `//host`, backslashes, fragments, anything that has to be encoded.

use http::uri::{Authority, Scheme};

type Check<T = ()> = Result<T, &'static str>;

/// `http` or `https`, in lower case as RFC 9110 section 4.2.3 normalises them.
pub(super) fn scheme(scheme: &[u8]) -> Check<Scheme> {
    match scheme {
        b"http" => Ok(Scheme::HTTP),
        b"https" => Ok(Scheme::HTTPS),
        _ => Err("the scheme is neither http nor https"),
    }
}

/// `host [ ":" port ]` with a host that is not empty (RFC 9110 sections 4.2.1 and 4.2.4).
///
/// The type alone takes `user@host`, `:80`, `host:http` and `a[b]` as well.
pub(super) fn authority(authority: &Authority) -> Check {
    if authority.as_str().contains('@') {
        return Err("the authority has userinfo");
    }
    let host = authority.host();
    let is_host = match host.strip_prefix('[') {
        Some(literal) => literal != "]",
        None => !host.is_empty() && !host.contains(['[', ']']),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match authority.as_str().strip_prefix(host) {
        Some("") if is_host => Ok(()),
        Some(port) if is_host && port.strip_prefix(':').is_some_and(is_port) => Ok(()),
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
