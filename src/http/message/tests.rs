//! The rules of PROTOCOL section 7 one by one, and the crate `bhttp` as an independent reader and writer.

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

mod vectors {
    use super::*;

    #[test]
    fn requests() {
        let accept = ("accept", "application/json, text/event-stream");
        let with_content = parts("POST", "http://127.0.0.1:8080/mcp?x=1", &[("content-type", JSON), accept]);
        assert_eq!(seal(&with_content, LIST).unwrap(), hex(POST_WITH_CONTENT));

        let head = parts("POST", "http://127.0.0.1:8080/mcp", &[("content-type", JSON)]);
        assert_eq!(seal(&head, b"").unwrap(), hex(POST_HEAD));

        let (request, content) = open(&hex(POST_WITH_CONTENT)).unwrap();
        assert_eq!((request.method, request.scheme), (Method::POST, Scheme::HTTP));
        assert_eq!((request.authority.as_str(), request.path.as_str()), ("127.0.0.1:8080", "/mcp?x=1"));
        assert_eq!(request.headers, with_content.headers);
        assert_eq!(content, LIST);
        assert!(open(&hex(POST_HEAD)).unwrap().1.is_empty());
    }

    #[test]
    fn responses() {
        for (vector, kind, body) in [(OK_WITH_CONTENT, JSON, TOOLS), (OK_HEAD, "text/event-stream", b"")] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(seal_response(200, &headers, body).unwrap(), hex(vector));
            assert_eq!(
                decode_response(&hex(vector), LIMIT).unwrap(),
                (StatusCode::OK, headers, Bytes::from_static(body))
            );
        }
    }

    /// RFC 9000 appendix A.1, the third one being the second in a longer form.
    #[test]
    fn varints() {
        for (bytes, value) in [
            ("c2197c5eff14e88c", 151_288_809_941_952_652),
            ("25", 37),
            ("4025", 37),
            ("7bbd", 15_293),
            ("9d7f3e7d", 494_878_333),
            ("ffffffffffffffff", super::super::varint::MAX),
        ] {
            assert_eq!(super::super::varint::Reader::new(&hex(bytes)).varint().unwrap(), value);
        }
        for (value, len) in
            [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8)]
        {
            let mut out = BytesMut::new();
            super::super::varint::put(value, &mut out);
            assert_eq!((out.len(), super::super::varint::len(value)), (len, len));
            assert_eq!(super::super::varint::Reader::new(&out).varint().unwrap(), value);
        }
    }
}

mod opening {
    use super::*;

    #[test]
    fn methods() {
        for method in ["", "CONNECT", "GE T", "G,ET", "GET\r", "G\u{e9}T", "\"GET\"", "GET:"] {
            refused(open(&raw(method.as_bytes(), b"http", b"h", b"/", &[])), method);
        }
        for method in
            ["GET", "connect", "CONNECTS", "M-SEARCH", "!#$%&'*+-.^_`|~09azAZ", "AVERYLONGEXTENSION"]
        {
            let (head, _) = taken(open(&raw(method.as_bytes(), b"http", b"h", b"/", &[])), method);
            assert_eq!(head.method, method);
        }
    }

    #[test]
    fn schemes() {
        for scheme in ["", "ws", "HTTPS", "httpx", "htt", "http:", "file"] {
            refused(open(&raw(b"GET", scheme.as_bytes(), b"h", b"/", &[])), scheme);
        }
        for scheme in ["http", "https"] {
            let (head, _) = taken(open(&raw(b"GET", scheme.as_bytes(), b"h", b"/", &[])), scheme);
            assert_eq!(head.scheme.as_str(), scheme);
        }
    }

