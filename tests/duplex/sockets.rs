//! WebSockets whose far side is played by hand, over a pipe in memory, so that the clock is the test's.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        protocol::{Role, frame::Utf8Bytes},
    },
};
use tower_seal::{
    Error,
    duplex::{
        self, Frame, Sealed,
        websocket::{self, WebSocket},
    },
    error::Code,
    protocol::Destination,
};

use crate::support::*;

pub(crate) fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(Utf8Bytes::try_from(text).unwrap()),
        Frame::Binary(bytes) => Message::Binary(bytes),
    }
}

fn frame(message: Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Some(Frame::Text(text.into())),
        Message::Binary(bytes) => Some(Frame::Binary(bytes)),
        _ => None,
    }
}

/// A client's WebSocket as a transport.
pub(crate) async fn client_side(io: DuplexStream) -> impl duplex::Transport {
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    socket
        .filter_map(|got| std::future::ready(got.map(frame).transpose()))
        .with(|frame| std::future::ready(Ok::<_, WsError>(message(frame))))
}

pub(crate) fn destination() -> Destination<'static> {
    Destination { target: Some("/"), ..Destination::default() }
}

/// A server's socket under test, and a client over it.
async fn pair(
    sides: &Sides,
    here: DuplexStream,
    there: DuplexStream,
) -> (Sealed<impl duplex::Transport + use<>>, Sealed<WebSocket<DuplexStream>>) {
    let acceptor = sides.acceptor();
    let (client, server) = tokio::join!(
        duplex::connect(client_side(here).await, &sides.client, destination()),
        websocket::accept_upgraded(there, &acceptor, "/")
    );
    (client.unwrap(), server.unwrap())
}

/// The same, where every message of the client goes through the hands of the test.
pub(crate) struct ByHand {
    pub(crate) client: Sealed<End>,
    pub(crate) near_client: End,
    pub(crate) socket: WebSocketStream<DuplexStream>,
    pub(crate) server: Sealed<WebSocket<DuplexStream>>,
}

pub(crate) async fn by_hand(sides: &Sides) -> ByHand {
    let (here, there) = tokio::io::duplex(1 << 16);
    let mut socket = WebSocketStream::from_raw_socket(here, Role::Client, None).await;
    let (end, mut near_client) = frames();
    let carry = async {
        for _ in 0..2 {
            socket.send(message(near_client.get().await)).await.unwrap();
            near_client.put(frame(socket.next().await.unwrap().unwrap()).unwrap()).await;
        }
    };
    let acceptor = sides.acceptor();
    let (client, server, ()) = tokio::join!(
        duplex::connect(end, &sides.client, destination()),
        websocket::accept_upgraded(there, &acceptor, "/"),
        carry
    );
    ByHand { client: client.unwrap(), near_client, socket, server: server.unwrap() }
}

