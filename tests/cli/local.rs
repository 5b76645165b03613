//! Whom `proxy` lends its user's key to: the programs of this machine, and no web page.

use crate::support::{Daemon, Home, Upstream, client, told};

async fn pair(home: &Home, upstream: &Upstream, arguments: &[&str]) -> (Daemon, Daemon) {
    let serve = home.serve(upstream, &["--allow-anyone"]).await;
    let proxy = home.proxy(&serve.url(), &[&["--peer", &serve.node], arguments].concat()).await;
    (serve, proxy)
}

/// The status, and the code and the sentence of an error.
async fn asked(proxy: &Daemon, method: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let request = client().request(method, proxy.url() + "/mcp");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let (status, told) = told(request).await;
    let text = |name: &str| told["error"][name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

#[tokio::test]
async fn a_name_that_some_page_gave_this_machine_is_refused() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let (serve, proxy) = pair(&home, &upstream, &[]).await;
    let port = proxy.address.rsplit_once(':').unwrap().1;
    for method in ["GET", "POST", "OPTIONS"] {
        let (status, code, message) = asked(&proxy, method, &[("host", "rebound.example:80")]).await;
        assert_eq!((status, &*code), (403, "forbidden_host"));
        assert!(message.contains("for rebound.example, and"), "{message}");
        assert!(message.ends_with("start it with --allow-host rebound.example."), "{message}");
    }
    assert_eq!(upstream.hits(), 0);
    for host in [&*format!("localhost:{port}"), "127.0.0.1", "[::1]:1"] {
        assert_eq!(asked(&proxy, "GET", &[("host", host)]).await.0, 200, "{host}");
    }
    proxy.logs("a request was refused: The request is for rebound.example").await;

    // As it says.
    let key = home.path("again.pem");
    let again = ["--peer", &serve.node, "--identity", &key, "--allow-host", "rebound.example"];
    let proxy = home.proxy(&serve.url(), &again).await;
    assert_eq!(asked(&proxy, "GET", &[("host", "Rebound.example:81")]).await.0, 200);
    assert_eq!(asked(&proxy, "GET", &[("host", "other.example")]).await.1, "forbidden_host");
}

#[tokio::test]
async fn a_page_of_elsewhere_is_refused_also_when_it_only_wants_to_know() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let arguments = ["--allow-origin", "https://good.example", "--allow-origin", "vscode-webview://one"];
    let (_serve, proxy) = pair(&home, &upstream, &arguments).await;
    for method in ["GET", "POST", "OPTIONS"] {
        for origin in ["https://evil.example", "null", "http://good.example"] {
            let fields = [("origin", origin), ("access-control-request-method", "POST")];
            let (status, code, message) = asked(&proxy, method, &fields).await;
            assert_eq!((status, &*code), (403, "forbidden_origin"), "{method} {origin}");
            let named = if origin == "null" { "ORIGIN" } else { origin };
            assert!(message.ends_with(&format!("start the proxy with --allow-origin {named}.")), "{message}");
        }
        let (status, code, _) = asked(&proxy, method, &[("sec-fetch-site", "cross-site")]).await;
        assert_eq!((status, &*code), (403, "forbidden_origin"), "a picture, say");
    }
    assert_eq!(upstream.hits(), 0);
    for origin in ["http://localhost:3000", "https://good.example", "vscode-webview://one"] {
        assert_eq!(asked(&proxy, "POST", &[("origin", origin)]).await.0, 200, "{origin}");
    }
}

#[tokio::test]
async fn origins_and_hosts_that_are_none_are_refused_at_once() {
    let home = Home::new();
    let proxy = ["proxy", "--first-use", "--listen", "127.0.0.1:0", "http://127.0.0.1:1"];
    for origin in ["null", "*", "good.example", "https://good.example/page"] {
        let arguments = [&proxy[..], &["--allow-origin", origin]].concat();
        home.run(&arguments).await.refused(2, &["'--allow-origin <ORIGIN>'", "such as https://example.com"]);
    }
    let arguments = [&proxy[..], &["--allow-host", "good.example:80"]].concat();
    home.run(&arguments).await.refused(2, &["'--allow-host <NAME>'", "a host without a port"]);
}
