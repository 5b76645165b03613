//! What may come and go unsealed: CORS preflights where they are configured, plaintext where it is spelled out.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_seal::{
    Config, Error, Verified,
    config::Encoding,
    error::Code,
    http::{Cors, SealLayer, UnsealLayer},
    protocol::Final,
    telemetry::{self, Metric},
};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::{
    hand::{Answer, Hand, message, send},
    support::*,
};

// ---- CORS ----

const PAGE: &str = "https://app.example";

fn preflight(origin: &str) -> Request<Body> {
    Request::builder()
        .method(Method::OPTIONS)
        .uri("/mcp")
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type, seal-session")
        .body(empty())
        .unwrap()
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn preflights_are_refused_by_default() {
    let sides = Sides::new();
    let answer = send(&sides.serve(echo()), preflight(PAGE)).await;
    assert_eq!(answer.code(), (403, Code::EncryptionRequired));
    assert_eq!(allowed(&answer), None);
}

#[tokio::test(start_paused = true)]
async fn preflights_are_answered_for_the_configured_origins() {
    for (cors, origin, expected) in [
        (Cors::origins([PAGE.parse().unwrap()]), PAGE, Some(PAGE)),
        (Cors::origins([PAGE.parse().unwrap()]), "https://evil.example", None),
        (Cors::origins([PAGE.parse().unwrap()]), "https://app.example.evil", None),
        (Cors::origins([PAGE.parse().unwrap()]), "null", None),
        (Cors::any_origin(), "https://evil.example", Some("*")),
        (Cors::any_origin(), "null", Some("*")),
    ] {
        let sides = Sides::new();
        let reached = Count::default();
        let counted = reached.clone();
        let app = app(move |_| {
            counted.add();
            async { Response::new(empty()) }
        });
        let layer = UnsealLayer::new(sides.server.clone()).cors(cors);
        let wire = serve(&layer, app);
        let answer = send(&wire, preflight(origin)).await;
        assert_eq!(allowed(&answer), expected, "{origin}");
        if expected.is_none() {
            assert_eq!(answer.code(), (403, Code::EncryptionRequired));
            continue;
        }
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_METHODS], "POST");
        assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type, seal-session");
        assert_eq!(reached.value(), 0, "it is for the outside alone");
        // An OPTIONS that is no preflight, and anything else in plaintext, are refused as ever.
        let mut plain = preflight(origin);
        plain.headers_mut().remove(header::ACCESS_CONTROL_REQUEST_METHOD);
        assert_eq!(send(&wire, plain).await.code(), (403, Code::EncryptionRequired));
        let plain = Request::get("/").header(header::ORIGIN, origin).body(empty()).unwrap();
        assert_eq!(send(&wire, plain).await.code(), (403, Code::EncryptionRequired));
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_the_configured_origins_may_read_sealed_responses_and_errors() {
    for (cors, origin, expected, vary) in [
        (Cors::origins([PAGE.parse().unwrap()]), Some(PAGE), Some(PAGE), true),
        (Cors::origins([PAGE.parse().unwrap()]), Some("https://evil.example"), None, false),
        (Cors::origins([PAGE.parse().unwrap()]), None, None, false),
        (Cors::any_origin(), Some(PAGE), Some("*"), false),
    ] {
        let sides = Sides::new();
        let layer = UnsealLayer::new(sides.server.clone()).cors(cors);
        // A browser says the origin outside; the inner response has ideas of its own.
        let app = app(|_| async {
            let response = Response::builder().header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "https://inner");
            response.body(empty()).unwrap()
        });
        let wire = middle(serve(&layer, app), move |mut request, next| {
            if let Some(origin) = origin {
                request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
            }
            next.oneshot(request)
        });
        let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
        let request = hand.begin(&message("POST", "/", ""), Final::Yes);
        let answer = hand.post("/", full(request.bytes.clone())).await;
        assert_eq!(hand.open(&answer, &request.response).0, 200);
        let error = hand.post("/", full(request.bytes)).await;
        assert_eq!(error.refusal(&request.response), (409, Code::Replayed, true));
        for answer in [answer, error] {
            assert_eq!(allowed(&answer), expected);
            assert_eq!(answer.headers.contains_key(header::VARY), vary);
        }
        let response = sides.seal(wire).oneshot(get("http://example.com/")).await.unwrap();
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://inner");
    }
}

// ---- plaintext ----

/// Says who it believes the caller to be.
fn whoami() -> Wire {
    app(|request| async move {
        let caller = request.extensions().get::<Verified>().map(|caller| caller.node_id().to_string());
        Response::builder().extension(Kept).body(full(caller.unwrap_or_else(|| "nobody".into()))).unwrap()
    })
}

#[derive(Clone, Debug, PartialEq)]
struct Kept;

#[tokio::test(start_paused = true)]
async fn plaintext_is_served_only_where_the_config_says_so_and_then_as_nobodys() {
    let mut sides = Sides::new();
    assert_eq!(send(&sides.serve(whoami()), get("/")).await.code(), (403, Code::EncryptionRequired));
    assert_eq!(sides.server.telemetry().value(Metric::PlaintextRequests), 0);

    sides.server = sides.server.dangerously_accept_plaintext();
    let wire = sides.serve(whoami());
    for method in ["GET", "POST", "OPTIONS", "DELETE"] {
        let plain = Request::builder().method(method).uri("/a?b").body(full("x")).unwrap();
        let answer = send(&wire, plain).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"nobody"[..]));
        assert_eq!(answer.headers.len(), 0, "nothing is added to it");
    }
    assert_eq!(sides.server.telemetry().value(Metric::PlaintextRequests), 4);
    // Sealed requests are served beside them, and bad ones are no plaintext.
    let caller = ask(&sides.seal(wire.clone()), get("http://example.com/")).await.unwrap().1;
    assert_eq!(caller, sides.client.node_id().to_string());
    let answer = send(&wire, crate::hand::sealed("/", BINARY, full("garbage"))).await;
    assert_eq!(answer.code().1, Code::TooLarge);
    assert_eq!(sides.server.telemetry().value(Metric::PlaintextRequests), 4);
}

