//! The rules of PROTOCOL section 7 one by one, and the crate `bhttp` as an independent reader and writer.

mod opening;
mod sealing;
mod vectors;

use std::io::Cursor;

use bhttp::{Message, Mode};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts, uri::Scheme,
};
use proptest::prelude::*;

use super::{
    decode::RequestHead, decode_request, decode_response, encode_request, encode_response,
    strip_infrastructure,
};
use crate::error::{Code, Error, Result};

const LIMIT: usize = 64 * 1024;
const JSON: &str = "application/json";
const LIST: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const TOOLS: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;

// The plaintexts of `exchange-every` in shared/vectors/protocol-v1.json.
const POST_WITH_CONTENT: &str = concat!(
    "0004504f535404687474700e3132372e302e302e313a38303830082f6d63703f783d3140490c636f6e74656e742d74797065106170",
    "706c69636174696f6e2f6a736f6e06616363657074236170706c69636174696f6e2f6a736f6e2c20746578742f6576656e742d7374",
    "7265616d2e7b226a736f6e727063223a22322e30222c226964223a312c226d6574686f64223a22746f6f6c732f6c697374227d00",
);
const OK_WITH_CONTENT: &str = concat!(
    "0140c81e0c636f6e74656e742d74797065106170706c69636174696f6e2f6a736f6e2e7b226a736f6e727063223a22322e30222c22",
    "6964223a312c22726573756c74223a7b22746f6f6c73223a5b5d7d7d00",
);
const POST_HEAD: &str = concat!(
    "0004504f535404687474700e3132372e302e302e313a38303830042f6d63701e0c636f6e74656e742d74797065106170706c696361",
    "74696f6e2f6a736f6e0000",
);
const OK_HEAD: &str = "0140c81f0c636f6e74656e742d7479706511746578742f6576656e742d73747265616d0000";

fn hex(text: &str) -> Bytes {
    let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn seal(parts: &Parts, content: &[u8]) -> Result<Bytes> {
    let mut out = BytesMut::new();
    encode_request(parts, &Scheme::HTTPS, &[content], &mut out)?;
    Ok(out.freeze())
}

fn seal_response(status: u16, headers: &HeaderMap, content: &[u8]) -> Result<Bytes> {
    let mut out = BytesMut::new();
    encode_response(StatusCode::from_u16(status).unwrap(), headers, &[content], &mut out)?;
    Ok(out.freeze())
}

fn open(message: &Bytes) -> Result<(RequestHead, Bytes)> {
    decode_request(message, LIMIT)
}

fn bhttp_write(message: &Message, mode: Mode) -> Bytes {
    let mut out = Vec::new();
    message.write_bhttp(mode, &mut out).unwrap();
    out.into()
}

fn bhttp_read(message: &[u8]) -> Result<Message, bhttp::Error> {
    Message::read_bhttp(&mut Cursor::new(message))
}

/// What `bhttp` writes; it checks nothing.
fn raw(method: &[u8], scheme: &[u8], authority: &[u8], path: &[u8], fields: &[(&[u8], &[u8])]) -> Bytes {
    let mut message = Message::request(method.into(), scheme.into(), authority.into(), path.into());
    for (name, value) in fields {
        message.put_header(*name, *value);
    }
    bhttp_write(&message, Mode::KnownLength)
}

fn raw_path(path: &[u8]) -> Bytes {
    raw(b"GET", b"https", b"example.com", path, &[])
}

fn raw_field(name: &[u8], value: &[u8]) -> Bytes {
    raw(b"GET", b"https", b"example.com", b"/", &[(name, value)])
}

fn raw_response(status: u64) -> Bytes {
    let mut out = BytesMut::from(&[1][..]);
    super::varint::put(status, &mut out);
    out.extend_from_slice(&[0, 0, 0]);
    out.freeze()
}

fn code<T>(result: Result<T>) -> Option<Code> {
    result.err().map(|error| error.code().expect("an error of the wire"))
}

#[track_caller]
fn refused<T>(result: Result<T>, what: impl std::fmt::Debug) {
    assert_eq!(code(result), Some(Code::Malformed), "{what:?}");
}

#[track_caller]
fn taken<T>(result: Result<T>, what: impl std::fmt::Debug) -> T {
    result.unwrap_or_else(|error| panic!("{what:?}: {error}"))
}

fn field_lines(headers: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().into(), value.as_bytes().into())).collect()
}

fn bhttp_lines(message: &Message) -> Vec<(Vec<u8>, Vec<u8>)> {
    message.header().iter().map(|field| (field.name().into(), field.value().into())).collect()
}

/// Lines of different names may change places in a `HeaderMap`; those of one name may not.
fn by_name(mut lines: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines
}

