//! `mcp::BindSessionsLayer`: a session answers to the node that got it, and to nobody else.

#![allow(clippy::unwrap_used)]

#[path = "support/mcp_server.rs"]
mod mcp_server;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use mcp_server::{Heard, Listener, Log, McpServer, params, text};
use rmcp::{ServiceExt as _, transport::streamable_http_server::StreamableHttpServerConfig};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_seal::{
    Config, Identity, NodeId, Verified,
    http::{SealBody, SealLayer, UnsealLayer},
    mcp::{BindSessions, BindSessionsLayer, SessionRefused, client},
    trust::{AnyIdentity, Pinned},
};

const ID: &str = "mcp-session-id";
const METHODS: [Method; 4] = [Method::POST, Method::GET, Method::DELETE, Method::PUT];

// ---- callers ----

/// One node in two seal sessions of its own: what the server's layer says of it.
async fn node() -> [Verified; 2] {
    let (server, client) = (Arc::new(Identity::generate()), Arc::new(Identity::generate()));
    let trusted = Arc::new(Pinned::new([server.node_id()]));
    let (tell, mut told) = mpsc::unbounded_channel();
    let witness = service_fn(move |request: Request<_>| {
        tell.send(*request.extensions().get::<Verified>().unwrap()).unwrap();
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    });
    let server = UnsealLayer::new(Config::new(server, AnyIdentity)).layer(witness);
    for _ in 0..2 {
        let seal = SealLayer::new(Config::new(client.clone(), trusted.clone()));
        let request = Request::get("http://localhost/").body(Full::<Bytes>::default()).unwrap();
        seal.layer(server.clone()).oneshot(request).await.unwrap();
    }
    let both = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    assert_eq!(both[0].node_id(), both[1].node_id());
    assert_ne!(both[0].session(), both[1].session());
    both
}

// ---- a server ----

/// What a [`Server`] answers with.
type Answer = Arc<dyn Fn(&request::Parts) -> Response<Body> + Send + Sync>;

/// Notes what it sees. Takes calls only when it is ready; a clone is not.
struct Server {
    answer: Answer,
    seen: Arc<AtomicU32>,
    ready: bool,
}

impl Clone for Server {
    fn clone(&self) -> Self {
        Self { answer: self.answer.clone(), seen: self.seen.clone(), ready: false }
    }
}

impl Service<Request<()>> for Server {
    type Response = Response<Body>;
    type Error = String;
    type Future = Ready<Result<Response<Body>, String>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut self.ready, true) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready));
        self.seen.fetch_add(1, Ordering::Relaxed);
        let (head, ()) = request.into_parts();
        ready(match head.uri.path() {
            "/error" => Err("broken".to_owned()),
            _ => Ok((self.answer)(&head)),
        })
    }
}

/// A server behind the layer.
struct World {
    service: BindSessions<Server>,
    seen: Arc<AtomicU32>,
}

/// Hands out `s1`, `s2`, … to whoever brings none, and answers with the status that the path names.
fn counting() -> impl Fn(&request::Parts) -> Response<Body> + Send + Sync + 'static {
    let made = AtomicU32::new(0);
    move |head| {
        let mut response = Response::builder();
        if !head.headers.contains_key(ID) {
            response = response.header(ID, format!("s{}", made.fetch_add(1, Ordering::Relaxed) + 1));
        }
        let status = head.uri.path()[1..].parse().unwrap_or(200_u16);
        response.status(status).body(Body::empty()).unwrap()
    }
}

impl World {
    fn new(layer: BindSessionsLayer) -> Self {
        Self::answering(layer, counting())
    }

