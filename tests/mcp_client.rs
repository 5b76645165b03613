//! `mcp::HttpClient`: rmcp's client and server over it in both eras, in process and over TCP; and what it
//! makes of answers that rmcp's server does not give.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/mcp_server.rs"]
mod mcp_server;

use std::{
    collections::HashMap,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use mcp_server::{Hangs, Heard, Listener, Log, McpServer, NOTE, params, text};
use rmcp::{
    ClientLifecycleMode, ClientServiceExt, RoleClient,
    model::*,
    service::{PeerRequestOptions, RunningService},
    transport::streamable_http_client::StreamableHttpClient,
    transport::streamable_http_server::StreamableHttpServerConfig,
};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tower::Service;
use tower_seal::mcp::{HttpClient, client};

// ---- rmcp at both ends ----

#[derive(Clone, Copy, Debug)]
enum Wire {
    InProcess,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Era {
    Legacy,
    Modern,
}

const EACH: [(Wire, Era); 4] = [
    (Wire::InProcess, Era::Legacy),
    (Wire::InProcess, Era::Modern),
    (Wire::Tcp, Era::Legacy),
    (Wire::Tcp, Era::Modern),
];

struct World {
    client: RunningService<RoleClient, Listener>,
    heard: mpsc::UnboundedReceiver<Heard>,
    hangs: watch::Receiver<Hangs>,
    log: watch::Receiver<Log>,
}

impl World {
    async fn new(wire: Wire, era: Era) -> Self {
        let server = McpServer::new().with_caller(|head| Some(head.method.to_string()));
        let hangs = server.hangs();
        // Without events JSON, with events SSE: so that both are seen.
        let config = StreamableHttpServerConfig::default().with_json_response(true);
        let (router, log) = server.into_router(config);
        let mode = match era {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Modern => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
        };
        let (listener, heard) = Listener::new();
        let client = match wire {
            Wire::InProcess => {
                listener.serve_with_lifecycle(client(router, "http://localhost/mcp"), mode).await
            }
            Wire::Tcp => {
                let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let uri = format!("http://{}/mcp", socket.local_addr().unwrap());
                tokio::spawn(axum::serve(socket, router).into_future());
                let hyper = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
                listener.serve_with_lifecycle(client(hyper, uri), mode).await
            }
        };
        World { client: client.unwrap(), heard, hangs, log }
    }

    async fn call(&self, tool: &'static str, arguments: serde_json::Value) -> String {
        text(&self.client.call_tool(params(tool, arguments)).await.unwrap())
    }
}

#[tokio::test]
async fn converses_over_each_wire_in_each_era() {
    for (wire, era) in EACH {
        let mut world = World::new(wire, era).await;
        assert_eq!(world.client.list_all_tools().await.unwrap().len(), 5);
        assert_eq!(world.call("echo", json!({ "text": "grüße" })).await, "grüße");
        assert_eq!(world.call("whoami", json!({})).await, "POST");
        let note = world.client.read_resource(ReadResourceRequestParams::new(NOTE)).await.unwrap();
        assert_eq!(note.contents.len(), 1);

        assert_eq!(world.call("count", json!({ "to": 3 })).await, "3");
        for step in [1.0, 2.0, 3.0] {
            assert_eq!(world.heard.recv().await, Some(Heard::Progress(step)));
        }
        if era == Era::Legacy {
            world.log.wait_for(|log| log.contains(&(Method::GET, StatusCode::OK))).await.unwrap();
        }
        world.call("announce", json!({})).await;
        assert_eq!(world.heard.recv().await, Some(Heard::ResourcesChanged));

        let World { client, log, .. } = world;
        client.cancel().await.unwrap();
        let log = log.borrow();
        assert!(log.iter().all(|(_, status)| status.is_success()), "{wire:?} {era:?} {log:?}");
        let times = |method| log.iter().filter(|(logged, _)| logged == method).count();
        let once = usize::from(era == Era::Legacy);
        assert_eq!([times(Method::GET), times(Method::DELETE)], [once, once], "{wire:?} {era:?} {log:?}");
    }
}

#[tokio::test]
async fn cancels_over_each_wire_in_each_era() {
    for (wire, era) in EACH {
        let mut world = World::new(wire, era).await;
        let hang = async |quiet: bool| {
            let call = CallToolRequest::new(params("hang", json!({ "quiet": quiet })));
            let options = PeerRequestOptions::no_options();
            world.client.send_cancellable_request(call.into(), options).await.unwrap()
        };
        // In the modern era the first has no head yet, and the second an open event stream.
        let (first, second, third) = (hang(true).await, hang(false).await, hang(false).await);
        world.hangs.wait_for(|hangs| hangs.started == 3).await.unwrap();
        for id in [&second.id, &third.id] {
            assert_eq!(world.heard.recv().await, Some(Heard::Progress(0.0)), "{wire:?} {era:?} {id}");
        }
        first.cancel(None).await.unwrap();
        world.hangs.wait_for(|hangs| hangs.cancelled == 1).await.unwrap();
        second.cancel(None).await.unwrap();
        world.hangs.wait_for(|hangs| hangs.cancelled == 2).await.unwrap();
        // The whole client goes. In the legacy era that cancels nothing: the session ends, after a grace period.
        if era == Era::Modern {
            drop(world.client);
            world.hangs.wait_for(|hangs| hangs.cancelled == 3).await.unwrap();
        }
    }
}

// ---- one answer at a time ----

const URI: &str = "http://localhost/mcp";

const HTML: (&str, &str) = ("content-type", "text/html");

type Fields = &'static [(&'static str, &'static str)];

/// Takes calls only on a clone that is ready, and gives one answer, or else the request as its error.
struct Always {
    answer: Option<Response<Full<Bytes>>>,
    ready: bool,
}

fn always(status: u16, fields: Fields, body: &'static str) -> HttpClient<Always> {
    let answer =
        fields.iter().fold(Response::builder().status(status), |r, (name, value)| r.header(*name, *value));
    HttpClient::new(Always { answer: Some(answer.body(body.into()).unwrap()), ready: false })
}

impl Clone for Always {
    fn clone(&self) -> Self {
        Self { answer: self.answer.clone(), ready: false }
    }
}

impl Service<Request<Full<Bytes>>> for Always {
    type Response = Response<Full<Bytes>>;
    type Error = String;
    type Future = Ready<Result<Self::Response, String>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut self.ready, true) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(self.ready);
        let field = |(name, value): (_, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut fields: Vec<_> = request.headers().iter().map(field).collect();
        fields.sort();
        ready(self.answer.take().ok_or(format!("{} {} {fields:?}", request.method(), request.uri())))
    }
}

fn ask(request: impl Into<ClientRequest>) -> ClientJsonRpcMessage {
    ClientJsonRpcMessage::request(request.into(), RequestId::Number(7))
}

#[tokio::test]
async fn understands_answers_as_rmcp_does() {
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const ERROR: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"no"}}"#;
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
    const SCOPE_X: (&str, &str) = ("www-authenticate", "Bearer Scope=x, a=b");
    const BEARER: (&str, &str) = ("www-authenticate", "Bearer realm=\"r\", Scope=\"a b\"");
    let (in_session, ping, discover) =
        (Some("s"), ask(PingRequest::default()), ask(DiscoverRequest::default()));
    let tell = ClientJsonRpcMessage::notification(InitializedNotification::default().into());
    for (message, session, status, fields, body, expected) in [
        (&ping, None, 202, &[][..], "", "Ok(Accepted"),
        (&ping, None, 204, &[], "", "Ok(Accepted"),
        (&ping, None, 200, &[JSON, ("mcp-session-id", "new")], RESULT, "Ok(Json(Response("),
        (&ping, None, 200, &[JSON, ("mcp-session-id", "new")], RESULT, "Some(\"new\")"),
        (&ping, None, 200, &[("content-type", "Text/Event-Stream; a")], "", "Ok(Sse(None))"),
        (&ping, None, 200, &[JSON], "{}", "UnexpectedServerResponse("),
        (&ping, None, 200, &[HTML], "", "UnexpectedContentType(Some(\"text/h"),
        (&ping, None, 200, &[], "", "UnexpectedContentType(None)"),
        (&tell, None, 200, &[], "", "Ok(Accepted"),
        (&tell, None, 200, &[JSON], "{}", "Ok(Accepted"),
        (&tell, None, 200, &[], "hello", "UnexpectedContentType(None)"),
        (&ping, in_session, 404, &[JSON], ERROR, "SessionExpired"),
        (&ping, None, 404, &[], "gone", "UnexpectedServerResponse(\"HTTP 404 Not Found: gone\")"),
        (&ping, None, 400, &[JSON], ERROR, "Ok(Json(Error("),
        (&ping, None, 400, &[JSON], RESULT, "UnexpectedServerResponse("),
        (&ping, None, 400, &[], ERROR, "UnexpectedServerResponse("),
        (&ping, None, 302, &[], "", "UnexpectedServerResponse(\"HTTP 302"),
        (&ping, None, 401, &[BEARER, JSON], ERROR, "AuthRequired("),
        (&ping, None, 403, &[BEARER], "", "required_scope: Some(\"a b\")"),
        (&ping, None, 403, &[SCOPE_X], "", "required_scope: Some(\"x\")"),
        (&ping, None, 401, &[JSON], ERROR, "UnexpectedServerResponse(\"HTTP 401"),
        (&ping, None, 429, &[JSON, ("retry-after", "9")], ERROR, "status: 429, retry_after: Some(\"9\")"),
        (&ping, None, 503, &[], ERROR, "status: 503, retry_after: None"),
        (&ping, None, 500, &[JSON], ERROR, "Ok(Json(Error("),
        (&ping, None, 500, &[JSON], RESULT, "status: 500"),
        (&discover, None, 400, &[JSON], ERROR, "Some(Number(7)), error: ErrorData { code: ErrorCode(-32020)"),
        (&discover, None, 404, &[], "?", "Some(Number(7)), error: ErrorData { code: ErrorCode(-32600)"),
        (&discover, None, 403, &[JSON], ERROR, "UnexpectedServerResponse("),
        (&discover, None, 500, &[], ERROR, "status: 500"),
    ] {
        let client = always(status, fields, body);
        let got = client
            .post_message(URI.into(), message.clone(), session.map(Arc::from), None, HashMap::new())
            .await;
        let got = format!("{got:?}");
        assert!(got.contains(expected), "{status} {body}: {got}, not {expected}");
    }
}

