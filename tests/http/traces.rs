//! What is left in logs and counters: who and how much, and nothing of what was said.

use std::cell::RefCell;

use http::{Request, Response};
use tower_seal::{
    error::Code,
    telemetry::{Metric, SEAL_SPAN, UNSEAL_SPAN},
};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::support::*;

thread_local! {
    /// What this test's thread logs, whatever its level; each span with its fields when it ends.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// For all threads: were there one for this thread only, what others find disabled would be so here too.
fn keep_log() {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(|| Log)
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .init();
}

#[tokio::test(start_paused = true)]
async fn spans_say_who_spoke_and_nothing_says_what() {
    keep_log();
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
    let log = String::from_utf8(LOG.take()).unwrap();
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
