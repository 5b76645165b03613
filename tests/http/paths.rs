//! The inner request against the outer one: path, prefix, authority, and the fields that only infrastructure
//! may set.

use http::{HeaderName, Request, Response, uri::Authority};
use tokio::sync::mpsc;
use tower_seal::{
    Error,
    config::{Config, Encoding},
    error::Code,
    http::UnsealLayer,
    protocol::Final,
};

use crate::{
    hand::{Hand, message, send},
    support::*,
};

/// A hand before a layer with options; what the application was asked for comes out of the channel.
async fn before(
    encoding: Encoding,
    options: impl FnOnce(UnsealLayer) -> UnsealLayer,
) -> (Hand, mpsc::UnboundedReceiver<Request<Body>>, Sides) {
    let sides = Sides::new();
    let (seen, requests) = mpsc::unbounded_channel();
    let app = app(move |request| {
        seen.send(request).unwrap();
        async { Response::new(empty()) }
    });
    let wire = serve(&options(UnsealLayer::new(sides.server.clone())), app);
    (Hand::new(&sides.client, encoding, &wire).await, requests, sides)
}

/// Sends a sealed request for `inner` to the outer URI: whether it is served, or else refused for its path.
async fn passes(hand: &Hand, inner: &[u8], outer: &str) -> bool {
    let request = hand.begin(inner, Final::Yes);
    let content_type = crate::hand::media_type(hand.encoding);
    let sent = Request::post(outer).header("content-type", content_type);
    let answer = send(&hand.wire, sent.body(full(request.bytes)).unwrap()).await;
    if answer.content_type() == ERROR {
        assert_eq!(answer.refusal(&request.response), (400, Code::PathMismatch, true), "{outer}");
        return false;
    }
    assert_eq!(hand.open(&answer, &request.response).0, 200);
    true
}

fn inner(path: &str) -> Vec<u8> {
    message("POST", path, "")
}

