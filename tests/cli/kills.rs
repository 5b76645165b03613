//! `serve` is killed under load, again and again, at moments of chance: nobody gets a wrong answer, nothing harmful is
//! done twice, every call is told how it ended, and who comes when it is back is served at once.
//!
//! Eight times in the suite; `TOWER_SEAL_KILL_SECONDS=60` goes on for so long.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::Path, http::Method, routing::any};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tower::{Layer as _, ServiceExt as _};
use tower_seal::{
    Config, Error, Identity,
    http::{Reqwest, Seal, SealLayer},
    trust::Pinned,
};

use crate::support::{Daemon, Home, LONG, client};

const KILLS: usize = 8;
const SECONDS: &str = "TOWER_SEAL_KILL_SECONDS";

/// Answers are longer than what a socket takes at once, so that a kill may come in the midst of one.
const ANSWER: usize = 40_000;

/// How often each call was served.
#[derive(Clone, Default)]
struct Served(Arc<Mutex<HashMap<u64, usize>>>);

impl Served {
    /// A server that counts; its URL.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, served) = (format!("http://{}", listener.local_addr().unwrap()), self.clone());
        let count = move |Path(token): Path<u64>, body: Bytes| {
            *served.0.lock().unwrap().entry(token).or_default() += 1;
            std::future::ready(answer(token, &body))
        };
        let app = Router::new().route("/{token}", any(count));
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    fn times(&self, token: u64) -> usize {
        self.0.lock().unwrap().get(&token).copied().unwrap_or(0)
    }
}

fn answer(token: u64, body: &[u8]) -> String {
    format!("{token} {}{}", String::from_utf8_lossy(body), ".".repeat(ANSWER))
}

/// Who calls: through a layer in this process, or through `proxy`.
#[derive(Clone)]
enum Caller {
    Layer(Seal<Reqwest>, String),
    Proxy(reqwest::Client, String),
}

/// What a caller is told when there is no answer.
#[derive(Debug)]
enum Trouble {
    /// That nothing was sent.
    NotSent(String),
    Other(String),
}

impl Caller {
    fn layer(node: &str, url: &str) -> Self {
        let config = Config::new(Identity::generate(), Pinned::new([node.parse().unwrap()]));
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let http = SealLayer::new(config).layer(Reqwest::from(client.build().unwrap()));
        Caller::Layer(http, url.to_owned())
    }

    async fn call(&self, method: Method, token: u64, body: &str) -> Result<Bytes, Trouble> {
        match self {
            Caller::Layer(http, url) => {
                let request = Request::builder().method(method).uri(format!("{url}/{token}"));
                let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
                let response = http.clone().oneshot(request).await.map_err(|error| match error {
                    // Of a whole request that may not be repeated, and where it does not break on the way back.
                    Error::Transport(_) => Trouble::NotSent(error.to_string()),
                    error => Trouble::Other(error.to_string()),
                })?;
                assert_eq!(response.status(), 200);
                let body = response.into_body().collect().await;
                body.map(|body| body.to_bytes()).map_err(|error| Trouble::Other(error.to_string()))
            }
            Caller::Proxy(client, url) => {
                let request = client.request(method, format!("{url}/{token}")).body(body.to_owned());
                let response = request.send().await.expect("the proxy stays up");
                let status = response.status();
                let body = response.bytes().await.map_err(|error| Trouble::Other(error.to_string()))?;
                if status == 200 {
                    return Ok(body);
                }
                let text = String::from_utf8(body.to_vec()).unwrap();
                let told: serde_json::Value = serde_json::from_str(&text).expect("a problem in JSON");
                assert_eq!(status, 502, "{text}");
                Err(match told["error"]["code"].as_str().unwrap() {
                    "unreachable" => Trouble::NotSent("unreachable".to_owned()),
                    code => Trouble::Other(code.to_owned()),
                })
            }
        }
    }
}

/// Whether a call is harmful to repeat.
fn is_once(token: u64) -> bool {
    !token.is_multiple_of(4)
}

/// What all callers have in common.
struct Load {
    served: Served,
    next: AtomicU64,
    over: AtomicBool,
    answers: AtomicUsize,
    troubles: Mutex<BTreeMap<String, usize>>,
}

