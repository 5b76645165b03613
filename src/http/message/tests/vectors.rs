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
    for (value, len) in [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8)]
    {
        let mut out = BytesMut::new();
        super::super::varint::put(value, &mut out);
        assert_eq!((out.len(), super::super::varint::len(value)), (len, len));
        assert_eq!(super::super::varint::Reader::new(&out).varint().unwrap(), value);
    }
}