    fn answering(
        layer: BindSessionsLayer,
        answer: impl Fn(&request::Parts) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::<AtomicU32>::default();
        let server = Server { answer: Arc::new(answer), seen: seen.clone(), ready: false };
        World { service: layer.layer(server), seen }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        ids: &[&[u8]],
        caller: Option<Verified>,
    ) -> Response<Body> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        for id in ids {
            request.headers_mut().append(ID, HeaderValue::from_bytes(id).unwrap());
        }
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        self.service.clone().oneshot(request).await.unwrap()
    }

    /// Begins a session, and tells its id.
    async fn begin(&self, caller: impl Into<Option<Verified>>) -> String {
        let response = self.ask(Method::POST, "/", &[], caller.into()).await;
        response.headers()[ID].to_str().unwrap().to_owned()
    }

    /// The status and the reason of a POST in a session. Only where there is no reason has the server seen it.
    async fn post(
        &self,
        id: &str,
        caller: impl Into<Option<Verified>>,
    ) -> (StatusCode, Option<SessionRefused>) {
        self.send(Method::POST, "/", &[id.as_bytes()], caller.into()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        ids: &[&[u8]],
        caller: Option<Verified>,
    ) -> (StatusCode, Option<SessionRefused>) {
        let before = self.seen.load(Ordering::Relaxed);
        let response = self.ask(method, path, ids, caller).await;
        let reason = response.extensions().get::<SessionRefused>().copied();
        let seen = self.seen.load(Ordering::Relaxed) - before;
        assert_eq!(seen, u32::from(reason.is_none()));
        if reason.is_some() {
            assert!(response.headers().is_empty() && response.body().is_end_stream());
        }
        (response.status(), reason)
    }
}

const OK: (StatusCode, Option<SessionRefused>) = (StatusCode::OK, None);
const UNKNOWN: (StatusCode, Option<SessionRefused>) = (StatusCode::NOT_FOUND, Some(SessionRefused::Unknown));
const FOREIGN: (StatusCode, Option<SessionRefused>) = (StatusCode::NOT_FOUND, Some(SessionRefused::Foreign));
const UNVERIFIED: (StatusCode, Option<SessionRefused>) =
    (StatusCode::NOT_FOUND, Some(SessionRefused::Unverified));
const AMBIGUOUS: (StatusCode, Option<SessionRefused>) =
    (StatusCode::BAD_REQUEST, Some(SessionRefused::Ambiguous));

// ---- whose it is ----

#[tokio::test]
async fn a_session_answers_to_its_node_alone() {
    let ([alice, again], [bob, _]) = (node().await, node().await);
    let world = World::new(BindSessionsLayer::new());
    let id = world.begin(alice).await;
    for method in METHODS {
        let ids: &[&[u8]] = &[id.as_bytes()];
        assert_eq!(world.send(method.clone(), "/", ids, Some(bob)).await, FOREIGN, "{method}");
        assert_eq!(world.send(method.clone(), "/", ids, None).await, UNVERIFIED, "{method}");
        assert_eq!(world.send(method.clone(), "/503", ids, Some(again)).await.0, 503, "{method}");
        assert_eq!(world.send(method.clone(), "/", &[], Some(bob)).await, OK, "{method}");
        assert_eq!(world.send(method, "/", &[], None).await, OK);
    }
    assert_eq!(world.post(&id, alice).await, OK);
    assert_eq!(world.post(&id, again).await, OK);
}

#[tokio::test]
async fn what_was_not_handed_out_is_unknown() {
    let [alice, _] = node().await;
    let world = World::new(BindSessionsLayer::new());
    let (id, other) = (world.begin(alice).await, world.begin(alice).await);
    assert_eq!((&*id, &*other), ("s1", "s2"));
    for odd in [&b"s3"[..], b"", b"S1", b" s1", b"s1 ", b"s1,s2", b"s1, s1", b"s", b"s11", b"\x80\xff"] {
        assert_eq!(world.send(Method::POST, "/", &[odd], Some(alice)).await, UNKNOWN, "{odd:?}");
    }
    // A layer made after a restart knows nothing, and nobody can claim what another one handed out.
    let restarted = World::new(BindSessionsLayer::new());
    for _ in 0..2 {
        assert_eq!(restarted.post(&id, alice).await, UNKNOWN);
    }
}

