//! A streamable HTTP server played by hand: every request waits until the test answers it.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri},
    response::Response,
};
use futures_util::stream;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    connect_hand::{Connect, INITIALIZE, INITIALIZED, WELCOME},
    support::{Home, LONG},
};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: mpsc::UnboundedReceiver<Asked>,
    /// Of GET, which may come at any time.
    listening: mpsc::UnboundedReceiver<Asked>,
    task: JoinHandle<()>,
}

type Tell = mpsc::UnboundedSender<Asked>;

/// A request that waits for its answer.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) fields: HeaderMap,
    pub(crate) body: String,
    answer: oneshot::Sender<Response>,
}

/// An event stream that is open.
pub(crate) struct Events(mpsc::UnboundedSender<Bytes>);

impl Server {
    pub(crate) async fn start() -> Self {
        let (ask, asked) = mpsc::unbounded_channel();
        let (listen, listening) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(handle).with_state((ask, listen));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Server { address, asked, listening, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp?x=1", self.address)
    }

    /// A `connect` without the seal, so that nothing stands between.
    pub(crate) fn connect(&self, home: &Home) -> Connect {
        Connect::start(home, &["--plaintext", &self.url()])
    }

    pub(crate) async fn next(&mut self) -> Asked {
        timeout(LONG, self.asked.recv()).await.expect("a request").unwrap()
    }

    /// The next GET.
    pub(crate) async fn listener(&mut self) -> Asked {
        timeout(LONG, self.listening.recv()).await.expect("a GET").unwrap()
    }

    /// The next POST is this message.
    pub(crate) async fn expect(&mut self, message: impl AsRef<str>) -> Asked {
        let asked = self.next().await;
        assert_eq!((&asked.method, &*asked.body), (&Method::POST, message.as_ref()));
        assert_eq!(asked.uri, "/mcp?x=1");
        assert_eq!(asked.field("accept"), Some("application/json, text/event-stream"));
        assert_eq!(asked.field("content-type"), Some("application/json"));
        asked
    }

    /// Plays the first messages of a server that gives the session `id`: the stream of what it says unasked.
    pub(crate) async fn greet(&mut self, host: &mut Connect, id: &str) -> Events {
        host.say(INITIALIZE).await;
        let asked = self.expect(INITIALIZE).await;
        assert_eq!((asked.field("mcp-session-id"), asked.field("mcp-protocol-version")), (None, None));
        asked.json(200, Some(id), WELCOME);
        assert_eq!(host.line().await, WELCOME);
        host.say(INITIALIZED).await;
        self.expect_in(id, INITIALIZED).await.accept();
        let asked = self.listener().await;
        assert_eq!(asked.field("accept"), Some("text/event-stream"));
        assert_eq!((asked.field("mcp-session-id"), asked.field("last-event-id")), (Some(id), None));
        asked.events()
    }

    /// Plays them again, unseen by the host.
    pub(crate) async fn greet_again(&mut self, id: &str) -> Events {
        let asked = self.expect(INITIALIZE).await;
        assert_eq!((asked.field("mcp-session-id"), asked.field("mcp-protocol-version")), (None, None));
        asked.json(200, Some(id), WELCOME);
        self.expect_in(id, INITIALIZED).await.accept();
        self.listener().await.events()
    }

    /// The next POST is this message, in the session `id`.
    pub(crate) async fn expect_in(&mut self, id: &str, message: impl AsRef<str>) -> Asked {
        let asked = self.expect(message).await;
        assert_eq!(asked.field("mcp-session-id"), Some(id));
        assert_eq!(asked.field("mcp-protocol-version"), Some("2025-11-25"));
        assert_eq!(asked.field("mcp-method"), None);
        asked
    }

    /// The session `id` is ended, and then the tool.
    pub(crate) async fn ended(&mut self, mut host: Connect, id: &str) -> String {
        host.end_stdin();
        let asked = self.next().await;
        assert_eq!((&asked.method, asked.field("mcp-session-id")), (&Method::DELETE, Some(id)));
        asked.accept();
        host.ended().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handle(State((ask, listen)): State<(Tell, Tell)>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 32 << 20).await.unwrap();
    let (answer, answered) = oneshot::channel();
    let tell = if head.method == Method::GET { listen } else { ask };
    let body = String::from_utf8(body.to_vec()).unwrap();
    let _ = tell.send(Asked { method: head.method, uri: head.uri, fields: head.headers, body, answer });
    answered.await.unwrap_or_default()
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert_eq!(values.next(), None, "{name} twice");
        value
    }

    pub(crate) fn answer(self, status: u16, fields: &[(&'static str, &str)], body: impl Into<Body>) {
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let _ = self.answer.send(response);
    }

    pub(crate) fn json(self, status: u16, session: Option<&str>, body: impl Into<String>) {
        let mut fields = vec![("content-type", "application/json; charset=utf-8")];
        fields.extend(session.map(|session| ("mcp-session-id", session)));
        self.answer(status, &fields, body.into());
    }

    pub(crate) fn accept(self) {
        self.answer(202, &[], "");
    }

    pub(crate) fn events(self) -> Events {
        let (events, mut open) = mpsc::unbounded_channel::<Bytes>();
        let chunks =
            stream::poll_fn(move |cx| open.poll_recv(cx).map(|chunk| chunk.map(Ok::<_, Infallible>)));
        self.answer(200, &[("content-type", "text/event-stream")], Body::from_stream(chunks));
        Events(events)
    }

    /// Waits until nobody waits for the answer any more.
    pub(crate) async fn abandoned(mut self) {
        timeout(LONG, self.answer.closed()).await.expect("it is given up");
    }
}

impl Events {
    pub(crate) fn send(&self, text: impl Into<String>) {
        let _ = self.0.send(text.into().into());
    }

    pub(crate) fn message(&self, message: impl AsRef<str>) {
        self.send(format!("data: {}\n\n", message.as_ref()));
    }

    /// Waits until nobody reads it any more.
    pub(crate) async fn closed(self) {
        timeout(LONG, self.0.closed()).await.expect("it is closed");
    }
}