    #[test]
    fn authorities() {
        #[rustfmt::skip]
        let authorities = [
            "", "user@h", "user:pw@h", "@h", "u@", ":80", "h:80:80", "h:http", "h:-1", "h/", "h?", "h#",
            "h h", "h%41", "[::1", "::1", "[::1]x", "[::1]:x", "a[::1]", "a[b]", "[]", "[]:", "[]:80",
            "a]", "a]b", "[a]b", "[", "]", "h\\", "h\u{e9}", "h\r", "h\0",
        ];
        for authority in authorities {
            refused(open(&raw(b"GET", b"http", authority.as_bytes(), b"/", &[])), authority);
        }
        for authority in [
            "h",
            "h:80",
            "h:",
            "EXAMPLE.com",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:",
            "[::1]:8080",
            "a_b-c.d~e!",
        ] {
            let (head, _) = taken(open(&raw(b"GET", b"http", authority.as_bytes(), b"/", &[])), authority);
            assert_eq!(head.authority.as_str(), authority);
        }
    }

    /// Not just any authority that is none: whoever sees the reason knows where the password went.
    #[test]
    fn userinfo_is_called_by_its_name() {
        let error = open(&raw(b"GET", b"http", b"user:pw@h", b"/", &[])).unwrap_err();
        assert!(error.to_string().contains("userinfo"), "{error}");
    }

    #[test]
    fn paths() {
        #[rustfmt::skip]
        let paths = [
            "", "*", "?x", "x", "x/y", "//", "//x", "//x/..", "http://h/", "\\x", "/a b", "/a\tb", "/a\0",
            "/\x7f", "/\u{e9}", "/a\\b", "/a#b", "/a?b#c", "/a?b\\c", "/a?b c", "/a?\u{e9}", "/.", "/..",
            "/./", "/../a", "/a/..", "/a/.", "/a/./b", "/a/../b", "/%2e", "/%2E", "/%2e%2E", "/.%2e",
            "/%2E.", "/a/%2e%2e/b", "/..?x", "/a/%2e?x",
        ];
        for path in paths {
            refused(open(&raw_path(path.as_bytes())), path);
        }
        #[rustfmt::skip]
        let paths = [
            "/", "/x", "/x//y", "/x//", "/...", "/.a", "/a.", "/..a", "/a..", "/.../x", "/%2e%2e%2e",
            "/%2ea", "/%2f", "/%252e", "/%2", "/%zz", "/%", "/a%5cb", "/a%23", "/?", "/a?..", "/a?/../b",
            "/a?b/./c", "/a?//", "/a?b?c", "/a?%2e", "/.;x", "/~a/$&'()*+,;=:@!|[]^{}\"",
            "/a?$&'()*+,;=:@!|[]^{}`",
        ];
        for path in paths {
            let (head, _) = taken(open(&raw_path(path.as_bytes())), path);
            assert_eq!(head.path.as_str(), path);
        }
    }

    /// The few that the protocol allows and `http` can't hold.
    #[test]
    fn paths_that_http_can_not_hold() {
        for path in ["/<", "/>", "/`", "/?\"", "/?<", "/?>"] {
            refused(open(&raw_path(path.as_bytes())), path);
        }
        let longest = format!("/{}", "a".repeat(65_533));
        assert!(decode_request(&raw_path(longest.as_bytes()), usize::MAX).is_ok());
        refused(decode_request(&raw_path(format!("{longest}a").as_bytes()), usize::MAX), "64 KiB");
    }

    #[test]
    fn field_names() {
        for name in [
            "", "Accept", "accepT", "a b", "a:", ":method", ":x", ":", "a\"", "a(", "a/b", "a@", "a\u{e9}",
            "a\0", "a\r", " a", "a ", "a[", "a{", "a,",
        ] {
            refused(open(&raw_field(name.as_bytes(), b"x")), name);
            // Above 64 bytes `HeaderName` takes another way.
            let long = format!("{name}{}", "a".repeat(100));
            assert!(name.is_empty() || code(open(&raw_field(long.as_bytes(), b""))) == Some(Code::Malformed));
        }
        for name in ["accept", "a", "0", "!#$%&'*+-.^_`|~09az", "mcp-param-x", &"a".repeat(100)] {
            let (head, _) = taken(open(&raw_field(name.as_bytes(), b"x")), name);
            assert_eq!(head.headers[name], "x");
        }
        let long = |len| raw_field("a".repeat(len).as_bytes(), b"");
        assert!(decode_request(&long(65_535), usize::MAX).is_ok());
        refused(decode_request(&long(65_536), usize::MAX), "64 KiB");
    }