#[test]
fn infrastructure_fields_are_removed() {
    let names = [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-",
        "x-real-ip",
        "x-client-cert",
        "x-mine",
        "forwarded-by",
        "x-forwarded",
        "x-real-ip-2",
        "via",
        // As CGI has them.
        "x_forwarded_for",
        "x-real_ip",
        "x_client-cert",
    ];
    let mut headers = HeaderMap::new();
    for name in names {
        headers.append(name, HeaderValue::from_static("1"));
        headers.append(name, HeaderValue::from_static("2"));
    }
    strip_infrastructure(&mut headers, &["x-client-cert".parse().unwrap(), "x-absent".parse().unwrap()]);
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["forwarded-by", "via", "x-forwarded", "x-mine", "x-real-ip-2"]);
    assert_eq!(headers.len(), 10);
}

fn name() -> impl Strategy<Value = String> {
    // Short, so that names repeat; without `cookie`, whose lines `bhttp` joins, and what has no place.
    "[a-c!#$%&'*+.^_`|~-][a-z0-9-]{0,2}".prop_filter("a field that is not kept", |name| name != "te")
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\t'), 0x20..=0x7eu8, 0x80..=0xffu8];
    prop::collection::vec(byte, 0..80).prop_map(|value| value.trim_ascii().to_vec())
}

fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::vec((name(), value()), 0..20)
}

fn path() -> impl Strategy<Value = String> {
    "(/[a-zA-Z0-9%_~!$&'()*+,;=:@|-]{1,6}){0,4}/?(\\?[a-zA-Z0-9/?.%_~-]{0,20})?"
        .prop_map(|path| if path.starts_with('/') { path } else { format!("/{path}") })
}

fn authority() -> impl Strategy<Value = String> {
    "([a-z0-9.-]{1,20}|\\[[0-9a-f:]{1,6}\\])(:[0-9]{1,5})?"
}

