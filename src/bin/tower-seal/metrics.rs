//! `--metrics ADDR`: the counters as Prometheus text, and whether the program lives, on an address of its
//! own.

use std::{fmt::Write as _, net::SocketAddr};

use axum::{Router, routing::get};
use tower_seal::{
    Config,
    error::Code,
    telemetry::{BATCH_BOUNDS, BATCHES, Metric, REJECTIONS, Telemetry},
};

use crate::{connections::Connections, daemon, failure::Failure};

/// Serves `/metrics` and `/healthz` until the program ends.
pub(crate) async fn serve(address: Option<SocketAddr>, config: Config) -> Result<(), Failure> {
    serve_with(address, config, String::new).await
}

/// With what `more` has to add.
pub(crate) async fn serve_with(
    address: Option<SocketAddr>,
    config: Config,
    more: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Result<(), Failure> {
    let Some(address) = address else { return Ok(()) };
    let (listener, address) = daemon::listen("--metrics", address).await?;
    tracing::info!("metrics on http://{address}/metrics");
    let app = Router::new()
        .route("/metrics", get(move || std::future::ready(text(&config) + &more())))
        .route("/healthz", get(|| std::future::ready("ok\n")));
    tokio::spawn(async move { Connections::default().serve(&listener, app).await });
    Ok(())
}

/// The text format of Prometheus, version 0.0.4.
fn text(config: &Config) -> String {
    let telemetry = config.telemetry();
    let mut text = String::new();
    for metric in Metric::ALL {
        let kind = if matches!(metric, Metric::SessionsLive | Metric::ConnectionsLive) {
            "gauge"
        } else {
            "counter"
        };
        let name = metric.name();
        let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {}", telemetry.value(*metric));
    }
    let _ = writeln!(text, "# TYPE {REJECTIONS} counter");
    for code in Code::ALL {
        let _ = writeln!(text, "{REJECTIONS}{{code=\"{code}\"}} {}", telemetry.rejections(*code));
    }
    batches(&mut text, telemetry);
    text
}

fn batches(text: &mut String, telemetry: &Telemetry) {
    let _ = writeln!(text, "# TYPE {BATCHES} histogram");
    let mut signatures = 0;
    for (bound, batches) in BATCH_BOUNDS.iter().zip(telemetry.batches()) {
        signatures += batches;
        let _ = writeln!(text, "{BATCHES}_bucket{{le=\"{bound}\"}} {signatures}");
    }
    let records = telemetry.records_signed();
    let _ = writeln!(
        text,
        "{BATCHES}_bucket{{le=\"+Inf\"}} {signatures}\n{BATCHES}_sum {records}\n{BATCHES}_count {signatures}"
    );
}
