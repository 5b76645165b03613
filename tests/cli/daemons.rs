//! Signals, metrics and logs.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};

use crate::support::{Daemon, Home, LONG, Upstream, client, get};

async fn pair(home: &Home, upstream: &Upstream, arguments: &[&str]) -> (Daemon, Daemon) {
    let serve = home.serve(upstream, &[&["--allow-anyone"], arguments].concat()).await;
    let proxy = home.proxy(&serve.url(), &[&["--peer", &serve.node], arguments].concat()).await;
    (serve, proxy)
}

async fn chunk(response: &mut reqwest::Response) -> Option<String> {
    let chunk = timeout(LONG, response.chunk()).await.expect("in time").unwrap()?;
    Some(String::from_utf8(chunk.to_vec()).unwrap())
}

#[tokio::test]
async fn sigterm_and_ctrl_c_end_an_idle_daemon_with_status_0() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    for signal in ["TERM", "INT"] {
        let (serve, proxy) = pair(&home, &upstream, &[]).await;
        assert_eq!(get(&proxy.url()).await.0, 200);
        for daemon in [proxy, serve] {
            daemon.signal(signal);
            let (code, err) = daemon.ended().await;
            assert_eq!((code, &*err), (Some(0), ""), "{signal}");
        }
    }
}

#[tokio::test]
async fn sigterm_takes_no_new_connections_and_ends_with_the_last_stream() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    // The one that gets the signal, and those that do not.
    for which in 0..2 {
        let (serve, proxy) = pair(&home, &upstream, &[]).await;
        let mut stream = client().get(proxy.url() + "/stream").send().await.unwrap();
        assert_eq!(chunk(&mut stream).await.unwrap(), "data: one\n\n");
        let (mut told, _other) = if which == 0 { (serve, proxy) } else { (proxy, serve) };
        told.signal("TERM");
        let began = std::time::Instant::now();
        timeout(LONG, async { while TcpStream::connect(&told.address).await.is_ok() {} }).await.unwrap();
        assert!(told.is_running(), "the stream runs on");
        upstream.finish();
        assert_eq!(chunk(&mut stream).await.unwrap(), "data: two\n\n");
        assert_eq!(chunk(&mut stream).await, None, "and ends as it should");
        assert_eq!(told.ended().await, (Some(0), String::new()));
        assert!(began.elapsed() < Duration::from_secs(9), "at once, not after the 10 s for streams");
    }
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_after_10_s_or_at_the_second_signal() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    for again in [true, false] {
        let (serve, proxy) = pair(&home, &upstream, &[]).await;
        let mut stream = client().get(proxy.url() + "/stream").send().await.unwrap();
        assert_eq!(chunk(&mut stream).await.unwrap(), "data: one\n\n");
        serve.signal("TERM");
        let began = std::time::Instant::now();
        timeout(LONG, async { while TcpStream::connect(&serve.address).await.is_ok() {} }).await.unwrap();
        if again {
            serve.signal("INT");
        }
        assert_eq!(serve.ended().await.0, Some(0));
        assert_eq!(began.elapsed() < Duration::from_secs(9), again, "{:?}", began.elapsed());
        let end = timeout(LONG, stream.chunk()).await.expect("in time");
        assert!(end.is_err(), "an end that nobody sealed is no end: {end:?}");
    }
}

#[tokio::test]
async fn metrics_count_on_an_address_of_their_own() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let arguments = ["--metrics", "127.0.0.1:0", "--log", "json"];
    let start = |mut command: tokio::process::Command, what| {
        command.env("RUST_LOG", "info");
        Daemon::start(command, what)
    };
    let (url, key) = (upstream.url(), home.path("serve.pem"));
    let own = ["serve", "--listen", "127.0.0.1:0", "--upstream", &url, "--allow-anyone", "--identity", &key];
    let serve = start(home.command(&[&own[..], &arguments].concat()), "serve").await;
    let (url, node) = (serve.url(), serve.node.clone());
    let own = ["proxy", "--listen", "127.0.0.1:0", "--peer", &node, &url];
    let proxy = start(home.command(&[&own[..], &arguments].concat()), "proxy").await;

    for daemon in [&serve, &proxy] {
        let metrics = metrics_url(daemon).await;
        let health = client().get(metrics.replace("/metrics", "/healthz")).send().await.unwrap();
        assert_eq!((health.status().as_u16(), &*health.text().await.unwrap()), (200, "ok\n"));
        let before = text(&metrics).await;
        for name in
            ["tower_seal_handshakes_total", "tower_seal_records_sealed_total", "tower_seal_sessions_live"]
        {
            assert_eq!(value(&before, name), 0, "{before}");
        }
    }
    for _ in 0..3 {
        assert_eq!(get(&proxy.url()).await.0, 200);
    }
    assert_eq!(get(&serve.url()).await.0, 403);
    for daemon in [&serve, &proxy] {
        let after = text(&metrics_url(daemon).await).await;
        assert_eq!(value(&after, "tower_seal_handshakes_total"), 1, "{after}");
        assert_eq!(value(&after, "tower_seal_sessions_live"), 1, "{after}");
        for name in ["tower_seal_records_sealed_total", "tower_seal_records_opened_total"] {
            assert!(value(&after, name) >= 3, "{after}");
        }
        assert!(after.contains("# TYPE tower_seal_sessions_live gauge\n"), "{after}");
        assert!(after.contains("# TYPE tower_seal_records_sealed_total counter\n"), "{after}");
    }
    let refused = "tower_seal_rejections_total{code=\"encryption_required\"}";
    assert_eq!(value(&text(&metrics_url(&serve).await).await, refused), 1);
    // They are nowhere else.
    let (status, told) = get(&(proxy.url() + "/metrics")).await;
    assert_eq!((status, told["uri"].as_str()), (200, Some("/metrics")), "the upstream's own");
}

/// As the log says, each line of which is JSON.
async fn metrics_url(daemon: &Daemon) -> String {
    let lines = daemon.logs("metrics on ").await;
    let mut urls = lines.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        Some(line["fields"]["message"].as_str()?.strip_prefix("metrics on ")?.to_owned())
    });
    urls.next_back().unwrap_or_else(|| panic!("{lines}"))
}

async fn text(url: &str) -> String {
    let response = client().get(url).send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain"), "{kind}");
    response.text().await.unwrap()
}

fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("{name} in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn the_json_log_is_one_object_a_line_also_of_failures() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let (serve, proxy) = pair(&home, &upstream, &["--log", "json"]).await;
    upstream.stop().await;
    get(&proxy.url()).await;
    serve.kill().await;
    assert_eq!(get(&proxy.url()).await.0, 502);
    proxy.signal("TERM");
    let (code, lines) = proxy.ended().await;
    assert_eq!(code, Some(0));
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let failed = lines.iter().find(|line| line["fields"]["message"] == "a request failed").unwrap();
    assert_eq!(failed["level"], "WARN");
    for field in ["timestamp", "target"] {
        assert!(failed[field].is_string(), "{failed}");
    }
    assert!(failed["fields"]["url"].is_string(), "{failed}");
    let error = failed["fields"]["error"].as_str().unwrap();
    assert!(
        error.starts_with("the transport failed: ") && error.contains("refused"),
        "the whole of it: {error}"
    );
}
