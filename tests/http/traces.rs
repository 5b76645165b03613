//! What is left in logs and counters: who and how much, and nothing of what was said.

use http::{Request, Response};
use tower_seal::{
    error::Code,
    telemetry::{Metric, SEAL_SPAN, UNSEAL_SPAN},
};

use crate::support::*;

#[test]
fn a_secret_would_be_seen_in_every_form() {
    let secret: Vec<u8> = (200..232).collect();
    assert_eq!(recorder::shown(&const_hex::encode(&secret)), None);
    recorder::secret("this one", &secret);
    let list = format!("{secret:?}");
    let texts = [
        const_hex::encode(&secret),
        const_hex::encode_upper(&secret),
        list,
        format!("{:#?}", &secret[8..24]),
    ];
    for text in texts {
        assert_eq!(recorder::shown(&format!("key={text}")), Some("this one"), "{text}");
    }
    // As `openssl base64` writes them, wherever they stand.
    for text in
        ["yMnKy8zNzs/Q0dLT1NXW19jZ2tvc3d7f4OHi4+Tl5uc=", "AMjJysvMzc7P0NHS09TV1tfY2drb3N3e3+Dh4uPk5ebn"]
    {
        assert_eq!(recorder::shown(text), Some("this one"), "{text}");
        let url = text.replace('+', "-").replace('/', "_");
        assert_eq!(recorder::shown(&url), Some("this one"), "{url}");
    }
    recorder::secret("that one", b"the words of a plaintext");
    assert_eq!(recorder::shown("body=the words of a plaintext"), Some("that one"));
    assert_eq!(recorder::shown("body=the words of another"), None);
}

#[tokio::test(start_paused = true)]
async fn spans_say_who_spoke_and_nothing_says_what() {
    recorder::keep();
    let sides = Sides::new();
    let app = app(|request| async move {
        let _ = content(request.into_body()).await;
        Response::builder().header("x-secret", "secret").body(full("secret")).unwrap()
    });
    let http = sides.seal(sides.serve(app));
    let request =
        Request::post("http://example.com/a?secret").header("x-secret", "secret").body(full("secret"));
    ask(&http, request.unwrap()).await.unwrap();
    // One that is refused, too.
    let request = Request::get("http://example.com/").header("secret", "x".repeat(70_000)).body(empty());
    assert_eq!(ask(&http, request.unwrap()).await.unwrap_err().code(), Some(Code::TooLarge));
    let log = recorder::kept();
    let says = |span: &str, who: tower_seal::NodeId| {
        let field = format!("peer={who}");
        log.lines().any(|line| line.contains(&format!("{span}{{")) && line.contains(&field))
    };
    assert!(says(SEAL_SPAN, sides.server.node_id()), "{log}");
    assert!(says(UNSEAL_SPAN, sides.client.node_id()), "{log}");
    assert!(log.contains("too_large"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn both_sides_count_the_same() {
    let sides = Sides::new();
    let app = app(|_| async { Response::new(boxed(paced(["one", "two", "three"]))) });
    let http = sides.seal(sides.serve(app));
    for _ in 0..2 {
        assert_eq!(ask(&http, get("http://example.com/")).await.unwrap().1, "onetwothree");
    }
    let counts = |config: &tower_seal::Config| {
        let metrics =
            [Metric::Handshakes, Metric::SessionsLive, Metric::RecordsSealed, Metric::RecordsOpened];
        metrics.map(|metric| config.telemetry().value(metric))
    };
    assert_eq!(counts(&sides.client), [1, 1, 2, 6]);
    assert_eq!(counts(&sides.server), [1, 1, 6, 2]);
    drop(http);
    assert_eq!(counts(&sides.client)[1], 0, "nobody holds its keys any more");
}
