//! When a request is sent again, and when never: PROTOCOL section 9, on a signed `unknown_session`.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use tower::ServiceExt as _;
use tower_seal::{
    Error,
    config::Limits,
    error::{Code, Result},
    http::SealLayer,
};

use crate::support::*;

/// A server that can be started anew, so that it has lost its sessions, and a client that has one.
pub(crate) struct Restarted {
    sides: Sides,
    pub(crate) layer: SealLayer,
    switch: Switch,
    pub(crate) wire: Wire,
    pub(crate) traffic: Traffic,
    pub(crate) served: Count,
}

impl Restarted {
    pub(crate) async fn new(layer: impl FnOnce(SealLayer) -> SealLayer) -> Self {
        let sides = Sides::new();
        let layer = layer(SealLayer::new(sides.client.clone()));
        let switch = Switch::new(echo());
        let (wire, traffic) = Traffic::through(switch.wire());
        let restarted = Restarted { sides, layer, switch, wire, traffic, served: Count::default() };
        restarted.restart();
        assert_eq!(restarted.ask(post("http://example.com/", "first")).await.unwrap(), "first");
        restarted
    }

    fn restart(&self) {
        self.switch.to(self.server());
    }

    fn server(&self) -> Wire {
        let served = self.served.clone();
        let app = app(move |request| {
            served.add();
            async { Response::new(full(content(request.into_body()).await.unwrap())) }
        });
        self.sides.serve(app)
    }

    async fn ask(&self, request: Request<Body>) -> Result<Bytes> {
        Ok(ask(&seal(&self.layer, self.wire.clone()), request).await?.1)
    }

    /// Hellos, sealed requests, and requests that the application got.
    fn counts(&self) -> (usize, usize, usize) {
        (self.traffic.hellos.value(), self.traffic.requests.value(), self.served.value())
    }
}

pub(crate) fn request(method: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri("http://example.com/").body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn safe_methods_are_sent_again_once_in_a_new_session() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        let world = Restarted::new(|layer| layer).await;
        world.restart();
        assert_eq!(world.ask(request(method, full("content"))).await.unwrap(), "content");
        assert_eq!(world.counts(), (2, 3, 2), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_methods_are_not_and_the_next_call_works() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "x-Own"] {
        let world = Restarted::new(|layer| layer).await;
        world.restart();
        let error = world.ask(request(method, full("content"))).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown), "{method}: {error:?}");
        assert_eq!(world.counts(), (1, 2, 1), "{method}");
        assert_eq!(world.ask(request(method, full("again"))).await.unwrap(), "again");
        assert_eq!(world.counts(), (2, 3, 2), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_application_says_what_else_may_be_served_twice() {
    let world = Restarted::new(|layer| {
        layer.repeat_if(|parts, content| {
            assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/"));
            parts.headers.contains_key("x-safe") && content.starts_with(b"tools/list")
        })
    })
    .await;
    let ask = |field: &'static str, content: &str| {
        let content = content.to_owned();
        world.ask(Request::post("http://example.com/").header(field, "1").body(full(content)).unwrap())
    };
    for (field, content, repeated) in
        [("x-safe", "tools/list", true), ("x-safe", "tools/call", false), ("x", "tools/list", false)]
    {
        world.restart();
        let answer = ask(field, content).await;
        assert_eq!(answer.is_ok(), repeated, "{field} {content} {answer:?}");
        assert_eq!(ask(field, content).await.unwrap(), content);
    }
}

#[tokio::test(start_paused = true)]
async fn content_at_hand_in_pieces_is_whole_and_content_to_come_is_not() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let contents = seen.clone();
    let world = Restarted::new(|layer| {
        layer.repeat_if(move |_, content| {
            contents.lock().unwrap().push(content.to_vec());
            true
        })
    })
    .await;
    let (tap, body) = channel();
    tap.send("one ");
    tap.send("two");
    drop(tap);
    world.restart();
    // A body that has ended, but has not said so: it can be sent as a stream only.
    let answer = world.ask(request("POST", body)).await;
    let (tap, body) = channel();
    tap.send("one ");
    world.restart();
    let counts = world.counts();
    let error = world.ask(request("POST", body)).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown), "{error:?}");
    assert_eq!(world.counts(), (counts.0, counts.1 + 1, counts.2), "the rest of it is gone");
    drop(tap);
    assert_eq!(answer.unwrap(), "one two");
    assert_eq!(*seen.lock().unwrap(), [b"one two"]);
    let (tap, body) = channel();
    drop(tap);
    assert_eq!(world.ask(request("GET", body)).await.unwrap(), "", "the next call works");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_again_ends_the_trying() {
    let world = Arc::new(Restarted::new(|layer| layer).await);
    // Each sealed request finds a server that has just been started.
    let restarting = world.clone();
    let wire = middle(world.wire.clone(), move |request, next| {
        if !is_hello(&request) {
            restarting.restart();
        }
        next.oneshot(request)
    });
    let http = seal(&world.layer, wire);
    let error = ask(&http, get("http://example.com/")).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown), "{error:?}");
    assert_eq!(world.counts(), (2, 3, 1));
    assert_eq!(world.ask(get("http://example.com/")).await.unwrap(), "", "the next call works");
}