    #[test]
    fn fields_that_have_no_place() {
        #[rustfmt::skip]
        let names = [
            "host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te",
            "trailer", "expect", "content-length",
        ];
        for name in names {
            refused(open(&raw_field(name.as_bytes(), b"x")), name);
            refused(open(&raw_field(name.as_bytes(), b"")), name);
            let mut response = Message::response(bhttp::StatusCode::OK);
            response.put_header(name, "x");
            refused(decode_response(&bhttp_write(&response, Mode::KnownLength), LIMIT), name);
            for near in [format!("{name}s"), format!("x-{name}"), name[..name.len() - 1].into()] {
                taken(open(&raw_field(near.as_bytes(), b"x")), near);
            }
        }
        for name in
            ["accept-encoding", "content-encoding", "forwarded", "origin", "upgrade-insecure-requests"]
        {
            taken(open(&raw_field(name.as_bytes(), b"x")), name);
        }
    }

    #[test]
    fn field_values() {
        for value in [
            "\r", "\n", "\0", "a\rb", "a\nb", "a\r\n b", "a\0b", " a", "a ", "\ta", "a\t", " ", "\t",
            "a\x01b", "\x7f",
        ] {
            refused(open(&raw_field(b"x", value.as_bytes())), value);
        }
        for value in
            [&b""[..], b"a", b"a b", b"a\tb", b"\x80\xff", b"\xa0a\xa0", b"=?utf-8?", "gr\u{fc}n".as_bytes()]
        {
            let (head, _) = taken(open(&raw_field(b"x", value)), value);
            assert_eq!(head.headers["x"].as_bytes(), value);
        }
    }

    /// Every byte in every place, against the words of section 7.
    #[test]
    fn every_byte() {
        for byte in 0..=255u8 {
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let taken = |message: Bytes| open(&message).is_ok();
            assert_eq!(taken(raw(&[b'G', byte], b"http", b"h", b"/", &[])), token, "method {byte}");
            let lower = token && !byte.is_ascii_uppercase();
            assert_eq!(taken(raw_field(&[b'x', byte], b"")), lower, "name {byte}");
            let value = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            assert_eq!(taken(raw_field(b"x", &[b'a', byte, b'a'])), value, "value {byte}");
            assert_eq!(taken(raw_field(b"x", &[b'a', byte])), value && !b" \t".contains(&byte), "end {byte}");
            let path = byte > b' ' && byte < 0x7f && !b"\\#".contains(&byte);
            assert_eq!(taken(raw_path(&[b'/', b'a', byte])), path && !b"<>`".contains(&byte), "path {byte}");
            assert_eq!(
                taken(raw_path(&[b'/', b'?', byte])),
                path && !b"\"<>".contains(&byte),
                "query {byte}"
            );
        }
    }

    #[test]
    fn statuses() {
        for status in [0, 20, 100, 103, 199, 600, 999, 1000, 65_736, super::super::varint::MAX] {
            refused(decode_response(&raw_response(status), LIMIT), status);
        }
        for status in [200, 204, 304, 404, 599] {
            let (seen, _, _) = taken(decode_response(&raw_response(status), LIMIT), status);
            assert_eq!(u64::from(seen.as_u16()), status);
        }
        // 103, no fields, then 200.
        refused(decode_response(&hex("0140670040c8000000"), LIMIT), "an informational response");
    }

    #[test]
    fn framing() {
        let request = raw_path(b"/");
        let response = raw_response(200);
        refused(open(&response), "a response for a request");
        refused(decode_response(&request, LIMIT), "a request for a response");
        let message = Message::request(b"GET".into(), b"http".into(), b"h".into(), b"/".into());
        refused(open(&bhttp_write(&message, Mode::IndeterminateLength)), "indeterminate length");
        let message = Message::response(bhttp::StatusCode::OK);
        refused(
            decode_response(&bhttp_write(&message, Mode::IndeterminateLength), LIMIT),
            "indeterminate length",
        );
        for indicator in [2, 3, 4, 0x3f] {
            refused(open(&[&[indicator], &request[1..]].concat().into()), indicator);
            refused(decode_response(&[&[indicator], &response[1..]].concat().into(), LIMIT), indicator);
        }
        refused(open(&Bytes::new()), "nothing");
    }

