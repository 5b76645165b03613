//! Connections that break on the way, and requests and answers that cannot be: who is told what.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use base64::Engine as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    connect_hand::{Connect, call},
    support::{Home, LONG, Upstream, client, get, problem, told},
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// Stands before another address, and breaks connections when it should: once the request has come, before the answer.
struct Middle {
    address: String,
    breaks: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Middle {
    async fn before(far: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let breaks = Arc::<AtomicBool>::default();
        let told = breaks.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far.clone(), told.clone()));
            }
        });
        Middle { address, breaks, task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn breaks(&self, breaks: bool) {
        self.breaks.store(breaks, Ordering::SeqCst);
    }
}

async fn carry(mut near: TcpStream, far: String, breaks: Arc<AtomicBool>) -> Option<()> {
    let mut far = TcpStream::connect(far).await.ok()?;
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            length = near.read(&mut request) => {
                let length = length.ok().filter(|length| *length > 0)?;
                if breaks.load(Ordering::SeqCst) {
                    return None;
                }
                far.write_all(&request[..length]).await.ok()?;
            }
            length = far.read(&mut answer) => {
                let length = length.ok().filter(|length| *length > 0)?;
                near.write_all(&answer[..length]).await.ok()?;
            }
        }
    }
}

async fn post(url: String, body: &'static str) -> (u16, String, String) {
    let (status, told) = told(client().post(url).body(body)).await;
    let text = |name: &str| told["error"][name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

#[tokio::test]
async fn what_may_have_been_served_is_told_from_what_cannot_have_been() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let middle = Middle::before(serve.address.clone()).await;
    let proxy = home.proxy(&middle.url(), &["--peer", &serve.node]).await;

    // A hello that breaks has no request in it.
    middle.breaks(true);
    let (status, code, message) = post(proxy.url(), CALL).await;
    assert_eq!((status, &*code), (502, "unreachable"), "{message}");
    middle.breaks(false);
    assert_eq!(post(proxy.url(), CALL).await.0, 200);

    middle.breaks(true);
    let (status, code, message) = post(proxy.url(), CALL).await;
    assert_eq!((status, &*code), (502, "outcome_unknown"), "{message}");
    assert!(message.contains("may have been served"), "{message}");
    assert!(message.ends_with("Look whether it was done before you repeat it."), "{message}");
    let message = problem(&proxy.url(), "connection_lost").await;
    assert!(message.ends_with("The connection broke: try again."), "{message}");
    proxy.logs("connection closed before message completed").await;
    middle.breaks(false);
    assert_eq!(post(proxy.url(), CALL).await.0, 200, "the next works");

    // Nobody can have served what nobody took.
    middle.breaks(true);
    let _ = post(proxy.url(), LIST).await;
    middle.task.abort();
    let _ = middle.task.await;
    let (status, code, message) = post(proxy.url(), CALL).await;
    assert_eq!((status, &*code), (502, "unreachable"), "{message}");
    assert!(message.contains("refused"), "{message}");
}

#[tokio::test]
async fn and_connect_tells_it_too() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let middle = Middle::before(serve.address.clone()).await;
    let mut host = Connect::start(&home, &["--peer", &serve.node, &middle.url()]);
    middle.breaks(true);
    host.say(call(1, "tools/call")).await;
    let message = host.fault(1, "unreachable").await;
    assert!(message.ends_with("that the far side runs."), "a hello has no request in it: {message}");
    middle.breaks(false);
    host.say(call(1, "tools/call")).await;
    host.fault(1, "unexpected_answer").await;
    middle.breaks(true);
    host.say(call(1, "tools/call")).await;
    let message = host.fault(1, "outcome_unknown").await;
    assert!(message.ends_with("Look whether it was done before you repeat it."), "{message}");
    host.say(call(1, "tools/list")).await;
    host.fault(1, "connection_lost").await;
    assert_eq!(upstream.hits(), 1);
    host.end().await;

    // Without the seal too, also of a first request.
    let middle = Middle::before(upstream.address.to_string()).await;
    middle.breaks(true);
    let mut host = Connect::start(&home, &["--plaintext", &middle.url()]);
    for (method, code) in [("tools/call", "outcome_unknown"), ("tools/list", "connection_lost")] {
        host.say(call(1, method)).await;
        host.fault(1, code).await;
    }
    host.end().await;
}