#[tokio::test(start_paused = true)]
async fn calls_that_lose_their_session_together_share_one_new_handshake() {
    let world = Restarted::new(|layer| layer).await;
    let gate = Gate::new();
    let held = gate.clone();
    let wire = middle(world.wire.clone(), move |request, next| {
        let held = held.clone();
        async move {
            held.pass().await;
            next.oneshot(request).await
        }
    });
    let http = seal(&world.layer, wire);
    let calls = (0..5).map(|_| Box::pin(ask(&http, get("http://example.com/"))));
    let mut calls = futures_util::future::join_all(calls);
    begin(&mut calls).await;
    world.restart();
    gate.open();
    assert!(calls.await.iter().all(Result::is_ok));
    assert_eq!(world.counts(), (2, 1 + 5 + 5, 1 + 5));
}

// ---- forged errors ----

/// What the middle answers in place of the server, from what the client sent and from the honest error.
type Forgery = fn(honest: &str, other: &str) -> String;

fn swap(from: &str, to: &str, text: &str) -> String {
    assert!(text.contains(from), "{text}");
    text.replace(from, to)
}

/// The value of a field of an error.
fn field(name: &str, error: &str) -> String {
    serde_json::from_str::<serde_json::Value>(error).unwrap()[name].to_string()
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_signed_for_this_request_never_leads_to_another_sending() {
    const UNSIGNED: &str = r#"{"type":"error","code":"unknown_session","message":"gone"}"#;
    let forgeries: [Forgery; 8] = [
        |_, _| UNSIGNED.into(),
        // Signed for another request of the same session.
        |_, other| other.into(),
        // Signed for another, and passed off as about this one.
        |honest, other| swap(&field("stream", other), &field("stream", honest), other),
        |honest, other| swap(&field("signature", honest), &field("signature", other), honest),
        |honest, _| swap(&field("session", honest), &format!("\"{}\"", "0".repeat(32)), honest),
        |honest, _| swap(&field("node_id", honest), &format!("\"{}\"", "0".repeat(64)), honest),
        |honest, _| swap(&field("signature", honest), &format!("\"{}\"", "0".repeat(128)), honest),
        // Half a signature.
        |honest, _| swap("\"node_id\"", "\"node\"", honest),
    ];
    for (i, forge) in forgeries.into_iter().enumerate() {
        let world = Restarted::new(|layer| layer.repeat_if(|_, _| true)).await;
        // The middle knows a server of the same identity that has no such session, and asks it for its errors:
        // about the first request, which it answers with anything, and about the second.
        let oracle = world.server();
        let kept = Arc::new(Mutex::new(None::<String>));
        let wire = middle(world.wire.clone(), move |request, _| {
            let (oracle, kept) = (oracle.clone(), kept.clone());
            async move {
                let (mut parts, body) = oracle.oneshot(request).await?.into_parts();
                let honest = String::from_utf8(content(body).await?.to_vec()).unwrap();
                let other = kept.lock().unwrap().replace(honest.clone());
                let Some(other) = other else {
                    parts.headers.clear();
                    return Ok(Response::from_parts(parts, empty()));
                };
                Ok(Response::from_parts(parts, full(forge(&honest, &other))))
            }
        });
        let http = seal(&world.layer, wire);
        let error = ask(&http, get("http://example.com/")).await.unwrap_err();
        assert!(matches!(error, Error::Unsealed { status: 409 }), "{i}: {error:?}");
        let error = ask(&http, get("http://example.com/")).await.unwrap_err();
        assert!(
            matches!(error, Error::Refused { code: Code::UnknownSession, signed: false }),
            "{i}: {error:?}"
        );
        assert_eq!(world.counts(), (1, 1, 1), "{i}: neither of them got beyond the middle");
        assert_eq!(world.ask(get("http://example.com/")).await.unwrap(), "", "{i}: the next call works");
        assert_eq!(world.served.value(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_another_node_never_leads_to_another_sending() {
    let world = Restarted::new(|layer| layer.repeat_if(|_, _| true)).await;
    let stranger = Sides::new();
    world.switch.to(stranger.serve(echo()));
    let error = world.ask(get("http://example.com/")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::UnknownSession, signed: false }), "{error:?}");
    assert_eq!(world.traffic.values(), (1, 2));
    // The next call makes a new session, so that one that is lost unsigned is not tried until it expires.
    world.restart();
    assert_eq!(world.ask(get("http://example.com/")).await.unwrap(), "");
    assert_eq!(world.counts(), (2, 3, 2));
}

#[tokio::test(start_paused = true)]
async fn other_errors_never_lead_to_another_sending_signed_or_not() {
    for signed in [true, false] {
        let mut limits = Limits::default();
        limits.head = 100;
        limits.signed_errors_per_second = 1;
        let mut sides = Sides::new();
        sides.server = sides.server.limits(limits);
        let (wire, traffic) = Traffic::through(sides.serve(echo()));
        let wire = middle(wire, move |request, next| async move {
            let response = next.oneshot(request).await?;
            let (parts, body) = response.into_parts();
            let mut bytes = content(body).await?;
            if !signed && parts.headers["content-type"] == ERROR {
                bytes = String::from_utf8_lossy(&bytes).replace("\"signature\"", "\"sign\"").into();
            }
            Ok(Response::from_parts(parts, full(bytes)))
        });
        let http = seal(&SealLayer::new(sides.client.clone()).repeat_if(|_, _| true), wire);
        let request = Request::get("http://example.com/").header("x", "x".repeat(100)).body(empty()).unwrap();
        let error = ask(&http, request).await.unwrap_err();
        let Error::Refused { code: Code::TooLarge, signed: was } = error else { panic!("{error:?}") };
        assert_eq!(was, signed);
        assert_eq!(traffic.values(), (1, 1));
        ask(&http, get("http://example.com/")).await.unwrap();
        assert_eq!(traffic.values(), (1, 2));
    }
}
