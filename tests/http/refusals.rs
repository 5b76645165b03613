//! Each code of section 9 that HTTP has: its status, its content type, and whether it is signed; and how many
//! of them there may be in a second.

use http::{Request, Response, header};
use tower_seal::{
    Config, Error, Identity, SuiteId,
    config::{Encoding, Limits},
    error::Code,
    http::UnsealLayer,
    protocol::{Awaiting, Destination, Final, Initiator},
    trust::{AnyIdentity, Pinned},
};

use crate::{
    hand::{Answer, Hand, message, now, rng, sealed, send},
    support::*,
};

/// Name and status, as the table of section 9 has them, and whether the error is about a request whose first
/// record could be parsed.
const CODES: [(&str, u16, bool); 17] = [
    ("malformed", 400, false),
    ("unsupported_version", 400, false),
    ("unsupported_suite", 400, false),
    ("path_mismatch", 400, true),
    ("timeout", 400, false),
    ("invalid_signature", 403, true),
    ("decryption_failed", 403, true),
    ("encryption_required", 403, false),
    ("untrusted_peer", 403, false),
    ("wrong_audience", 403, false),
    ("unknown_session", 409, true),
    ("expired", 409, true),
    ("replayed", 409, true),
    ("out_of_order", 409, true),
    ("truncated", 409, true),
    ("too_large", 413, false),
    ("busy", 503, false),
];

fn limited(config: Config, change: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = Limits::default();
    change(&mut limits);
    config.limits(limits)
}

fn hello(config: &Config) -> (Body, Initiator) {
    let (hello, initiator) = Initiator::start(config, Destination::default(), &mut rng()).unwrap();
    (full(hello), initiator)
}

async fn greet(wire: &Wire, body: Body) -> Answer {
    send(wire, sealed("/", HANDSHAKE, body)).await
}