    #[test]
    fn trailers_and_padding() {
        let mut message = Message::request(b"GET".into(), b"http".into(), b"h".into(), b"/".into());
        message.write_content(b"content");
        let good = bhttp_write(&message, Mode::KnownLength);
        let with = |tail: &[u8]| Bytes::from([&good[..], tail].concat());
        for padding in [&[][..], &[0], &[0; 1000]] {
            assert_eq!(taken(open(&with(padding)), padding).1, "content");
        }
        for padding in [&[1][..], &[0, 0, 1], &[1, 0, 0], &[0x80]] {
            refused(open(&with(padding)), padding);
        }
        message.put_trailer("x", "y");
        refused(open(&bhttp_write(&message, Mode::KnownLength)), "trailers");
    }

    /// RFC 9292 section 3.8: header section, content and trailer section may be left out at the end if they
    /// are empty, and a message ends nowhere else.
    #[test]
    fn truncation() {
        let mut message = Message::request(b"GET".into(), b"http".into(), b"h".into(), b"/".into());
        let control = "000347455404687474700168012f";
        let complete = format!("{control}000000");
        assert_eq!(bhttp_write(&message, Mode::KnownLength), hex(&complete));
        for len in 0..=complete.len() / 2 {
            let result = open(&hex(&complete[..2 * len]));
            assert_eq!(result.is_ok(), 2 * len >= control.len(), "{len}");
        }
        taken(decode_response(&hex("0140c8"), LIMIT), "the shortest response");
        refused(decode_response(&hex("0140"), LIMIT), "half a status");

        message.put_header("x", "y");
        message.write_content(b"content");
        let complete = bhttp_write(&message, Mode::KnownLength);
        let fields_end = control.len() / 2 + 5;
        for len in 0..=complete.len() {
            let ends = [control.len() / 2, fields_end, complete.len() - 1, complete.len()];
            assert_eq!(open(&complete.slice(..len)).is_ok(), ends.contains(&len), "{len}");
        }
        for half in ["40", "800000", "c0000000000000"] {
            refused(open(&hex(&format!("{control}{half}"))), half);
        }
    }

    #[test]
    fn lengths_in_any_form_but_not_beyond_the_end() {
        let long_forms = [
            "4000",
            "80000003474554",
            "c00000000000000468747470",
            "400168",
            "800000012f",
            "40054001780179",
            "c0000000000000026869",
            "4000",
        ];
        let (head, content) = taken(open(&hex(&long_forms.concat())), "long forms");
        assert_eq!((head.method, head.authority.as_str(), head.path.as_str()), (Method::GET, "h", "/"));
        assert_eq!(
            (&head.headers["x"], content),
            (&HeaderValue::from_static("y"), Bytes::from_static(b"hi"))
        );

        for length in ["bfffffff", "ffffffffffffffff", "7fff", "3f"] {
            for before in [
                "00",                                 // method
                "0003474554",                         // scheme
                "00034745540468747470",               // authority
                "000347455404687474700168",           // path
                "000347455404687474700168012f",       // header section
                "000347455404687474700168012f00",     // content
                "000347455404687474700168012f0000",   // trailer section
                "000347455404687474700168012f08",     // name
                "000347455404687474700168012f0a0178", // value
            ] {
                refused(open(&hex(&format!("{before}{length}"))), (before, length));
                refused(open(&hex(&format!("{before}{length}0000000000000000"))), (before, length));
            }
        }
        // A line that ends beyond its section, though not beyond the message.
        refused(open(&hex("000347455404687474700168012f0301780179000000")), "beyond the section");
        // A name without a value.
        refused(open(&hex("000347455404687474700168012f0201780000")), "no value");
    }