#[tokio::test]
async fn without_the_seal_too() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let middle = Middle::before(upstream.address.to_string()).await;
    middle.breaks(true);
    let proxy = home.proxy(&middle.url(), &["--plaintext"]).await;
    assert_eq!(post(proxy.url(), CALL).await.1, "outcome_unknown");
    assert_eq!(get(&proxy.url()).await.1["error"]["code"], "connection_lost");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_may_have_done_it() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let middle = Middle::before(upstream.address.to_string()).await;
    middle.breaks(true);
    let (url, key) = (middle.url(), home.path("serve.pem"));
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--upstream", &url, "--allow-anyone", "--identity", &key];
    let serve = crate::support::Daemon::start(home.command(&arguments), "serve").await;
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    let (status, code, message) = post(proxy.url(), CALL).await;
    assert_eq!((status, &*code), (502, "upstream_lost"), "{message}");
    assert!(message.ends_with("look whether it was done before you repeat it."), "{message}");
    assert!(!message.contains(&middle.address), "{message}");
    let logged = serve.logs("connection closed before message completed").await;
    assert!(logged.contains(&url), "{logged}");
}

/// What `proxy` says to the first line of a request, and its status.
async fn raw(address: &str, line: &str) -> (String, serde_json::Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_request_that_cannot_be_sealed_is_the_fault_of_who_sent_it() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let proxy = home.proxy(&serve.url(), &["--peer", &serve.node]).await;
    for line in ["GET //a", "OPTIONS *", "CONNECT example.com:443", "CONNECT localhost:443"] {
        let (status, told) = raw(&proxy.address, line).await;
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{line}: {told}");
        assert_eq!(told["error"]["code"], "malformed", "{line}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("The request cannot be sent on: "), "{message}");
        assert!(!message.contains(&serve.address), "nothing is wrong there: {message}");
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_the_fault_of_who_asked() {
    let home = Home::new();
    let long =
        || async { ([("content-type", "application/vnd.tower-seal.error+json")], "x".repeat(1 << 17)) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(long)).await });
    let proxy = home.proxy(&url, &["--first-use"]).await;
    let message = problem(&proxy.url(), "too_large").await;
    assert!(
        message.ends_with("The answer is larger than this side takes: ask for less at once."),
        "{message}"
    );
}

/// TLS before `far`; the certificate of its own authority, in PEM.
pub(crate) async fn terminated(far: String) -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, far) = (acceptor.clone(), far.clone());
            tokio::spawn(async move {
                let mut near = acceptor.accept(tcp).await.ok()?;
                let mut far = TcpStream::connect(far).await.ok()?;
                copy_bidirectional(&mut near, &mut far).await.ok()
            });
        }
    });
    let base64 = base64::engine::general_purpose::STANDARD.encode(certified.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    (format!("https://localhost:{port}"), pem)
}

#[tokio::test]
async fn a_certificate_of_an_authority_of_ones_own_is_told_with_ca() {
    let (home, upstream) = (Home::new(), Upstream::start().await);
    let serve = home.serve(&upstream, &["--allow-anyone"]).await;
    let (url, pem) = terminated(serve.address.clone()).await;
    let proxy = home.proxy(&url, &["--peer", &serve.node]).await;
    let message = problem(&proxy.url(), "certificate").await;
    for words in [&*url, "UnknownIssuer", "no certificate that this side trusts", "give that with --ca"] {
        assert!(message.contains(words), "{words} in\n{message}");
    }
    let ca = home.written("ca.pem", &pem);
    let proxy = home.proxy(&url, &["--peer", &serve.node, "--ca", &ca]).await;
    assert_eq!(get(&proxy.url()).await.0, 200);

    // The name has to be right, too.
    let proxy =
        home.proxy(&url.replace("localhost", "127.0.0.1"), &["--peer", &serve.node, "--ca", &ca]).await;
    let message = problem(&proxy.url(), "certificate").await;
    assert!(message.contains("check the URL"), "{message}");
}