#[tokio::test(start_paused = true)]
async fn the_inner_path_is_the_outer_one_byte_for_byte() {
    for encoding in BOTH {
        let (hand, mut requests, _sides) = before(encoding, |layer| layer).await;
        for (path, outer, equal) in [
            ("/", "http://example.com/", true),
            ("/", "http://example.com", true),
            ("/", "/", true),
            // An authority alone, without a path.
            ("/", "example.com", true),
            ("/?q", "/", true),
            ("/a", "http://any.example/a", true),
            ("/a?q=1", "/a?q=2", true),
            ("/a", "/a?outer=/../b", true),
            ("/a//b", "/a//b", true),
            ("/a%2Fb", "/a%2Fb", true),
            ("/a%2Fb", "/a/b", false),
            ("/a/b", "/a%2Fb", false),
            ("/a%2fb", "/a%2Fb", false),
            ("/a", "/a/", false),
            ("/a/", "/a", false),
            ("/a", "/A", false),
            ("/%61", "/a", false),
            ("/a;x", "/a", false),
            ("/a//b", "/a/b", false),
            ("/a", "/b", false),
            ("/a", "/", false),
            ("/a", "example.com", false),
            ("/a?/b", "/b", false),
            ("/a?b", "/a%3Fb", false),
        ] {
            assert_eq!(passes(&hand, &inner(path), outer).await, equal, "{encoding:?} {path} {outer}");
            match requests.try_recv() {
                Ok(request) => assert!(equal && request.uri() == path, "{path} {outer}"),
                Err(_) => assert!(!equal, "{path} {outer}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_refused_for_its_path_claims_no_id() {
    let (hand, mut requests, _sides) = before(Encoding::Binary, |layer| layer).await;
    let request = hand.begin(&inner("/a"), Final::Yes);
    for _ in 0..3 {
        let answer = hand.post("/b", full(request.bytes.clone())).await;
        assert_eq!(answer.refusal(&request.response), (400, Code::PathMismatch, true));
    }
    assert!(requests.try_recv().is_err());
    let answer = hand.post("/a", full(request.bytes.clone())).await;
    assert_eq!(hand.open(&answer, &request.response).0, 200);
    // Somewhere else it is a mismatch still, before it is a replay.
    let answer = hand.post("/b", full(request.bytes)).await;
    assert_eq!(answer.refusal(&request.response), (400, Code::PathMismatch, true));
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_a_gateway_strips_is_stripped_before_the_comparison() {
    let (hand, mut requests, _sides) =
        before(Encoding::Binary, |l| l.stripped_prefix("/my/tools").unwrap()).await;
    for (path, outer, served) in [
        ("/my/tools/mcp?q", "/mcp", Some("/mcp?q")),
        ("/my/tools/", "/", Some("/")),
        ("/my/tools", "/", Some("/")),
        ("/my/tools?q", "/", Some("/?q")),
        ("/my/tools/my/tools", "/my/tools", Some("/my/tools")),
        ("/my/tools//mcp", "http://example.com//mcp", None),
        ("/my/tools/mcp", "/my/tools/mcp", None),
        ("/my/tools/mcp", "/tools/mcp", None),
        ("/my/toolsmcp", "/mcp", None),
        ("/my/toolsmcp", "mcp", None),
        ("/mcp", "/mcp", None),
        ("/my/Tools/mcp", "/mcp", None),
        ("/my%2Ftools/mcp", "/mcp", None),
        ("/?/my/tools/mcp", "/mcp", None),
    ] {
        assert_eq!(passes(&hand, &inner(path), outer).await, served.is_some(), "{path} {outer}");
        assert_eq!(requests.try_recv().ok().map(|r| r.uri().to_string()).as_deref(), served, "{path}");
    }
    let layer = UnsealLayer::new(Config::plaintext());
    for prefix in ["", "/", "tools", "tools/", "/tools/"] {
        assert!(matches!(layer.clone().stripped_prefix(prefix), Err(Error::Misuse { .. })), "{prefix}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_configured_authorities_are_served() {
    let served = ["example.com:8443", "Other.Example"].map(Authority::from_static);
    let (hand, mut requests, _sides) = before(Encoding::Binary, |layer| layer.authorities(served)).await;
    for (authority, served) in [
        ("example.com:8443", true),
        ("EXAMPLE.com:8443", true),
        ("other.example", true),
        ("example.com", false),
        ("example.com:443", false),
        ("other.example:80", false),
        ("evil.other.example", false),
        ("127.0.0.1", false),
    ] {
        let message = bhttp::Message::request(b"POST".into(), b"https".into(), authority.into(), b"/".into());
        // The outer authority is nobody's concern.
        for outer in ["/", "http://example.com:8443/", "http://evil/"] {
            assert_eq!(passes(&hand, &crate::hand::write(&message), outer).await, served, "{authority}");
            match requests.try_recv() {
                Ok(request) => assert_eq!(request.headers()["host"], authority),
                Err(_) => assert!(!served),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fields_that_only_infrastructure_may_set_are_removed() {
    let names = ["cf-connecting-ip", "x-client-cert"].map(HeaderName::from_static);
    let (hand, mut requests, _sides) =
        before(Encoding::Binary, |layer| layer.set_by_infrastructure(names)).await;
    let mut message =
        bhttp::Message::request(b"POST".into(), b"http".into(), b"example.com".into(), b"/".into());
    let removed = [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-",
        "x-forwarded-x",
        "x-real-ip",
        "cf-connecting-ip",
        "x-client-cert",
    ];
    let kept = ["x-forwarded", "x-real-ip-too", "via", "authorization"];
    for name in removed.into_iter().chain(kept) {
        message.put_header(name, "1");
        message.put_header(name, "2");
    }
    let request = hand.begin(&crate::hand::write(&message), Final::Yes);
    // Neither do those of the outer request reach the application.
    let mut outer = crate::hand::sealed("/", BINARY, full(request.bytes));
    outer.headers_mut().insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
    outer.headers_mut().insert("x-outer", "1".parse().unwrap());
    assert_eq!(send(&hand.wire, outer).await.status, 200);
    let request = requests.recv().await.unwrap();
    let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    names.sort();
    assert_eq!(names, ["authorization", "host", "via", "x-forwarded", "x-real-ip-too"]);
    assert_eq!(request.headers().get_all("via").iter().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_leads_a_request_to_another_service_of_the_node_gets_it_refused() {
    let sides = Sides::new();
    let http = sides.seal(middle(sides.serve(echo()), |mut request, next| {
        use tower::ServiceExt as _;
        if !is_hello(&request) {
            *request.uri_mut() = "http://example.com/admin".parse().unwrap();
        }
        next.oneshot(request)
    }));
    let error = ask(&http, post("http://example.com/mcp", "")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::PathMismatch, signed: true }), "{error:?}");
    assert_eq!(ask(&http, post("http://example.com/admin", "")).await.unwrap().0, 200);
}