    #[test]
    fn limits() {
        let message = raw(b"GET", b"http", b"h", b"/", &[(b"x", &[b'y'; 500])]);
        let head = message.len() - 2;
        assert!(decode_request(&message, head).is_ok());
        assert_eq!(code(decode_request(&message, head - 1)), Some(Code::TooLarge));
        let mut message = Message::request(b"GET".into(), b"http".into(), b"h".into(), b"/".into());
        message.write_content(vec![0; 1 << 20]);
        assert!(decode_request(&bhttp_write(&message, Mode::KnownLength), 20).is_ok());
        assert_eq!(code(decode_response(&raw_response(200), 3)), Some(Code::TooLarge));
        assert!(decode_response(&raw_response(200), 4).is_ok());

        for distinct in [false, true] {
            let name = |i| if distinct { format!("x{i}") } else { "x".into() };
            (0..1024).for_each(|i| message.put_header(name(i), ""));
            let (head, _) = open(&bhttp_write(&message, Mode::KnownLength)).unwrap();
            assert_eq!(head.headers.len(), 1024);
            message.put_header("y", "");
            assert_eq!(code(open(&bhttp_write(&message, Mode::KnownLength))), Some(Code::TooLarge));
            message = Message::request(b"GET".into(), b"http".into(), b"h".into(), b"/".into());
        }
    }

    #[test]
    fn content_is_a_slice_and_fields_are_none() {
        let message = seal(&parts("POST", "http://h/", &[("x", "value")]), b"content").unwrap();
        let (head, content) = open(&message).unwrap();
        assert!(message.as_ptr_range().contains(&content.as_ptr()));
        assert!(!message.as_ptr_range().contains(&head.headers["x"].as_bytes().as_ptr()));
        assert!(!message.as_ptr_range().contains(&head.path.as_str().as_ptr()));
    }

    /// `bhttp` joins them, as RFC 9113 section 8.2.3 allows; here they stay what they were.
    #[test]
    fn duplicates_stay_in_their_order() {
        let fields: &[(&[u8], &[u8])] =
            &[(b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), (b"x", b"2"), (b"x", b"1")];
        let sealed = {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers
                    .append(HeaderName::from_bytes(name).unwrap(), HeaderValue::from_bytes(value).unwrap());
            }
            let mut request = parts("GET", "http://h/", &[]);
            request.headers = headers;
            open(&seal(&request, b"").unwrap()).unwrap().0.headers
        };
        for name in ["cookie", "x"] {
            let values: Vec<_> = sealed.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            let expected: Vec<_> = fields.iter().filter(|f| f.0 == name.as_bytes()).map(|f| f.1).collect();
            assert_eq!(values, expected);
        }
    }
}

mod sealing {
    use super::*;

    #[test]
    fn drops_what_opening_refuses() {
        let mut request = parts(
            "GET",
            "http://h/",
            &[
                ("Host", "elsewhere"),
                ("Connection", "close, X-Hop ,,x-other,\"not a token\""),
                ("connection", "upgrade"),
                ("keep-alive", "1"),
                ("proxy-connection", "x"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("te", "trailers"),
                ("trailer", "x"),
                ("expect", "100-continue"),
                ("content-length", "5"),
                ("accept-encoding", "gzip"),
                ("x-hop", "1"),
                ("x-hop", "2"),
                ("x-other", "1"),
                ("X-Kept", "1"),
                ("close-not", "1"),
                ("content-encoding", "gzip"),
            ],
        );
        request.headers.insert(HeaderName::from_static("a\"b"), HeaderValue::from_static("no token"));
        let (head, _) = open(&seal(&request, b"").unwrap()).unwrap();
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["close-not", "content-encoding", "x-kept"]);
        assert_eq!(head.authority, "h");

        let sealed = seal_response(200, &request.headers, b"").unwrap();
        assert_eq!(decode_response(&sealed, LIMIT).unwrap().1, head.headers);
    }

    #[test]
    fn trims_values() {
        let mut request = parts("GET", "http://h/", &[]);
        for value in [" \t a b\t ", "", " ", "\u{a0}"] {
            request.headers.append("x", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (head, _) = open(&seal(&request, b"").unwrap()).unwrap();
        let values: Vec<_> = head.headers.get_all("x").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b"a b"[..], b"", b"", "\u{a0}".as_bytes()]);
    }

