use super::*;

#[test]
fn methods() {
    for method in ["", "CONNECT", "GE T", "G,ET", "GET\r", "G\u{e9}T", "\"GET\"", "GET:"] {
        refused(open(&raw(method.as_bytes(), b"http", b"h", b"/", &[])), method);
    }
    for method in ["GET", "connect", "CONNECTS", "M-SEARCH", "!#$%&'*+-.^_`|~09azAZ", "AVERYLONGEXTENSION"] {
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
    for authority in
        ["h", "h:80", "h:", "EXAMPLE.com", "127.0.0.1:8080", "[::1]", "[::1]:", "[::1]:8080", "a_b-c.d~e!"]
    {
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
    for name in ["accept-encoding", "content-encoding", "forwarded", "origin", "upgrade-insecure-requests"] {
        taken(open(&raw_field(name.as_bytes(), b"x")), name);
    }
}

#[test]
fn field_values() {
    for value in [
        "\r", "\n", "\0", "a\rb", "a\nb", "a\r\n b", "a\0b", " a", "a ", "\ta", "a\t", " ", "\t", "a\x01b",
        "\x7f",
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
        assert_eq!(taken(raw_path(&[b'/', b'?', byte])), path && !b"\"<>".contains(&byte), "query {byte}");
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
    assert_eq!((&head.headers["x"], content), (&HeaderValue::from_static("y"), Bytes::from_static(b"hi")));

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
            headers.append(HeaderName::from_bytes(name).unwrap(), HeaderValue::from_bytes(value).unwrap());
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