fn bhttp_request() -> impl Strategy<Value = Bytes> {
    let control = ("[A-Z!-]{1,20}", "https?", authority(), path());
    (control, fields(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(control, fields, content)| {
        let (method, scheme, authority, path) = control;
        let mut message = Message::request(method.into(), scheme.into(), authority.into(), path.into());
        fields.into_iter().for_each(|(name, value)| message.put_header(name, value));
        message.write_content(content);
        bhttp_write(&message, Mode::KnownLength)
    })
}

/// Whatever we take, `bhttp` reads as the same message.
fn agrees_with_bhttp(message: &Bytes) {
    if let Ok((head, content)) = open(message) {
        let other = bhttp_read(message).unwrap();
        assert_eq!(other.control().method().unwrap(), head.method.as_str().as_bytes());
        assert_eq!(other.control().scheme().unwrap(), head.scheme.as_str().as_bytes());
        assert_eq!(other.control().authority().unwrap(), head.authority.as_str().as_bytes());
        assert_eq!(other.control().path().unwrap(), head.path.as_str().as_bytes());
        assert_eq!(by_name(bhttp_lines(&other)), by_name(field_lines(&head.headers)));
        assert_eq!(other.content(), content);
        assert!(other.trailer().is_empty());
    }
    if let Ok((status, headers, content)) = decode_response(message, LIMIT) {
        let other = bhttp_read(message).unwrap();
        assert_eq!(other.control().status().unwrap().code(), status.as_u16());
        assert_eq!(by_name(bhttp_lines(&other)), by_name(field_lines(&headers)));
        assert_eq!(other.content(), content);
        assert!(other.trailer().is_empty() && other.informational().is_empty());
    }
}

proptest! {
    #[test]
    fn bhttp_reads_our_requests(
        method in "[A-Z!-]{1,20}".prop_filter("CONNECT", |method| method != "CONNECT"),
        (scheme, authority, path) in ("https?", authority(), path()),
        fields in fields(),
        content in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..4),
    ) {
        let mut request = parts(&method, &format!("{scheme}://{authority}{path}"), &[]);
        for (name, value) in &fields {
            let value = HeaderValue::from_bytes(value).unwrap();
            request.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let mut out = BytesMut::new();
        let chunks: Vec<&[u8]> = content.iter().map(Vec::as_slice).collect();
        encode_request(&request, &Scheme::HTTPS, &chunks, &mut out).unwrap();
        let sealed = out.freeze();

        let theirs = bhttp_read(&sealed).unwrap();
        prop_assert_eq!(theirs.control().method().unwrap(), method.as_bytes());
        prop_assert_eq!(theirs.control().scheme().unwrap(), scheme.as_bytes());
        prop_assert_eq!(theirs.control().authority().unwrap(), authority.as_bytes());
        prop_assert_eq!(theirs.control().path().unwrap(), path.as_bytes());
        prop_assert_eq!(bhttp_lines(&theirs), field_lines(&request.headers));
        prop_assert_eq!(theirs.content(), content.concat());
        prop_assert_eq!(bhttp_write(&theirs, Mode::KnownLength), &sealed, "not the shortest form");
        prop_assert!(open(&sealed).is_ok());
        agrees_with_bhttp(&sealed);
    }

    #[test]
    fn bhttp_reads_our_responses(
        status in 200..600u16,
        fields in fields(),
        content in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            let value = HeaderValue::from_bytes(value).unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let sealed = seal_response(status, &headers, &content).unwrap();
        let theirs = bhttp_read(&sealed).unwrap();
        prop_assert_eq!(theirs.control().status().unwrap().code(), status);
        prop_assert_eq!(bhttp_lines(&theirs), field_lines(&headers));
        prop_assert_eq!(theirs.content(), &content[..]);
        prop_assert_eq!(bhttp_write(&theirs, Mode::KnownLength), &sealed, "not the shortest form");
        let opened = decode_response(&sealed, LIMIT).unwrap();
        prop_assert_eq!(opened, (status.try_into().unwrap(), headers, content.into()));
    }

    #[test]
    fn we_read_bhttps_requests(bytes in bhttp_request(), truncate in any::<bool>(), padding in 0..40usize) {
        let message = bhttp_read(&bytes).unwrap();
        let mut bytes = bytes.to_vec();
        if truncate {
            // Sections that are empty, the last of which always is.
            let empty = 1 + usize::from(message.content().is_empty())
                * (1 + usize::from(message.header().is_empty()));
            bytes.truncate(bytes.len() - empty);
        } else {
            bytes.resize(bytes.len() + padding, 0);
        }
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(message.control().method() == Some(b"CONNECT"), open(&bytes).is_err());
        agrees_with_bhttp(&bytes);
    }

    #[test]
    fn what_is_sealed_is_opened(
        uri in "(http://|https://|HTTP://|)[a-c.:@%\\[\\]0-9]{0,6}(/|//|)[a./%2eE\\\\?\"<{#|\u{e9}]{0,8}",
        host in prop::option::of("[ a-c.:@/\\[\\]0-9]{0,6}"),
        fields in prop::collection::vec(("[a-c!\"-]{1,2}|connection|te|cookie|host", "[ \ta-c,]{0,8}"), 0..6),
        content in "\\PC{0,20}",
    ) {
        let Ok(uri) = uri.parse::<Uri>() else { return Ok(()) };
        let mut request = parts("POST", "/", &[]);
        request.uri = uri;
        if let Some(host) = host {
            request.headers.insert(header::HOST, host.parse().unwrap());
        }
        for (name, value) in &fields {
            if let Ok(name) = HeaderName::from_lowercase(name.as_bytes()) {
                request.headers.append(name, value.parse().unwrap());
            }
        }
        match seal(&request, content.as_bytes()) {
            Ok(sealed) => {
                let (head, seen) = open(&sealed).unwrap();
                prop_assert_eq!(seen, content);
                let path = request.uri.path();
                prop_assert_eq!(head.path.path(), if path.is_empty() { "/" } else { path });
                prop_assert_eq!(head.path.query(), request.uri.query());
                for name in head.headers.keys() {
                    let trimmed = |value: &HeaderValue| value.as_bytes().trim_ascii().to_vec();
                    let before: Vec<_> = request.headers.get_all(name).iter().map(trimmed).collect();
                    let after = head.headers.get_all(name);
                    let after: Vec<_> = after.iter().map(HeaderValue::as_bytes).collect();
                    prop_assert_eq!(before, after);
                }
            }
            Err(error) => assert!(matches!(error, Error::Misuse { .. })),
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0..4u8) {
        agrees_with_bhttp(&bytes.clone().into());
        bytes.insert(0, first);
        agrees_with_bhttp(&bytes.into());
    }

    /// Small lengths, so that random bytes get beyond the control data.
    #[test]
    fn random_sections_never_panic(bytes in prop::collection::vec(prop_oneof![0..8u8, Just(b'a')], 0..60)) {
        for control in ["000347455404687474700168012f", "0140c8"] {
            agrees_with_bhttp(&[&hex(control)[..], &bytes].concat().into());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_truncation_and_bit_flip(message in bhttp_request()) {
        let good = message.slice(..message.len().min(400));
        for len in 0..good.len() {
            agrees_with_bhttp(&good.slice(..len));
        }
        let mut bytes = good.to_vec();
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            agrees_with_bhttp(&Bytes::copy_from_slice(&bytes));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_bit_flip_of_the_vectors() {
    for vector in [POST_WITH_CONTENT, OK_WITH_CONTENT, POST_HEAD, OK_HEAD] {
        let mut bytes = hex(vector).to_vec();
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            agrees_with_bhttp(&Bytes::copy_from_slice(&bytes));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