#[tokio::test]
async fn two_ids_are_refused_whatever_they_are() {
    let [alice, _] = node().await;
    let world = World::new(BindSessionsLayer::new());
    let (id, other) = (world.begin(alice).await, world.begin(alice).await);
    let (id, other) = (id.as_bytes(), other.as_bytes());
    for ids in [&[id, id][..], &[id, other], &[id, b"no"], &[b"no", id], &[b"", b""], &[id, id, id]] {
        for caller in [Some(alice), None] {
            for method in METHODS {
                assert_eq!(world.send(method, "/", ids, caller).await, AMBIGUOUS, "{ids:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_underscore_is_as_good_as_a_hyphen() {
    let ([alice, _], [bob, _]) = (node().await, node().await);
    let world = World::new(BindSessionsLayer::new());
    let id = world.begin(alice).await;
    let ask = async |names: &[&str], caller| {
        let mut request = Request::new(());
        for name in names {
            request.headers_mut().append(name.parse::<HeaderName>().unwrap(), id.parse().unwrap());
        }
        request.extensions_mut().insert::<Verified>(caller);
        let response = world.service.clone().oneshot(request).await.unwrap();
        (response.status(), response.extensions().get::<SessionRefused>().copied())
    };
    assert_eq!(ask(&["Mcp_Session_Id"], bob).await, FOREIGN);
    assert_eq!(ask(&["mcp-session_id"], bob).await, FOREIGN);
    assert_eq!(ask(&["mcp-session-id", "mcp_session_id"], alice).await, AMBIGUOUS);
    assert_eq!(ask(&["mcp_session_id"], alice).await, OK);
}

#[tokio::test]
async fn services_of_one_layer_share_what_they_know() {
    let [alice, _] = node().await;
    let layer = BindSessionsLayer::new();
    let (first, second) = (World::new(layer.clone()), World::new(layer));
    let id = first.begin(alice).await;
    assert_eq!(second.post(&id, alice).await, OK);
    assert_eq!(second.send(Method::DELETE, "/", &[id.as_bytes()], Some(alice)).await, OK);
    assert_eq!(first.post(&id, alice).await, UNKNOWN);
}

#[tokio::test]
async fn an_id_handed_out_twice_stays_with_the_first() {
    let ([alice, _], [bob, _]) = (node().await, node().await);
    let same = |_: &request::Parts| Response::builder().header(ID, "same").body(Body::empty()).unwrap();
    let world = World::answering(BindSessionsLayer::new(), same);
    for caller in [alice, bob, alice] {
        assert_eq!(world.begin(caller).await, "same");
        assert_eq!(world.post("same", bob).await, FOREIGN);
        assert_eq!(world.post("same", alice).await, OK);
    }
    // Once it is nobody's, it can be anybody's.
    assert_eq!(world.send(Method::DELETE, "/", &[b"same"], Some(alice)).await, OK);
    world.begin(bob).await;
    assert_eq!(world.post("same", bob).await, OK);
    assert_eq!(world.post("same", alice).await, FOREIGN);
}

#[tokio::test]
async fn unverified_callers_get_sessions_that_are_nobodys_or_all_theirs() {
    let [alice, _] = node().await;
    let world = World::new(BindSessionsLayer::new());
    let id = world.begin(None).await;
    assert_eq!(world.post(&id, None).await, UNVERIFIED);
    assert_eq!(world.post(&id, alice).await, UNKNOWN);

    let world = World::new(BindSessionsLayer::new().dangerously_allow_unverified());
    let (id, hers) = (world.begin(None).await, world.begin(alice).await);
    assert_eq!(world.post(&id, None).await, OK);
    assert_eq!(world.post(&id, alice).await, FOREIGN);
    assert_eq!(world.post(&hers, None).await, FOREIGN);
    assert_eq!(world.post(&hers, alice).await, OK);
    assert_eq!(world.post("s9", None).await, UNKNOWN);
}

// ---- how long ----

#[tokio::test]
async fn a_session_is_forgotten_when_the_server_has_ended_it() {
    let [alice, _] = node().await;
    let world = World::new(BindSessionsLayer::new());
    for (method, status, known) in [
        (Method::DELETE, 200, false),
        (Method::DELETE, 202, false),
        (Method::DELETE, 204, false),
        (Method::DELETE, 404, false),
        (Method::POST, 404, true),
        (Method::GET, 404, true),
        (Method::DELETE, 405, true),
        (Method::DELETE, 500, true),
        (Method::DELETE, 302, true),
        (Method::POST, 204, true),
        (Method::POST, 400, true),
        (Method::POST, 410, true),
    ] {
        let id = world.begin(alice).await;
        let ended = world.send(method.clone(), &format!("/{status}"), &[id.as_bytes()], Some(alice)).await;
        assert_eq!(ended, (StatusCode::from_u16(status).unwrap(), None));
        assert_eq!(world.post(&id, alice).await, if known { OK } else { UNKNOWN }, "{method} {status}");
    }
    // Without an id these statuses end nothing.
    let id = world.begin(alice).await;
    for method in METHODS {
        world.send(method, "/404", &[], Some(alice)).await;
    }
    assert_eq!(world.post(&id, alice).await, OK);
}

#[tokio::test]
async fn an_echoed_id_does_not_bring_a_session_back() {
    let [alice, _] = node().await;
    let echo = |head: &request::Parts| {
        let id = head.headers.get(ID).cloned().unwrap_or(HeaderValue::from_static("s"));
        Response::builder().header(ID, id).body(Body::empty()).unwrap()
    };
    let world = World::answering(BindSessionsLayer::new(), echo);
    world.begin(alice).await;
    assert_eq!(world.post("s", alice).await, OK);
    // This call is under way while the session ends.
    let mut slow = world.service.clone();
    let mut request = Request::new(());
    request.headers_mut().insert(ID, HeaderValue::from_static("s"));
    request.extensions_mut().insert(alice);
    let slow = slow.ready().await.unwrap().call(request);
    assert_eq!(world.send(Method::DELETE, "/", &[b"s"], Some(alice)).await, OK);
    assert_eq!(slow.await.unwrap().headers()[ID], "s");
    assert_eq!(world.post("s", alice).await, UNKNOWN);
}

#[tokio::test]
async fn a_session_handed_out_within_another_is_known_as_well() {
    let ([alice, _], [bob, _]) = (node().await, node().await);
    let next = AtomicU32::new(0);
    let several = move |_: &request::Parts| {
        let n = next.fetch_add(2, Ordering::Relaxed);
        let ids = Response::builder().header(ID, format!("s{n}")).header(ID, format!("s{}", n + 1));
        ids.body(Body::empty()).unwrap()
    };
    let world = World::answering(BindSessionsLayer::new(), several);
    world.begin(alice).await;
    assert_eq!(world.post("s1", alice).await, OK);
    for id in ["s0", "s1", "s2", "s3"] {
        assert_eq!(world.post(id, bob).await, FOREIGN);
        assert_eq!(world.post(id, alice).await, OK, "{id}");
    }
}

#[tokio::test]
async fn the_least_recently_used_of_a_caller_goes_first() {
    let ([alice, _], [bob, _]) = (node().await, node().await);
    let world = World::new(BindSessionsLayer::new().sessions_per_caller(3));
    let bobs = world.begin(bob).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.begin(alice).await);
    }
    assert_eq!(world.post(&ids[0], alice).await, OK);
    // Neither what is refused nor what another caller does counts as use.
    assert_eq!(world.post(&ids[1], bob).await, FOREIGN);
    ids.push(world.begin(alice).await);
    for (id, known) in ids.iter().zip([true, false, true, true]) {
        assert_eq!(world.post(id, alice).await, if known { OK } else { UNKNOWN }, "{id}");
    }
    assert_eq!(world.post(&bobs, bob).await, OK);
}

#[tokio::test]
async fn the_least_recently_used_of_all_goes_first() {
    let ([alice, _], [bob, _]) = (node().await, node().await);
    let world = World::new(BindSessionsLayer::new().sessions(3).sessions_per_caller(2));
    let (a1, b1) = (world.begin(alice).await, world.begin(bob).await);
    let a2 = world.begin(alice).await;
    assert_eq!(world.post(&a1, alice).await, OK);
    // Bob has room of his own, but there is none in all: the least recently used is his.
    let b2 = world.begin(bob).await;
    assert_eq!(world.post(&b1, bob).await, UNKNOWN);
    assert_eq!(world.post(&b2, bob).await, OK);
    // Alice has none of her own: one of hers goes, though Bob's is older by now than the other.
    assert_eq!(world.post(&a1, alice).await, OK);
    let a3 = world.begin(alice).await;
    for (id, caller, expected) in [(&a2, alice, UNKNOWN), (&a1, alice, OK), (&a3, alice, OK), (&b2, bob, OK)]
    {
        assert_eq!(world.post(id, caller).await, expected, "{id}");
    }
    // Least of all there is room for one.
    let world = World::new(BindSessionsLayer::new().sessions(0).sessions_per_caller(0));
    let (first, second) = (world.begin(alice).await, world.begin(bob).await);
    assert_eq!(world.post(&first, alice).await, UNKNOWN);
    assert_eq!(world.post(&second, bob).await, OK);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_forgotten() {
    let [alice, _] = node().await;
    let hour = Duration::from_secs(3600);
    for (layer, idle) in [(BindSessionsLayer::new().idle(hour), hour), (BindSessionsLayer::new(), 24 * hour)]
    {
        let world = World::new(layer);
        let (used, unused) = (world.begin(alice).await, world.begin(alice).await);
        for _ in 0..3 {
            tokio::time::advance(idle / 2).await;
            assert_eq!(world.post(&used, alice).await, OK);
        }
        assert_eq!(world.post(&unused, alice).await, UNKNOWN);
        tokio::time::advance(idle - Duration::from_millis(1)).await;
        assert_eq!(world.post(&used, alice).await, OK);
        tokio::time::advance(idle).await;
        assert_eq!(world.post(&used, alice).await, UNKNOWN);
    }
    let world = World::new(BindSessionsLayer::new().idle(Duration::MAX));
    let id = world.begin(alice).await;
    tokio::time::advance(1000 * hour).await;
    assert_eq!(world.post(&id, alice).await, OK);
}

/// Against a plain list, which is kept in the order of use.
#[tokio::test]
async fn keeps_what_a_plain_list_would_keep() {
    const MOST: usize = 7;
    const MOST_PER_CALLER: usize = 4;
    let callers = [node().await[0], node().await[0], node().await[0]];
    let world = World::new(BindSessionsLayer::new().sessions(MOST).sessions_per_caller(MOST_PER_CALLER));
    let mut kept: Vec<(String, usize)> = Vec::new();
    let mut state = 1_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % below) as usize
    };
    let mut made = 0;
    for _ in 0..3000 {
        let who = random(3);
        if random(3) == 0 {
            if kept.iter().filter(|(_, owner)| *owner == who).count() == MOST_PER_CALLER {
                kept.remove(kept.iter().position(|(_, owner)| *owner == who).unwrap());
            } else if kept.len() == MOST {
                kept.remove(0);
            }
            kept.push((world.begin(callers[who]).await, who));
            made += 1;
            continue;
        }
        let id = format!("s{}", (made + 1_usize).saturating_sub(random(12)));
        let ends = random(8) == 0;
        let method = if ends { Method::DELETE } else { Method::POST };
        let at = kept.iter().position(|(known, _)| *known == id);
        let expected = match at.map(|at| (at, kept[at].1)) {
            None => UNKNOWN,
            Some((_, owner)) if owner != who => FOREIGN,
            Some((at, _)) => {
                let used = kept.remove(at);
                if !ends {
                    kept.push(used);
                }
                OK
            }
        };
        assert_eq!(world.send(method, "/", &[id.as_bytes()], Some(callers[who])).await, expected);
    }
}

// ---- as a middleware ----

#[tokio::test]
async fn passes_everything_else_on_as_it_is() {
    // Neither a `Clone` service nor a `Send` one; its body is no body, and its error is its own.
    struct Once {
        _not_send: Rc<()>,
    }
    impl Service<Request<&'static str>> for Once {
        type Response = Response<Option<u32>>;
        type Error = &'static str;
        type Future = Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Err("not ready"))
        }

        fn call(&mut self, request: Request<&'static str>) -> Self::Future {
            ready(match request.into_body() {
                "fail" => Err("failed"),
                _ => Ok(Response::builder().header(ID, "s").header("x", "y").body(Some(7)).unwrap()),
            })
        }
    }
    let mut service = BindSessionsLayer::new().layer(Once { _not_send: Rc::default() });
    assert!(matches!(service.ready().await, Err("not ready")));
    assert_eq!(service.call(Request::new("fail")).await.unwrap_err(), "failed");
    let response = service.call(Request::new("")).await.unwrap();
    assert_eq!((response.headers().len(), response.into_body()), (2, Some(7)));
    let request = Request::builder().header(ID, "s").body("").unwrap();
    let refused = service.call(request).await.unwrap();
    assert_eq!((refused.status(), refused.into_body()), (StatusCode::NOT_FOUND, None));
}