/// The answer to a hello too many. The rate is counted by a real clock, so that it may take a few.
async fn busy(wire: &Wire, config: &Config) -> Answer {
    for _ in 0..100 {
        let answer = greet(wire, hello(config).0).await;
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("a hundred hellos were answered");
}

/// Gets the server to answer with `code`.
async fn provoke(code: Code, sides: &Sides) -> (Answer, Option<Awaiting>) {
    let wire = sides.serve(app(|request| async move {
        // It answers whatever becomes of the content.
        let _ = content(request.into_body()).await;
        Response::new(empty())
    }));
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let mut request = hand.begin(&message("POST", "/", "one"), Final::No);
    let second = request.rest.as_mut().unwrap().seal(&b"two"[..], Final::No, now()).unwrap();
    let third = request.rest.as_mut().unwrap().seal(&b"three"[..], Final::Yes, now()).unwrap();
    let first = request.bytes.clone();
    let unary = hand.begin(&message("POST", "/", ""), Final::Yes);
    let change = |record: &[u8], at: usize| {
        let mut bytes = record.to_vec();
        bytes[at] ^= 1;
        full(bytes)
    };
    let stranger = Config::new(Identity::generate(), Pinned::new([sides.server.node_id()]));
    let answer = match code {
        Code::Malformed => greet(&wire, full("{}")).await,
        Code::UnsupportedVersion => {
            let bytes = content(hello(&sides.client).0).await.unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            greet(&wire, full(text.replace("\"version\":1", "\"version\":2"))).await
        }
        Code::UnsupportedSuite => {
            let server = sides.server.clone().suites(&[SuiteId::Aes256Gcm]).unwrap();
            let client = sides.client.clone().suites(&[SuiteId::ChaCha20Poly1305]).unwrap();
            greet(&serve(&UnsealLayer::new(server), echo()), hello(&client).0).await
        }
        Code::PathMismatch => hand.post("/elsewhere", full(unary.bytes)).await,
        Code::Timeout => {
            let (_tap, body) = channel();
            greet(&wire, body).await
        }
        Code::InvalidSignature => hand.post("/", change(&unary.bytes, 4 + 62)).await,
        Code::DecryptionFailed => {
            // In the second record, so that the first one is what the error is about.
            let forged = content(change(&second, second.len() - 1)).await.unwrap();
            return (hand.post("/", full([first, forged].concat())).await, Some(request.response));
        }
        Code::EncryptionRequired => send(&wire, post("http://example.com/", "plain")).await,
        Code::UntrustedPeer => greet(&wire, hello(&stranger).0).await,
        Code::WrongAudience => {
            let other = Pinned::new([Identity::generate().node_id()]);
            let elsewhere = Config::new(Identity::generate(), other);
            sides.clients.insert(elsewhere.node_id());
            greet(&wire, hello(&elsewhere).0).await
        }
        Code::UnknownSession => {
            let restarted = Hand { wire: sides.serve(echo()), ..hand };
            restarted.post("/", full(unary.bytes)).await
        }
        Code::Expired => {
            hand.ask("/", "so that the session is confirmed").await;
            tokio::time::advance(61 * SECOND).await;
            hand.post("/", full(unary.bytes)).await
        }
        Code::Replayed => {
            hand.post("/", full(unary.bytes.clone())).await;
            hand.post("/", full(unary.bytes)).await
        }
        Code::OutOfOrder => {
            return (hand.post("/", full([first, third].concat())).await, Some(request.response));
        }
        Code::Truncated => return (hand.post("/", full(first)).await, Some(request.response)),
        Code::TooLarge => greet(&wire, full(vec![b' '; (16 << 10) + 1])).await,
        Code::Busy => {
            let server = limited(sides.server.clone(), |limits| limits.handshakes_per_second = 1);
            let wire = serve(&UnsealLayer::new(server), echo());
            busy(&wire, &sides.client).await
        }
        code => panic!("what provokes {code}?"),
    };
    let signed = CODES.iter().any(|(name, _, signed)| *name == code.as_str() && *signed);
    (answer, signed.then_some(unary.response))
}

#[tokio::test(start_paused = true)]
async fn every_code_has_its_status_its_type_and_its_signature() {
    assert_eq!(
        CODES.map(|(name, ..)| name).to_vec(),
        Code::ALL.iter().map(|c| c.as_str()).collect::<Vec<_>>()
    );
    for (name, status, signed) in CODES {
        let sides = Sides::new();
        let code = name.parse().unwrap();
        let (answer, awaiting) = provoke(code, &sides).await;
        let refusal = match awaiting {
            Some(awaiting) => answer.refusal(&awaiting),
            None => (answer.code().0, answer.code().1, false),
        };
        assert_eq!(refusal, (status, code, signed));
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store, no-transform", "{name}");
        assert_eq!(answer.headers["x-accel-buffering"], "no", "{name}");
        assert_eq!(sides.server.telemetry().rejections(code), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_an_error_repeats_nothing_of_the_peer() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    for body in [r#"{"type":"key_exchange","version":1,"evil":"#, "<evil>", r#"{"type":"evil"}"#] {
        let answer = greet(&wire, full(body)).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("evil"), "{:?}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sealed_content_type_is_for_posts() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let request = hand.begin(&message("POST", "/", "hi"), Final::Yes);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post"] {
        for kind in [BINARY, JSON, HANDSHAKE] {
            let outer = Request::builder().method(method).uri("/").header(header::CONTENT_TYPE, kind);
            let answer = send(&wire, outer.body(full(request.bytes.clone())).unwrap()).await;
            assert_eq!(answer.code(), (400, Code::Malformed), "{method} {kind}");
        }
    }
    let answer = hand.post("/", full(request.bytes)).await;
    assert_eq!(hand.open(&answer, &request.response).1, b"hi");
}

#[tokio::test(start_paused = true)]
async fn other_content_types_are_plaintext_which_is_not_taken() {
    let sides = Sides::new();
    let called = Count::default();
    let counted = called.clone();
    let wire = sides.serve(app(move |_| {
        counted.add();
        async { Response::new(empty()) }
    }));
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let request = hand.begin(&message("POST", "/", "hi"), Final::Yes);
    for kind in
        ["text/plain", "application/json", "application/vnd.tower-seal+cbor", ERROR, "application/*", ""]
    {
        let answer = send(&wire, sealed("/", kind, full(request.bytes.clone()))).await;
        assert_eq!(answer.code(), (403, Code::EncryptionRequired), "{kind}");
    }
    for method in ["GET", "POST", "OPTIONS", "DELETE"] {
        let plain = Request::builder().method(method).uri("/").body(full(request.bytes.clone())).unwrap();
        assert_eq!(send(&wire, plain).await.code(), (403, Code::EncryptionRequired), "{method}");
    }
    assert_eq!(called.value(), 0);
    // A media type has no case, and may have parameters.
    let kind = "Application/VND.tower-seal; v=1";
    let answer = send(&wire, sealed("/", kind, full(request.bytes))).await;
    assert_eq!(hand.open(&answer, &request.response).0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_hello_is_answered_once() {
    let sides = Sides::new();
    let wire = sides.serve(echo());
    let (body, initiator) = hello(&sides.client);
    let bytes = content(body).await.unwrap();
    let answer = greet(&wire, full(bytes.clone())).await;
    assert_eq!((answer.status, answer.content_type()), (200, HANDSHAKE));
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store, no-transform");
    for _ in 0..2 {
        assert_eq!(greet(&wire, full(bytes.clone())).await.code(), (409, Code::Replayed));
    }
    let session = initiator.finish(&answer.body, now()).unwrap().into();
    let hand = Hand { session, encoding: Encoding::Binary, wire };
    assert_eq!(hand.ask("/", "hi").await.1, b"hi");
}

#[tokio::test(start_paused = true)]
async fn a_bad_signature_of_a_hello_does_not_tell_who_is_on_the_list() {
    let sides = Sides::new();
    let forged = async |config: &Config| {
        let mut bytes = content(hello(config).0).await.unwrap().to_vec();
        let at = bytes.len() - 10;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        full(bytes)
    };
    let answer = greet(&sides.serve(echo()), forged(&sides.client).await).await;
    assert_eq!(answer.code(), (403, Code::UntrustedPeer));
    let open = Config::new(Identity::generate(), AnyIdentity);
    let client = Config::new(Identity::generate(), AnyIdentity);
    let answer = greet(&serve(&UnsealLayer::new(open), echo()), forged(&client).await).await;
    assert_eq!(answer.code(), (403, Code::InvalidSignature));
}

// ---- rates ----

#[tokio::test(start_paused = true)]
async fn beyond_the_rate_errors_go_unsigned_and_honest_requests_as_ever() {
    let mut sides = Sides::new();
    sides.server = limited(sides.server, |limits| limits.signed_errors_per_second = 2);
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let request = hand.begin(&message("POST", "/", "hi"), Final::Yes);
    hand.post("/", full(request.bytes.clone())).await;
    let mut unsigned = 0;
    // The rate is counted by a real clock, so there may be a few signed ones in between.
    for i in 0..100 {
        let answer = hand.post("/", full(request.bytes.clone())).await;
        let (status, code, signed) = answer.refusal(&request.response);
        assert_eq!((status, code), (409, Code::Replayed));
        assert!(signed || i >= 2, "the first two are signed");
        if !signed {
            assert_eq!(answer.code(), (409, Code::Replayed), "nothing of a signature is in it");
            unsigned += 1;
        }
        assert_eq!(hand.ask("/", "honest").await.1, b"honest");
    }
    assert!(unsigned > 0);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_rate_hellos_are_turned_away_and_sessions_go_on() {
    let mut sides = Sides::new();
    sides.server = limited(sides.server, |limits| limits.handshakes_per_second = 1);
    let wire = sides.serve(echo());
    let hand = Hand::new(&sides.client, Encoding::Binary, &wire).await;
    let before = hand.ask("/", "before").await;
    assert_eq!(before.1, b"before");
    assert_eq!(busy(&wire, &sides.client).await.code(), (503, Code::Busy));
    assert_eq!(hand.ask("/", "after").await.1, b"after");
    let http = sides.seal(wire);
    let mut error = None;
    for origin in 0..100 {
        // Another one each time, so that each call begins with a hello.
        let answer = ask(&http, get(&format!("http://{origin}.example/"))).await;
        error = error.or(answer.err());
    }
    assert!(matches!(error, Some(Error::Refused { code: Code::Busy, signed: false })), "{error:?}");
}