    #[test]
    fn targets() {
        for (uri, host, url) in [
            ("http://h", None, "http://h/"),
            ("http://h?x=1", None, "http://h/?x=1"),
            ("http://h/?", None, "http://h/?"),
            ("HTTP://H/a%2Fb?c//..", Some("other"), "http://H/a%2Fb?c//.."),
            ("https://[::1]:8443/a//b", None, "https://[::1]:8443/a//b"),
            ("/mcp?x", Some(" h:80 "), "https://h:80/mcp?x"),
            ("/", Some("h"), "https://h/"),
            ("h:80", None, "https://h:80/"),
            ("http://h/a#fragment", None, "http://h/a"),
        ] {
            let fields: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
            let sealed = taken(seal(&parts("GET", uri, &fields), b""), uri);
            let (head, _) = taken(open(&sealed), uri);
            assert_eq!(format!("{}://{}{}", head.scheme, head.authority, head.path), url);
            assert!(!head.headers.contains_key("host"));
        }
    }

    #[test]
    fn scheme_of_a_uri_without_one() {
        for (default, scheme) in [("http", Scheme::HTTP), ("https", Scheme::HTTPS), ("HTTPS", Scheme::HTTPS)]
        {
            let mut out = BytesMut::new();
            let request = parts("GET", "/", &[("host", "h")]);
            encode_request::<Bytes>(&request, &default.parse().unwrap(), &[], &mut out).unwrap();
            assert_eq!(open(&out.freeze()).unwrap().0.scheme, scheme);
        }
    }

    #[test]
    fn misuse_leaves_everything_as_it_was() {
        let requests = [
            parts("CONNECT", "h:80", &[]),
            parts("CONNECT", "http://h/", &[]),
            parts("OPTIONS", "*", &[("host", "h")]),
            parts("GET", "/", &[]),
            parts("GET", "/", &[("host", "")]),
            parts("GET", "/", &[("host", "a"), ("host", "a")]),
            parts("GET", "/", &[("host", "a/b")]),
            parts("GET", "/", &[("host", "user@a")]),
            parts("GET", "http://user@h/", &[]),
            parts("GET", "http://h:x/", &[]),
            parts("GET", "ws://h/", &[]),
            parts("GET", "http://h//a", &[]),
            parts("GET", "http://h/a/../b", &[]),
            parts("GET", "http://h/%2E%2e/", &[]),
            parts("GET", "http://h/\u{e9}", &[]),
            parts("GET", "http://h/?a\\", &[]),
        ];
        for request in requests {
            let mut out = BytesMut::from("before");
            let error = encode_request(&request, &Scheme::HTTPS, &[b"content"], &mut out).unwrap_err();
            assert!(matches!(error, Error::Misuse { .. }), "{request:?}");
            assert_eq!(out, "before");
        }
        let mut out = BytesMut::new();
        let ws = "ws".parse().unwrap();
        let request = parts("GET", "/", &[("host", "h")]);
        assert!(encode_request::<&[u8]>(&request, &ws, &[], &mut out).is_err());
        for status in [100, 101, 199, 600, 999] {
            let error = seal_response(status, &HeaderMap::new(), b"").unwrap_err();
            assert!(matches!(error, Error::Misuse { .. }), "{status}");
        }
        assert!(out.is_empty());
    }

    #[test]
    fn content_of_several_chunks_goes_behind_what_is_there() {
        let mut out = BytesMut::from("before");
        let chunks = ["con", "te", "", "n", "t"];
        encode_request(&parts("GET", "http://h/", &[]), &Scheme::HTTP, &chunks, &mut out).unwrap();
        let message = out.freeze().split_off(6);
        assert_eq!(open(&message).unwrap().1, "content");

        let mut out = BytesMut::new();
        encode_response(StatusCode::OK, &HeaderMap::new(), &[[0; 100_000]], &mut out).unwrap();
        assert!(out.capacity() >= out.len() + 16, "no room for the tag");

        let mut out = BytesMut::new();
        encode_response::<Bytes>(StatusCode::NO_CONTENT, &HeaderMap::new(), &[], &mut out).unwrap();
        assert_eq!(out, hex("0140cc000000"));
    }
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