#[tokio::test(start_paused = true)]
async fn a_plaintext_request_cannot_smuggle_a_caller_in() {
    let mut sides = Sides::new();
    sides.server = sides.server.dangerously_accept_plaintext();
    // A genuine proof, of this very server's client.
    let proof = Arc::new(Mutex::new(None));
    let keep = proof.clone();
    let app = app(move |request| {
        let caller = request.extensions().get::<Verified>().copied();
        if let Some(caller) = caller {
            keep.lock().unwrap().get_or_insert(caller);
        }
        async move { Response::new(full(if caller.is_some() { "somebody" } else { "nobody" })) }
    });
    let wire = sides.serve(app.clone());
    assert_eq!(ask(&sides.seal(wire.clone()), get("http://example.com/")).await.unwrap().1, "somebody");
    let transparent = serve(&UnsealLayer::new(Config::plaintext()), app);
    for wire in [wire, transparent] {
        let mut plain = get("/");
        plain.extensions_mut().insert(proof.lock().unwrap().unwrap());
        assert_eq!(send(&wire, plain).await.body, "nobody");
    }
}

#[tokio::test]
async fn in_plaintext_mode_both_layers_are_transparent() {
    let (server, client) = (Config::plaintext(), Config::plaintext());
    assert!(server.is_plaintext() && !Sides::new().server.is_plaintext());
    let wire = serve(
        &UnsealLayer::new(server.clone()),
        app(|request| async move {
            let (parts, body) = request.into_parts();
            let said =
                format!("{} {} {}", parts.method, parts.uri, parts.headers["x-twice"].to_str().unwrap());
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["t"], "1", "trailers, which the seal would drop");
            assert_eq!(collected.to_bytes(), "content");
            Response::builder()
                .status(418)
                .header("x-said", said)
                .header("connection", "close")
                .body(full("tea"))
                .unwrap()
        }),
    );
    let http = seal(&SealLayer::new(client.clone()), wire);
    let trailers = [("t".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    let body = full("content").with_trailers(async { Some(Ok(trailers)) }).boxed();
    let request =
        Request::put("http://example.com/a?b").header("x-twice", "1").header("connection", "x-twice");
    let response = http.oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers()["x-said"], "PUT http://example.com/a?b 1");
    assert_eq!(response.headers()["connection"], "close");
    assert!(response.extensions().get::<Verified>().is_none());
    assert_eq!(content(response.into_body()).await.unwrap(), "tea");
    for config in [server, client] {
        assert_eq!(config.telemetry().value(Metric::PlaintextRequests), 1);
        assert_eq!(config.telemetry().value(Metric::RecordsSealed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sealed_side_and_a_plaintext_one_do_not_understand_each_other() {
    let sides = Sides::new();
    let open = serve(&UnsealLayer::new(Config::plaintext()), echo());
    let error = ask(&sides.seal(open), get("http://example.com/")).await.unwrap_err();
    assert!(matches!(error, Error::Unsealed { status: 200 }), "{error:?}");
    let http = seal(&SealLayer::new(Config::plaintext()), sides.serve(echo()));
    let (status, content) = ask(&http, get("http://example.com/")).await.unwrap();
    assert_eq!(status, 403);
    assert!(String::from_utf8(content.to_vec()).unwrap().contains("encryption_required"));
}

// ---- warnings ----

/// Keeps what is logged at WARN for this crate.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == telemetry::TARGET && *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn each_address_that_sends_plaintext_is_logged_once() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let mut sides = Sides::new();
    sides.server = sides.server.dangerously_accept_plaintext();
    #[derive(Clone)]
    struct Mine(std::net::IpAddr);
    let from = |address: &str| {
        let mut request = get("/");
        let address: SocketAddr = address.parse().unwrap();
        request.extensions_mut().insert(address);
        request.extensions_mut().insert(Mine("10.9.8.7".parse().unwrap()));
        request
    };
    let wire = sides.serve(whoami());
    for address in ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "10.0.0.1:1", "10.0.0.2:3"] {
        send(&wire, from(address)).await;
    }
    let logged: Vec<String> = std::mem::take(&mut *warnings.0.lock().unwrap());
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert!(logged[0].contains("10.0.0.1") && logged[1].contains("10.0.0.2"), "{logged:?}");
    assert_eq!(sides.server.telemetry().value(Metric::PlaintextRequests), 5);

    let layer = UnsealLayer::new(sides.server.clone()).peer_address(|e| e.get::<Mine>().map(|mine| mine.0));
    send(&serve(&layer, whoami()), from("10.0.0.3:1")).await;
    assert!(warnings.0.lock().unwrap()[0].contains("10.9.8.7"));
}

#[tokio::test(start_paused = true)]
async fn plaintext_mode_says_so_on_either_side() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let count = || std::mem::take(&mut *warnings.0.lock().unwrap()).len();
    let http = seal(&SealLayer::new(Config::plaintext()), whoami());
    for expected in [1, 0] {
        assert_eq!(ask(&http, get("http://example.com/")).await.unwrap().1, "nobody");
        assert_eq!(count(), expected);
    }
    let wire = serve(&UnsealLayer::new(Config::plaintext()), whoami());
    for expected in [1, 0] {
        send(&wire, get("/")).await;
        assert_eq!(count(), expected);
    }
}