// ---- around rmcp ----

/// A server of rmcp's behind both layers, and what of it came through.
struct Guarded<S> {
    sealed: S,
    server: NodeId,
    log: watch::Receiver<Log>,
    /// The last id that the server was asked with.
    id: watch::Receiver<Option<HeaderValue>>,
}

/// Where bodies come from which kind of layer does not matter here.
type Wire = BoxCloneSyncService<Request<SealBody<Full<Bytes>>>, Response<AnyBody>, Infallible>;
type AnyBody = UnsyncBoxBody<Bytes, tower_seal::Error>;

fn guarded(config: Config, bind: BindSessionsLayer) -> Guarded<Wire> {
    let server = config.node_id();
    let caller = |head: &request::Parts| Some(head.extensions.get::<Verified>()?.node_id().to_string());
    let mcp = McpServer::new().with_caller(caller);
    let (router, log) = mcp.into_router(StreamableHttpServerConfig::default());
    let (note, id) = watch::channel(None);
    let service = ServiceBuilder::new()
        .map_response(|response: Response<SealBody<_>>| response.map(|body| body.boxed_unsync()))
        .layer(UnsealLayer::new(config))
        .layer(bind)
        .map_request(move |request: Request<_>| {
            if let Some(id) = request.headers().get(ID) {
                note.send_replace(Some(id.clone()));
            }
            request
        })
        .service(router);
    Guarded { sealed: BoxCloneSyncService::new(service), server, log, id }
}

