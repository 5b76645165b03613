//! The transport itself, with a far side that is played by hand, over any connection of messages.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};
use rmcp::{
    RoleClient, RoleServer,
    model::{
        ClientJsonRpcMessage, ClientRequest, JsonRpcMessage, PingRequest, RequestId, ServerJsonRpcMessage,
    },
    transport::Transport,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{PollSendError, PollSender};
use tower_seal::{
    Config, Error, Verified,
    duplex::{Acceptor, pipe},
    error::Code,
    mcp::{self, MessageTransport},
    protocol::Destination,
};

use crate::support::{Sides, Watchdog};

/// One end of a connection of which nothing but messages is known.
struct Pipe {
    incoming: mpsc::UnboundedReceiver<io::Result<Bytes>>,
    outgoing: PollSender<Bytes>,
}

impl Stream for Pipe {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.incoming.poll_recv(cx)
    }
}

impl Sink<Bytes> for Pipe {
    type Error = PollSendError<Bytes>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.outgoing.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Bytes) -> Result<(), Self::Error> {
        self.outgoing.start_send_unpin(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.outgoing.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.outgoing.poll_close_unpin(cx)
    }
}

struct Far {
    say: mpsc::UnboundedSender<io::Result<Bytes>>,
    heard: mpsc::Receiver<Bytes>,
    _watchdog: Watchdog,
}

impl Far {
    fn say(&self, text: &'static str) {
        self.say.send(Ok(Bytes::from_static(text.as_bytes()))).unwrap();
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_slice(&self.heard.recv().await.unwrap()).unwrap()
    }
}

