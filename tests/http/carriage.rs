//! What a request and its response carry, and what stands outside instead.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, uri::Scheme};
use tokio::sync::mpsc;
use tower::{ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_seal::{
    Config, Error, Verified,
    config::Signatures,
    error::Code,
    http::{Rejection, SealLayer, UnsealLayer},
};

use crate::support::*;

/// An application that hands over what it gets, and answers with nothing.
fn witness() -> (Wire, mpsc::UnboundedReceiver<Request<Body>>) {
    let (seen, requests) = mpsc::unbounded_channel();
    let app = app(move |request| {
        seen.send(request).unwrap();
        async { Response::new(empty()) }
    });
    (app, requests)
}

/// The fields, those of one name in their order.
fn lines(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    lines
}

fn fields(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &[u8])| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(line) {
        headers.append(name, value);
    }
    headers
}

const CARRIED: &[(&str, &[u8])] = &[
    ("accept", b"text/event-stream, application/json"),
    ("authorization", b"Bearer secret"),
    ("cookie", b"a=1"),
    ("cookie", b"b=2"),
    ("content-type", b"application/json"),
    ("last-event-id", b"7"),
    ("mcp-method", b"tools/call"),
    ("mcp-param-x", b"=?base64?w7w=?="),
    ("mcp-session-id", b"s"),
    ("origin", b"null"),
    ("x-again", b"2"),
    ("x-again", b""),
    ("x-again", b"1"),
    ("x-again", b"2"),
    ("x-bytes", b"\x80\xe4\xff"),
    ("x-odd!#$%&'*+-.^_`|~0", b"a\tb  c\"\\,;"),
    ("seal-session", b"inner"),
    ("date", b"yesterday"),
    ("content-encoding", b"gzip"),
    ("access-control-allow-origin", b"https://inner"),
];

const DROPPED: &[(&str, &[u8])] = &[
    ("accept-encoding", b"gzip"),
    ("connection", b"x-hop, close"),
    ("x-hop", b"1"),
    ("keep-alive", b"5"),
    ("proxy-connection", b"close"),
    ("te", b"trailers"),
    ("trailer", b"x"),
    ("upgrade", b"h2c"),
    ("expect", b"100-continue"),
];

#[tokio::test]
async fn requests_arrive_as_they_were_made_over_each_wire() {
    for (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let (app, mut requests) = witness();
        let (outside, mut outer) = mpsc::unbounded_channel();
        let wire = middle(sides.serve(app), move |request, next| {
            outside
                .send((request.method().clone(), request.uri().path().to_owned(), request.headers().clone()))
                .unwrap();
            next.oneshot(request)
        });
        let address = listen(wire).await;
        let http = sides.seal(connection(version));
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "x-Own!"] {
            let mut request = Request::new(empty());
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = format!("http://{address}/a%2Fb/;c=1?q=%20&r=/../x?y").parse().unwrap();
            *request.headers_mut() = fields(CARRIED);
            request.headers_mut().extend(fields(DROPPED));
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("elsewhere"));
            assert_eq!(ask(&http, request).await.unwrap().0, 200, "{version:?} {encoding:?} {method}");

            let request = requests.recv().await.unwrap();
            assert_eq!(request.method(), method);
            assert_eq!(request.uri(), "/a%2Fb/;c=1?q=%20&r=/../x?y");
            let mut expected = fields(CARRIED);
            expected.insert(header::HOST, HeaderValue::from_str(&address.to_string()).unwrap());
            assert_eq!(lines(request.headers()), lines(&expected));
        }
        // Outside there is a POST to the path, and nothing else of all that.
        let mut kinds = Vec::new();
        outer.close();
        while let Some((method, path, headers)) = outer.recv().await {
            assert_eq!((method, &*path), (Method::POST, "/a%2Fb/;c=1"));
            kinds.push(headers[header::CONTENT_TYPE].clone());
            let expected: &[&str] = match kinds.len() {
                1 => &["content-length", "content-type", "host"],
                _ => &["content-length", "content-type", "host", "seal-session"],
            };
            let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            // In HTTP/2 it is the pseudo-header :authority.
            if version == Version::Http2 && !names.contains(&"host") {
                names.push("host");
            }
            names.sort();
            assert_eq!(names, expected);
        }
        assert_eq!(kinds.len(), 10);
        assert_eq!(kinds[0], HANDSHAKE);
        assert!(kinds[1..].iter().all(|kind| kind == crate::hand::media_type(encoding)));
    }
}