/// A request by hand, in a session.
fn by_hand(method: Method, id: &HeaderValue) -> Request<Full<Bytes>> {
    let request = Request::builder()
        .method(method)
        .uri("http://localhost/mcp")
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2025-11-25")
        .header(ID, id);
    request.body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.into()).unwrap()
}

#[tokio::test]
async fn guards_the_sessions_of_rmcp_behind_the_seal() {
    let Guarded { sealed, server, mut log, id } =
        guarded(Config::new(Identity::generate(), AnyIdentity), BindSessionsLayer::new());
    let http = |identity: &Arc<Identity>| {
        SealLayer::new(Config::new(identity.clone(), Pinned::new([server]))).layer(sealed.clone())
    };
    let alice = Arc::new(Identity::generate());
    let bob = Arc::new(Identity::generate());
    let (listener, mut heard) = Listener::new();
    let hers = listener.serve(client(http(&alice), "http://localhost/mcp")).await.unwrap();
    let whoami = || params("whoami", json!({}));
    assert_eq!(text(&hers.call_tool(whoami()).await.unwrap()), alice.node_id().to_string());
    let id = id.borrow().clone().unwrap();

    // Her stream is open, and stays so.
    log.wait_for(|log| log.contains(&(Method::GET, StatusCode::OK))).await.unwrap();
    hers.call_tool(params("announce", json!({}))).await.unwrap();
    assert_eq!(heard.recv().await, Some(Heard::ResourcesChanged));

    // Bob has her id.
    let before = log.borrow().len();
    for method in METHODS {
        let response = http(&bob).oneshot(by_hand(method, &id)).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(log.borrow().len(), before);

    // A session of his own is no bother to hers, which she may use in another session of the seal.
    let his = ().serve(client(http(&bob), "http://localhost/mcp")).await.unwrap();
    assert_eq!(text(&his.call_tool(whoami()).await.unwrap()), bob.node_id().to_string());
    let listed = http(&alice).oneshot(by_hand(Method::POST, &id)).await.unwrap();
    assert_eq!(listed.status(), StatusCode::OK);
    let listed = listed.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&listed).contains("announce"));
    hers.call_tool(params("announce", json!({}))).await.unwrap();
    assert_eq!(heard.recv().await, Some(Heard::ResourcesChanged));

    // Once she has ended it, it is gone: this layer asks nobody.
    hers.cancel().await.unwrap();
    assert_eq!(log.borrow().last(), Some(&(Method::DELETE, StatusCode::ACCEPTED)));
    let before = log.borrow().len();
    for identity in [&alice, &bob] {
        for method in METHODS {
            let response = http(identity).oneshot(by_hand(method, &id)).await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
        }
    }
    assert_eq!(log.borrow().len(), before);
    assert_eq!(text(&his.call_tool(whoami()).await.unwrap()), bob.node_id().to_string());
}

