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
    for (default, scheme) in [("http", Scheme::HTTP), ("https", Scheme::HTTPS), ("HTTPS", Scheme::HTTPS)] {
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