#[tokio::test]
async fn responses_arrive_as_they_were_made_over_each_wire() {
    for (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let app = app(|request| async move {
            let mut response = Response::new(full("for those who may have content"));
            *response.status_mut() = request.uri().path()[1..].parse().unwrap();
            *response.headers_mut() = fields(CARRIED);
            response.headers_mut().extend(fields(DROPPED));
            if response.status() == 204 || response.status() == 304 || request.method() == Method::HEAD {
                *response.body_mut() = empty();
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
            }
            response
        });
        let (outside, mut outer) = mpsc::unbounded_channel();
        let wire = middle(sides.serve(app), move |request, next| {
            let outside = outside.clone();
            async move {
                let hello = is_hello(&request);
                let response = next.oneshot(request).await?;
                if !hello {
                    outside.send((response.status(), response.headers().clone())).unwrap();
                }
                Ok(response)
            }
        });
        let address = listen(wire).await;
        let http = sides.seal(connection(version));
        for (method, status) in [
            ("GET", 200),
            ("POST", 201),
            ("POST", 202),
            ("DELETE", 204),
            ("GET", 301),
            ("GET", 304),
            ("GET", 400),
            ("GET", 401),
            ("GET", 404),
            ("GET", 499),
            ("HEAD", 200),
            ("HEAD", 404),
            ("GET", 500),
            ("GET", 599),
        ] {
            let request = Request::builder().method(method).uri(format!("http://{address}/{status}"));
            let response = http.clone().oneshot(request.body(empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(lines(response.headers()), lines(&fields(CARRIED)), "{version:?} {encoding:?}");
            let server = response.extensions().get::<Verified>().unwrap().node_id();
            assert_eq!(server, sides.server.node_id());
            let content = content(response.into_body()).await.unwrap();
            assert_eq!(content.is_empty(), method == "HEAD" || status == 204 || status == 304);

            let (status, headers) = outer.recv().await.unwrap();
            assert_eq!(status, 200);
            assert_eq!(headers[header::CACHE_CONTROL], "no-store, no-transform");
            assert_eq!(headers["x-accel-buffering"], "no");
            assert_eq!(headers[header::CONTENT_TYPE], crate::hand::media_type(encoding));
            assert_eq!(headers.len(), 3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_cannot_be_carried_is_an_error_and_nothing_of_it_gets_out() {
    for (status, length) in [(600, 1), (999, 1), (200, MIB)] {
        let sides = Sides::new();
        let app = app(move |_| async move {
            let response = Response::builder().status(status).header("x", "x".repeat(length));
            response.body(full("secret")).unwrap()
        });
        let response = sides.seal(sides.serve(app)).oneshot(get("http://example.com/")).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(response.headers().is_empty());
        assert_eq!(content(response.into_body()).await.unwrap(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn extensions_of_a_request_stay_and_the_caller_is_among_them() {
    #[derive(Clone, PartialEq, Debug)]
    struct OfRequest;

    let sides = Sides::new();
    let (app, mut requests) = witness();
    let http = sides.seal(sides.serve(app));
    let mut sessions = Vec::new();
    for scheme in [Scheme::HTTP, Scheme::HTTPS] {
        let request = Request::get(format!("{scheme}://example.com/")).extension(OfRequest);
        ask(&http, request.body(empty()).unwrap()).await.unwrap();
        let request = requests.recv().await.unwrap();
        assert_eq!(request.extensions().get(), Some(&OfRequest));
        assert_eq!(request.extensions().get(), Some(&scheme));
        let caller = *request.extensions().get::<Verified>().unwrap();
        assert_eq!(caller.node_id(), sides.client.node_id());
        assert!(caller.since() <= crate::hand::now());
        sessions.push(caller.session());
    }
    // Another scheme is another origin.
    assert_ne!(sessions[0], sessions[1]);
}

#[tokio::test(start_paused = true)]
async fn extensions_of_a_response_get_neither_out_of_the_seal_nor_into_it() {
    use hyper::ext::ReasonPhrase;

    let phrase = |said: &'static str| ReasonPhrase::from_static(said.as_bytes());
    let sides = Sides::new();
    let inner =
        app(move |_| async move { Response::builder().extension(phrase("secret")).body(empty()).unwrap() });
    let wire = middle(sides.serve(inner), move |request, next| async move {
        let mut response = next.oneshot(request).await?;
        assert!(response.extensions().get::<ReasonPhrase>().is_none());
        response.extensions_mut().insert(phrase("forged"));
        Ok(response)
    });
    let response = sides.seal(wire).oneshot(get("http://example.com/")).await.unwrap();
    assert!(response.extensions().get::<ReasonPhrase>().is_none());
    assert_eq!(response.extensions().get::<Verified>().unwrap().node_id(), sides.server.node_id());
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_said_outside_gets_in() {
    #[derive(Clone)]
    struct Forged;

    let sides = Sides::new();
    let (app, mut requests) = witness();
    let forge = |headers: &mut HeaderMap| {
        for name in [header::COOKIE, header::SET_COOKIE, header::HOST, header::AUTHORIZATION] {
            headers.append(name, HeaderValue::from_static("forged"));
        }
    };
    let wire = middle(sides.serve(app), move |mut request, next| async move {
        forge(request.headers_mut());
        let mut response = next.oneshot(request).await?;
        forge(response.headers_mut());
        response.extensions_mut().insert(Forged);
        Ok(response)
    });
    let response = sides.seal(wire).oneshot(get("http://example.com/")).await.unwrap();
    let request = requests.recv().await.unwrap();
    assert_eq!(lines(request.headers()), [("host".to_owned(), b"example.com".to_vec())]);
    assert_eq!(lines(response.headers()), []);
    assert!(response.extensions().get::<Forged>().is_none());
}

/// In both directions; and whoever else has it keeps what they have.
#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_else_has_is_opened_where_it_is() {
    for is_kept in [false, true] {
        let (carried, mut bodies) = mpsc::unbounded_channel();
        let carry = move |body: Body| {
            let carried = carried.clone();
            async move {
                let bytes = Bytes::from(content(body).await.unwrap().to_vec());
                let kept = is_kept.then(|| (bytes.clone(), bytes.to_vec()));
                let begin = bytes.as_ptr().addr();
                carried.send((begin..begin + bytes.len(), kept)).unwrap();
                full(bytes)
            }
        };
        let (opened, mut contents) = mpsc::unbounded_channel();
        let app = app(move |request| {
            let opened = opened.clone();
            async move {
                let content = content(request.into_body()).await.unwrap();
                opened.send(content.as_ptr().addr()).unwrap();
                Response::new(full(content))
            }
        });
        let sides = Sides::new();
        let wire = middle(sides.serve(app), move |request, next| {
            let carry = carry.clone();
            async move {
                if is_hello(&request) {
                    return next.oneshot(request).await;
                }
                let (head, body) = request.into_parts();
                let response = next.oneshot(Request::from_parts(head, carry(body).await)).await?;
                let (head, body) = response.into_parts();
                Ok(Response::from_parts(head, carry(body).await))
            }
        });
        let response = sides.seal(wire).oneshot(post("http://example.com/", "content")).await.unwrap();
        let content = content(response.into_body()).await.unwrap();
        assert_eq!(content, "content");
        for opened in [contents.recv().await.unwrap(), content.as_ptr().addr()] {
            let (carried, kept) = bodies.recv().await.unwrap();
            assert_eq!(carried.contains(&opened), !is_kept);
            assert!(kept.is_none_or(|(now, before)| now == before));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_leaves_its_reason_for_the_layers_around() {
    let sides = Sides::new();
    let response = sides.serve(echo()).oneshot(post("http://example.com/", "plain")).await.unwrap();
    assert_eq!(response.status(), 403);
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.code(), Code::EncryptionRequired);
    assert!(matches!(rejection.error(), Error::Incompatible { code: Code::EncryptionRequired, .. }));
    assert_eq!(sides.server.telemetry().rejections(Code::EncryptionRequired), 1);
}

#[tokio::test(start_paused = true)]
async fn the_authority_comes_from_the_uri_or_else_from_the_host_field() {
    let sides = Sides::new();
    let (app, mut requests) = witness();
    let (outside, mut outer) = mpsc::unbounded_channel();
    let wire = middle(sides.serve(app), move |request, next| {
        outside.send((request.uri().clone(), request.headers().get(header::HOST).cloned())).unwrap();
        next.oneshot(request)
    });
    let http = sides.seal(wire);
    for (uri, host, inner, outside) in [
        ("http://Example.com:81?x", None, ("Example.com:81", "/?x"), ("http://Example.com:81/", None)),
        ("/a?x", Some("h:1"), ("h:1", "/a?x"), ("/a", Some("h:1"))),
        ("https://[::1]:8/", Some("h"), ("[::1]:8", "/"), ("https://[::1]:8/", None)),
    ] {
        let request = host.into_iter().fold(Request::get(uri), |r, host| r.header(header::HOST, host));
        ask(&http, request.body(empty()).unwrap()).await.unwrap();
        let request = requests.recv().await.unwrap();
        assert_eq!(
            (request.headers()[header::HOST].to_str().unwrap(), request.uri().to_string().as_str()),
            inner
        );
        for _ in 0..2 {
            let (uri, host) = outer.recv().await.unwrap();
            assert_eq!((uri.to_string().as_str(), host.as_ref().map(|h| h.to_str().unwrap())), outside);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_carried_is_misuse_and_sends_nothing() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let http = sides.seal(wire);
    assert_eq!(ask(&http, post("http://example.com/", "fine")).await.unwrap().1, "fine");
    let before = traffic.values();
    for (method, uri, host) in [
        ("CONNECT", "http://example.com/", None),
        ("GET", "/", None),
        ("GET", "/", Some("a, b")),
        ("GET", "http://user@example.com/", None),
        ("GET", "http://example.com/a/../b", None),
        ("GET", "http://example.com/%2e%2E/b", None),
        ("GET", "http://example.com//b", None),
        ("OPTIONS", "*", Some("example.com")),
    ] {
        let request = host.into_iter().fold(Request::builder(), |r, host| r.header(header::HOST, host));
        let request = request.method(method).uri(uri).body(empty()).unwrap();
        let error = ask(&http, request).await.unwrap_err();
        assert!(matches!(error, Error::Misuse { .. }), "{method} {uri}: {error:?}");
    }
    assert_eq!(traffic.values(), before);
}

#[tokio::test(start_paused = true)]
async fn chosen_fields_are_copied_to_the_outside_and_ignored_there() {
    use tower_seal::http::SealLayer;

    let sides = Sides::new();
    let layer = || SealLayer::new(sides.client.clone());
    for forbidden in [
        "authorization",
        "proxy-authorization",
        "cookie",
        "mcp-param-x",
        "host",
        "content-type",
        "seal-session",
    ] {
        let result = layer().copy_to_outside([HeaderName::from_static(forbidden)]);
        assert!(matches!(result, Err(Error::Misuse { .. })), "{forbidden}");
    }
    let (app, mut requests) = witness();
    let (outside, mut outer) = mpsc::unbounded_channel();
    let wire = middle(sides.serve(app), move |mut request, next| {
        if !is_hello(&request) {
            outside.send(lines(request.headers())).unwrap();
            request.headers_mut().insert("mcp-name", HeaderValue::from_static("forged"));
        }
        next.oneshot(request)
    });
    let names = ["mcp-name", "x-route"].map(HeaderName::from_static);
    let http = seal(&layer().copy_to_outside(names).unwrap(), wire);
    let request = Request::get("http://example.com/")
        .header("x-route", "b")
        .header("mcp-name", "tool")
        .header("x-route", "a")
        .header("mcp-method", "tools/call");
    ask(&http, request.body(empty()).unwrap()).await.unwrap();

    let outer: Vec<_> =
        outer.recv().await.unwrap().into_iter().filter(|(name, _)| name != "seal-session").collect();
    let line = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    assert_eq!(
        outer,
        [line("content-type", BINARY), line("mcp-name", "tool"), line("x-route", "b"), line("x-route", "a")]
    );
    let inner = requests.recv().await.unwrap();
    let all: Vec<_> = inner.headers().get_all("mcp-name").iter().collect();
    assert_eq!(all, ["tool"]);
    assert_eq!(inner.headers().get_all("x-route").iter().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_session_is_named_outside_as_a_hint_and_the_body_decides() {
    let sides = Sides::new();
    let (seen, mut callers) = mpsc::unbounded_channel();
    let app = app(move |request| {
        seen.send(request.extensions().get::<Verified>().unwrap().session().to_string()).unwrap();
        async { Response::builder().status(StatusCode::ACCEPTED).body(empty()).unwrap() }
    });
    let (outside, mut outer) = mpsc::unbounded_channel();
    let wire = middle(sides.serve(app), move |mut request, next| {
        if let Some(hint) = request.headers_mut().insert("seal-session", HeaderValue::from_static("nonsense"))
        {
            outside.send(hint).unwrap();
        }
        next.oneshot(request)
    });
    assert_eq!(ask(&sides.seal(wire), get("http://example.com/")).await.unwrap().0, 202);
    assert_eq!(outer.recv().await.unwrap(), callers.recv().await.unwrap());
}

/// As sections 4 and 7 count them. The load bench has a floor that makes the same bytes without layers.
#[tokio::test]
async fn an_exchange_has_as_many_bytes_as_counted_by_hand() {
    // Length, kind and flags, opening, nonce, tag.
    const RECORD: usize = 4 + 2 + 48 + 12 + 16;
    const REQUEST: &[u8] = b"\x00\x04POST\x04http\x0flocalhost:12345\x05/echo\x00";
    const RESPONSE: &[u8] = b"\x01\x40\xc8\x26\x0ccontent-type\x18application/octet-stream";
    // The content's length, and the empty trailer section.
    const CONTENT: usize = 2 + 1024 + 1;

    let app = app(|request| async move {
        let response = Response::builder().header(header::CONTENT_TYPE, "application/octet-stream");
        response.body(full(content(request.into_body()).await.unwrap())).unwrap()
    });
    let sides = Sides::new();
    let unsigned = |config: &Config| config.clone().signatures(Signatures::Handshake);
    let server = serve(&UnsealLayer::new(unsigned(&sides.server)), app);
    let (count, mut counted) = mpsc::unbounded_channel();
    let wire = service_fn(move |request: Request<Body>| {
        let (server, count) = (server.clone(), count.clone());
        async move {
            let (head, body) = request.into_parts();
            let sent = content(body).await.unwrap();
            let response = server.oneshot(Request::from_parts(head, full(sent.clone()))).await?;
            let (head, body) = response.into_parts();
            let received = content(body).await.unwrap();
            count.send((sent.len(), received.len())).unwrap();
            Ok(Response::from_parts(head, full(received)))
        }
    });
    let client = seal(&SealLayer::new(unsigned(&sides.client)), BoxCloneSyncService::new(wire));
    for _ in 0..2 {
        let request = Request::post("http://localhost:12345/echo").body(full(vec![b'x'; 1024])).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(content(response.into_body()).await.unwrap(), vec![b'x'; 1024]);
    }
    // Before it went the handshake, and the request that confirms the session with a signature.
    counted.recv().await.unwrap();
    counted.recv().await.unwrap();
    let expected = (RECORD + REQUEST.len() + CONTENT, RECORD + RESPONSE.len() + CONTENT);
    assert_eq!(counted.recv().await.unwrap(), expected);
}