/// As after a restart of this process, but not of the server: what was known is forgotten.
#[tokio::test]
async fn rmcps_client_begins_anew_when_its_session_is_forgotten() {
    let bind = BindSessionsLayer::new().sessions(1);
    let Guarded { sealed, server, id, .. } = guarded(Config::new(Identity::generate(), AnyIdentity), bind);
    let connect = || {
        let seal = SealLayer::new(Config::new(Identity::generate(), Pinned::new([server])));
        ().serve(client(seal.layer(sealed.clone()), "http://localhost/mcp"))
    };
    let first = connect().await.unwrap();
    let echo = || params("echo", json!({ "text": "hi" }));
    assert_eq!(text(&first.call_tool(echo()).await.unwrap()), "hi");
    let before = id.borrow().clone();
    // There is room for one, so the other's is forgotten.
    let second = connect().await.unwrap();
    assert_eq!(text(&second.call_tool(echo()).await.unwrap()), "hi");
    assert_eq!(text(&first.call_tool(echo()).await.unwrap()), "hi");
    assert_ne!(*id.borrow(), before);
}

#[tokio::test]
async fn serves_plaintext_only_when_told_to() {
    let connect = |bind| {
        let Guarded { sealed, .. } = guarded(Config::plaintext(), bind);
        let http = SealLayer::new(Config::plaintext()).layer(sealed);
        ().serve(client(http, "http://localhost/mcp"))
    };
    let allowed = connect(BindSessionsLayer::new().dangerously_allow_unverified()).await.unwrap();
    assert_eq!(text(&allowed.call_tool(params("whoami", json!({}))).await.unwrap()), "nobody");
    assert!(connect(BindSessionsLayer::new()).await.is_err());
}