impl Load {
    /// One call after the other.
    async fn go(self: Arc<Self>, caller: Caller) {
        while !self.over.load(Ordering::SeqCst) {
            let token = self.next.fetch_add(1, Ordering::SeqCst);
            let once = is_once(token);
            let method = if once { Method::POST } else { Method::GET };
            let body = format!("the body of {token}");
            let told = timeout(LONG, caller.call(method, token, &body)).await;
            let told = told.unwrap_or_else(|_| panic!("{token} was told nothing"));
            let times = self.served.times(token);
            match told {
                Ok(content) => {
                    assert_eq!(content, answer(token, body.as_bytes()), "the answer to {token}");
                    assert!(times > 0, "{token} was answered, and never served");
                    self.answers.fetch_add(1, Ordering::SeqCst);
                }
                Err(trouble) => {
                    let unsent = matches!(trouble, Trouble::NotSent(_));
                    assert!(!(once && unsent && times > 0), "{token} was served: {trouble:?}");
                    let (Trouble::NotSent(reason) | Trouble::Other(reason)) = trouble;
                    *self.troubles.lock().unwrap().entry(reason).or_default() += 1;
                }
            }
        }
    }

    /// Lets so many calls succeed.
    async fn succeed(&self, more: usize) {
        let goal = self.answers.load(Ordering::SeqCst) + more;
        let reached = async {
            while self.answers.load(Ordering::SeqCst) < goal {
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        };
        timeout(LONG, reached).await.expect("calls go on");
    }
}

fn chance(most: usize) -> usize {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    (u64::from_le_bytes(bytes) % most as u64) as usize
}

async fn start(home: &Home, address: &str, upstream: &str) -> Daemon {
    let key = home.path("server");
    let arguments =
        ["serve", "--listen", address, "--upstream", upstream, "--allow-anyone", "--identity", &key];
    Daemon::start(home.command(&arguments), "serve").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_is_killed_under_load_and_nobody_is_deceived() {
    let (home, served) = (Home::new(), Served::default());
    let upstream = served.listen().await;
    let mut serve = start(&home, "127.0.0.1:0", &upstream).await;
    let (address, node, url) = (serve.address.clone(), serve.node.clone(), serve.url());
    let proxy = home.proxy(&url, &["--peer", &node]).await;
    let load = Arc::new(Load {
        served: served.clone(),
        next: AtomicU64::new(1),
        over: AtomicBool::new(false),
        answers: AtomicUsize::new(0),
        troubles: Mutex::default(),
    });
    let callers = [Caller::layer(&node, &url), Caller::Proxy(client(), proxy.url())];
    // Those who come when it is back are not the ones that call meanwhile, but have had sessions, too.
    let guests = [Caller::layer(&node, &url), callers[1].clone()];
    let mut working = JoinSet::new();
    for caller in callers.iter().cycle().take(4) {
        working.spawn(load.clone().go(caller.clone()));
    }

    let duration =
        std::env::var(SECONDS).ok().map(|text| Duration::from_secs(text.parse().expect("seconds")));
    let (began, mut kills) = (Instant::now(), 0);
    while duration.map_or(kills < KILLS, |duration| began.elapsed() < duration) {
        load.succeed(chance(20)).await;
        serve.kill().await;
        // While nobody listens some are told so.
        serve = start(&home, &address, &upstream).await;
        for guest in &guests {
            // A multiple of 4, as it is safe.
            let token = 4 * (1_000_000 + load.next.fetch_add(1, Ordering::SeqCst));
            let told = guest.call(Method::GET, token, "").await;
            assert_eq!(told.expect("the first call"), answer(token, b""), "kill {kills}");
        }
        kills += 1;
    }
    load.succeed(20).await;
    load.over.store(true, Ordering::SeqCst);
    while let Some(ended) = working.join_next().await {
        ended.unwrap();
    }

    let counts = served.0.lock().unwrap().clone();
    for (token, times) in &counts {
        // What is safe is sent again once, in a new session.
        let most = if is_once(*token) { 1 } else { 2 };
        assert!(*times <= most, "{token} was served {times} times");
    }
    let (answers, troubles) = (load.answers.load(Ordering::SeqCst), load.troubles.lock().unwrap());
    println!("{kills} kills, {answers} answers, and of trouble were told: {troubles:#?}");
    assert!(!troubles.is_empty(), "no kill met a call");
}