#[tokio::test]
async fn understands_answers_to_get_and_delete() {
    const EVENTS: (&str, &str) = ("content-type", "text/event-stream");
    for (status, fields, get, delete) in [
        (200, &[EVENTS][..], "Ok(", "Ok(())"),
        (200, &[HTML], "UnexpectedContentType(", "Ok(())"),
        (405, &[], "ServerDoesNotSupportSse", "Ok(())"),
        (404, &[EVENTS], "status: 404", "status: 404"),
        (401, &[("www-authenticate", "Bearer")], "AuthRequired(", "status: 401"),
        (503, &[("retry-after", "9")], "retry_after: Some(\"9\")", "status: 503"),
    ] {
        let client = always(status, fields, "");
        let got = client.get_stream(URI.into(), None, None, None, HashMap::new()).await.map(|_| ());
        assert!(format!("{got:?}").contains(get), "{status}: {got:?}");
        let got = client.delete_session(URI.into(), "s".into(), None, HashMap::new()).await;
        assert!(format!("{got:?}").contains(delete), "{status}: {got:?}");
    }
}

#[tokio::test]
async fn sends_what_rmcp_gives_it() {
    let client = HttpClient::new(Always { answer: None, ready: false });
    let fields = |name: &'static str| HashMap::from([(name.parse().unwrap(), "x".parse().unwrap())]);
    let (session, token) = (Some(Arc::from("s")), Some("t".to_owned()));
    let got = client
        .post_message(
            URI.into(),
            ask(PingRequest::default()),
            session.clone(),
            token.clone(),
            fields("mcp-method"),
        )
        .await;
    let expected = concat!(
        r#"POST http://localhost/mcp ["accept: text/event-stream, application/json", "authorization: Bearer t", "#,
        r#""content-type: application/json", "mcp-method: x", "mcp-session-id: s"]"#
    );
    assert!(got.unwrap_err().to_string().contains(expected));
    let got =
        client.get_stream(URI.into(), session, Some("5".into()), token, fields("mcp-protocol-version")).await;
    let expected = concat!(
        r#"GET http://localhost/mcp ["accept: text/event-stream, application/json", "authorization: Bearer t", "#,
        r#""last-event-id: 5", "mcp-protocol-version: x", "mcp-session-id: s"]"#
    );
    assert!(got.err().unwrap().to_string().contains(expected));
    for reserved in ["accept", "mcp-session-id", "last-event-id"] {
        let got = client.delete_session(URI.into(), "s".into(), None, fields(reserved)).await;
        assert!(format!("{got:?}").contains("ReservedHeaderConflict"), "{got:?}");
    }
    let got = client.delete_session("not an address".into(), "s".into(), None, HashMap::new()).await;
    assert!(format!("{got:?}").contains("InvalidUri"), "{got:?}");
}