/// Carries 4 KiB in a second, each way.
fn slow_link() -> (DuplexStream, DuplexStream) {
    async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
        let mut part = [0; 1024];
        while let Ok(read @ 1..) = from.read(&mut part).await {
            if to.write_all(&part[..read]).await.is_err() {
                return;
            }
            tokio::time::sleep(SECOND * u32::try_from(read).unwrap() / 4096).await;
        }
    }
    let ((here, near_here), (there, near_there)) = (tokio::io::duplex(4096), tokio::io::duplex(4096));
    let ((a, b), (c, d)) = (tokio::io::split(near_here), tokio::io::split(near_there));
    tokio::spawn(carry(a, d));
    tokio::spawn(carry(c, b));
    (here, there)
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_full_for_long_is_no_silent_peer() {
    let sides = Sides::new();
    let (here, there) = slow_link();
    let (mut client, server) = pair(&sides, here, there).await;
    let (mut sender, mut receiver) = server.into_split();
    let began = Instant::now();
    let send = async {
        for _ in 0..2 {
            sender.send(vec![7; MIB / 2].into()).await.unwrap();
        }
    };
    let get = async {
        for _ in 0..2 {
            assert_eq!(client.next().await.unwrap().unwrap().len(), MIB / 2);
        }
    };
    tokio::select! {
        _ = async { tokio::join!(send, get) } => {}
        message = receiver.next() => panic!("{message:?}"),
    }
    assert!(began.elapsed() > 200 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn so_is_one_whose_message_takes_long_to_come() {
    let sides = Sides::new();
    let (here, there) = slow_link();
    let (mut client, mut server) = pair(&sides, here, there).await;
    let began = Instant::now();
    let (sent, got) = tokio::join!(client.send(vec![7; MIB].into()), server.next());
    sent.unwrap();
    assert_eq!(got.unwrap().unwrap().len(), MIB);
    assert!(began.elapsed() > 200 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_left_by_who_only_reads() {
    let sides = Sides::new();
    let (here, there) = tokio::io::duplex(4096);
    let (_client, mut server) = pair(&sides, here, there).await;
    assert!(server.send(vec![7; MIB].into()).now_or_never().is_none());
    // Once it has been signed it goes as far as it can.
    tokio::task::yield_now().await;
    assert!(server.flush().now_or_never().is_none());
    let began = Instant::now();
    assert_eq!(code(server.next().await.unwrap()), Code::Timeout);
    // Until a ping is due, then until too much time has passed, and for the last words.
    assert_eq!(began.elapsed().as_secs(), 30 + 300 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_left() {
    let sides = Sides::new();
    let (here, there) = tokio::io::duplex(4096);
    let (_client, mut server) = pair(&sides, here, there).await;
    let began = Instant::now();
    assert_eq!(code(server.next().await.unwrap()), Code::Timeout);
    assert_eq!(began.elapsed().as_secs(), 30 + 120);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_after_the_end_of_one_direction() {
    let sides = Sides::new();
    let ByHand { mut client, mut near_client, mut socket, mut server } = by_hand(&sides).await;
    client.close().await.unwrap();
    socket.send(message(near_client.get().await)).await.unwrap();
    assert!(server.next().await.is_none());
    let ping = async {
        for text in ["one", "two"] {
            socket.send(Message::Ping(text.into())).await.unwrap();
            loop {
                match socket.next().await.unwrap().unwrap() {
                    Message::Pong(answer) => break assert_eq!(answer, text),
                    other => assert!(other.is_ping(), "{other:?}"),
                }
            }
            // Long enough to be asked back.
            tokio::time::sleep(100 * SECOND).await;
        }
    };
    tokio::select! {
        () = ping => {}
        gone = server.gone() => panic!("{gone:?}"),
    }
    // Once the far side goes, that is known.
    drop(socket);
    server.gone().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanishes_after_its_end_is_missed() {
    let sides = Sides::new();
    let ByHand { mut client, mut near_client, mut socket, mut server } = by_hand(&sides).await;
    client.close().await.unwrap();
    socket.send(message(near_client.get().await)).await.unwrap();
    assert!(server.next().await.is_none());
    assert_eq!(code(server.gone().await), Code::Timeout);
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn what_no_websocket_says_is_malformed() {
    for (bytes, what) in [
        (&[0xc1_u8, 0x80, 0, 0, 0, 0][..], "a reserved bit"),
        (&[0x81, 0x00], "not masked"),
        (&[0x83, 0x80, 0, 0, 0, 0], "an opcode that is none"),
        (&[0x80, 0x80, 0, 0, 0, 0], "a continuation of nothing"),
    ] {
        let sides = Sides::new();
        let ByHand { mut socket, mut server, client: _client, .. } = by_hand(&sides).await;
        socket.get_mut().write_all(bytes).await.unwrap();
        assert_failed(&mut server, Code::Malformed).await;
        assert_eq!(sides.server.telemetry().rejections(Code::Malformed), 1, "{what}");
        let told = socket.next().await.unwrap().unwrap();
        assert_eq!(error_code(told.to_text().unwrap()), "malformed");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_final_in_every_way() {
    for close in [true, false] {
        let sides = Sides::new();
        let ByHand { mut socket, mut server, client: _client, .. } = by_hand(&sides).await;
        if close {
            socket.close(None).await.unwrap();
        } else {
            drop(socket);
        }
        assert_failed(&mut server, Code::Truncated).await;
    }
}

/// The peer has said all, so nothing of it is missing: that it hears no more is another matter.
#[tokio::test(start_paused = true)]
async fn who_goes_after_its_final_is_not_truncated() {
    let sides = Sides::new();
    let ByHand { mut client, mut near_client, mut socket, mut server } = by_hand(&sides).await;
    client.close().await.unwrap();
    socket.send(message(near_client.get().await)).await.unwrap();
    drop(socket);
    assert!(server.next().await.is_none());
    let error = server.send("late".into()).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert_eq!(sides.server.telemetry().rejections(Code::Truncated), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_refused_by_the_length_that_it_announces() {
    let sides = Sides::new();
    let (mut here, there) = tokio::io::duplex(4096);
    here.write_all(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0, 0, 0]).await.unwrap();
    let acceptor = sides.acceptor();
    let accepted = websocket::accept_upgraded(there, &acceptor, "/").await;
    assert_eq!(code(accepted), Code::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_upgrade_that_does_not_end_takes_no_longer_than_a_handshake() {
    let sides = Sides::new();
    let (mut here, there) = tokio::io::duplex(4096);
    here.write_all(b"GET / HTTP/1.1\r\nhost: local").await.unwrap();
    let began = Instant::now();
    assert_eq!(code(websocket::accept(there, &sides.acceptor()).await), Code::Timeout);
    assert_eq!(began.elapsed().as_secs(), 10);
}