fn by_hand() -> (MessageTransport<Pipe>, Far) {
    let (say, incoming) = mpsc::unbounded_channel();
    let (outgoing, heard) = mpsc::channel(2);
    let pipe = Pipe { incoming, outgoing: PollSender::new(outgoing) };
    (MessageTransport::new(pipe), Far { say, heard, _watchdog: Watchdog::start() })
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn receive(transport: &mut impl Transport<RoleServer>) -> Option<ClientJsonRpcMessage> {
    transport.receive().await
}

#[tokio::test]
async fn what_is_no_message_is_ignored_or_objected_to_and_ends_nothing() {
    let (mut transport, mut far) = by_hand();
    for ignored in ["", "hello", "{", r#"{"method":"notifications/strange"}"#] {
        far.say(ignored);
    }
    for invalid in ["[]", "{}", r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#] {
        far.say(invalid);
    }
    // Over lines of text this would be many messages.
    far.say("{\n  \"jsonrpc\": \"2.0\",\r\n  \"id\": 1,\n  \"method\": \"ping\"\n}\n");
    let (message, objections) = tokio::join!(receive(&mut transport), async {
        [far.hear().await, far.hear().await, far.hear().await]
    });
    let Some(JsonRpcMessage::Request(ping)) = message else { panic!("{message:?}") };
    assert_eq!(ping.id, RequestId::Number(1));
    // Nobody knows who says so.
    let ClientRequest::PingRequest(ping) = ping.request else { panic!("{ping:?}") };
    assert!(ping.extensions.get::<Verified>().is_none());
    for (objection, id) in objections.into_iter().zip([json!(null), json!(null), json!(7)]) {
        assert_eq!((&objection["id"], &objection["error"]["code"]), (&id, &json!(-32600)), "{objection}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_the_call_that_it_is_for() {
    let (mut transport, mut far) = by_hand();
    for answer in [r#"{"jsonrpc":"2.0","id":"a","error":7}"#, r#"{"jsonrpc":"1.0","id":1,"result":{}}"#] {
        far.say(answer);
    }
    for id in [RequestId::String("a".into()), RequestId::Number(1)] {
        let message = Transport::<RoleClient>::receive(&mut transport).await;
        let Some(JsonRpcMessage::Error(error)) = message else { panic!("{message:?}") };
        assert_eq!(error.id, Some(id));
    }
    assert!(far.heard.try_recv().is_err(), "nobody is told");
}

#[tokio::test]
async fn an_objection_is_made_once_however_often_reading_is_given_up() {
    let (mut transport, mut far) = by_hand();
    // The far side reads nothing yet: there is room for two of these.
    (0..3).for_each(|_| far.say("{}"));
    for _ in 0..20 {
        let mut receiving = Box::pin(receive(&mut transport));
        assert!(futures_util::poll!(receiving.as_mut()).is_pending());
    }
    far.say(PING);
    let (message, _) = tokio::join!(receive(&mut transport), async {
        for _ in 0..3 {
            assert_eq!(far.hear().await["error"]["code"], -32600);
        }
    });
    assert!(matches!(message, Some(JsonRpcMessage::Request(_))));
    drop(transport);
    assert!(far.heard.recv().await.is_none());
}

#[tokio::test]
async fn a_connection_that_fails_ends_the_transport_with_its_error() {
    let (mut transport, far) = by_hand();
    far.say(PING);
    far.say.send(Err(io::Error::other("cut"))).unwrap();
    far.say(PING);
    assert!(receive(&mut transport).await.is_some());
    assert!(receive(&mut transport).await.is_none());
    assert!(receive(&mut transport).await.is_none());
    let Err(Error::Transport(error)) = Transport::<RoleServer>::close(&mut transport).await else { panic!() };
    assert_eq!(error.to_string(), "cut");
}

#[tokio::test]
async fn an_error_of_the_seal_stays_what_it_is() {
    let sides = Sides::new();
    let (near, far) = sides.pipe().await;
    let mut transport = mcp::transport(near);
    drop(far);
    assert!(Transport::<RoleClient>::receive(&mut transport).await.is_none());
    let ping = || ClientJsonRpcMessage::request(PingRequest::default().into(), RequestId::Number(1));
    let sent = Transport::<RoleClient>::send(&mut transport, ping()).await;
    assert_eq!(sent.unwrap_err().code(), Some(Code::Truncated));
    assert_eq!(
        Transport::<RoleClient>::close(&mut transport).await.unwrap_err().code(),
        Some(Code::Truncated)
    );
}

#[tokio::test]
async fn closing_waits_for_what_was_sent_and_for_the_end_of_the_far_side() {
    let sides = Sides::new();
    let (near, mut far) = sides.pipe().await;
    let mut transport = mcp::transport(near);
    let ping = ClientJsonRpcMessage::request(PingRequest::default().into(), RequestId::Number(1));
    let sending = Transport::<RoleClient>::send(&mut transport, ping);
    let ending = async {
        assert_eq!(far.next().await.unwrap().unwrap(), PING);
        assert!(far.next().await.is_none());
        // What still comes now is nobody's any more.
        far.send(PING.into()).await.unwrap();
        far.close().await.unwrap();
    };
    let (sent, closed, ()) = tokio::join!(sending, Transport::<RoleClient>::close(&mut transport), ending);
    sent.unwrap();
    closed.unwrap();
    let after = ClientJsonRpcMessage::request(PingRequest::default().into(), RequestId::Number(2));
    assert!(Transport::<RoleClient>::send(&mut transport, after).await.is_err());
    assert!(Transport::<RoleClient>::receive(&mut transport).await.is_none());
}

/// The clock stands: what this waits for is the limit itself.
#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever() {
    let sides = Sides::new();
    let (near, far) = sides.pipe().await;
    let mut transport = mcp::transport(near);
    let before = tokio::time::Instant::now();
    Transport::<RoleClient>::close(&mut transport).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 2);
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever_for_a_far_side_that_reads_nothing() {
    let (mut transport, far) = by_hand();
    let ping = |id| ClientJsonRpcMessage::request(PingRequest::default().into(), RequestId::Number(id));
    let mut sends: Vec<_> =
        (0..4).map(|id| Transport::<RoleClient>::send(&mut transport, ping(id)).boxed()).collect();
    // There is room for two; the third has its turn, and keeps it.
    for (i, send) in sends.iter_mut().enumerate() {
        assert_eq!(futures_util::poll!(send.as_mut()).is_ready(), i < 2);
    }
    let before = tokio::time::Instant::now();
    let closed = Transport::<RoleClient>::close(&mut transport).await;
    assert!(matches!(closed, Err(Error::TimedOut { .. })), "{closed:?}");
    assert_eq!(before.elapsed().as_secs(), 5);
    drop(far);
}

#[tokio::test]
async fn nobody_is_at_the_other_end_of_a_connection_that_is_not_sealed() {
    let acceptor = Acceptor::new(Config::plaintext());
    let (here, there) = tokio::io::duplex(4096);
    let config = Config::plaintext();
    let (near, far) = tokio::try_join!(
        pipe::connect(here, &config, Destination::default()),
        pipe::accept(there, &acceptor)
    )
    .unwrap();
    let (mut near, mut far) = (mcp::transport(near), mcp::transport(far));
    let ping = ClientJsonRpcMessage::request(PingRequest::default().into(), RequestId::Number(1));
    Transport::<RoleClient>::send(&mut near, ping).await.unwrap();
    let Some(JsonRpcMessage::Request(ping)) = receive(&mut far).await else { panic!() };
    let ClientRequest::PingRequest(ping) = ping.request else { panic!("{ping:?}") };
    assert!(ping.extensions.get::<Verified>().is_none());
}

/// Answers may be sent from many tasks at once, to a far side that reads slowly.
#[tokio::test]
async fn many_tasks_send_at_once() {
    let (mut transport, mut far) = by_hand();
    let sends: Vec<_> = (0..100)
        .map(|id| {
            let error = rmcp::model::ErrorData::internal_error("no", None);
            let message = ServerJsonRpcMessage::error(error, Some(RequestId::Number(id)));
            tokio::spawn(Transport::<RoleServer>::send(&mut transport, message))
        })
        .collect();
    let mut ids: Vec<_> = Vec::new();
    for _ in 0..100 {
        ids.push(far.hear().await["id"].as_i64().unwrap());
    }
    for send in sends {
        send.await.unwrap().unwrap();
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}
