//! Two sides of a connection, and a middle that does as it likes: whatever it does, each application gets a
//! beginning of what the other one sent, and an end only where the other one ended.

#![no_main]

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use libfuzzer_sys::fuzz_target;
use tokio::{sync::mpsc, time::timeout};
use tower_seal::{
    Error,
    config::Encoding,
    duplex::{self, Acceptor, Frame, Sealed},
    protocol::Destination,
};
use tower_seal_fuzz::{config, handshake, run};

struct End {
    to: Option<mpsc::UnboundedSender<Frame>>,
    from: mpsc::UnboundedReceiver<Frame>,
}

fn pipe() -> (End, End) {
    let ((a, b), (c, d)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    (End { to: Some(a), from: d }, End { to: Some(c), from: b })
}

impl Stream for End {
    type Item = io::Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame>>> {
        self.from.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

impl Sink<Frame> for End {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> io::Result<()> {
        let to = self.to.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        to.send(frame).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to = None;
        Poll::Ready(Ok(()))
    }
}

/// A side, the middle's end of its pipe, and what became of both.
struct Side {
    sealed: Sealed<End>,
    near: End,
    /// What it has sent, and the middle holds.
    held: VecDeque<Frame>,
    past: Vec<Frame>,
    /// What may have left, and how many of these have for certain.
    sent: Vec<Bytes>,
    certain: usize,
    got: Vec<Bytes>,
    /// How many had left for certain when it ended.
    closed: Option<usize>,
    failed: bool,
}

impl Side {
    fn new(sealed: Sealed<End>, near: End) -> Self {
        let (held, past, sent, got) = Default::default();
        Side { sealed, near, held, past, sent, certain: 0, got, closed: None, failed: false }
    }

    fn carry(&mut self) {
        while let Ok(frame) = self.near.from.try_recv() {
            self.held.push_back(frame);
        }
    }

    fn deliver(&mut self, frame: Frame) {
        let _ = self.near.to.as_ref().map(|to| to.send(frame));
    }

    async fn send(&mut self, length: u8) {
        let message = Bytes::from(vec![self.sent.len() as u8; length.into()]);
        let sent = timeout(MOMENT, self.sealed.send(message.clone())).await;
        if !matches!(sent, Ok(Err(Error::Misuse { .. }))) {
            self.sent.push(message);
        }
        self.certain += usize::from(matches!(sent, Ok(Ok(()))));
    }

    async fn close(&mut self) {
        self.closed.get_or_insert(self.certain);
        let _ = timeout(MOMENT, self.sealed.close()).await;
    }

    /// Reads one message, of those that `there` has sent.
    async fn read(&mut self, there: &Side) {
        match timeout(MOMENT, self.sealed.next()).await {
            Err(_) => {}
            Ok(Some(Ok(message))) => {
                assert!(!self.failed, "a message after a failure");
                assert_eq!(there.sent.get(self.got.len()), Some(&message));
                self.got.push(message);
            }
            Ok(Some(Err(_))) => self.failed = true,
            Ok(None) => {
                let ended = there.closed.is_some_and(|certain| self.got.len() >= certain);
                assert!(self.failed || ended, "an end that nobody made");
            }
        }
    }
}

/// The clock stands, so this is only how long everybody else has had a turn.
const MOMENT: Duration = Duration::from_millis(1);

/// With one bit of one of the first 256 bytes changed; in JSON that is a character of some field.
fn flipped(frame: Frame, at: u8) -> Frame {
    let is_text = matches!(frame, Frame::Text(_));
    let mut bytes = frame.into_bytes().to_vec();
    bytes.get_mut(usize::from(at)).into_iter().for_each(|byte| *byte ^= 1 << (at % 7));
    if is_text { Frame::Text(bytes.into()) } else { Frame::Binary(bytes.into()) }
}

fuzz_target!(|data: &[u8]| run(async {
    let Some((json, mut data)) = data.split_first() else { return };
    let vector = handshake("duplex-every");
    let encoding = if json & 1 == 1 { Encoding::Json } else { Encoding::Binary };
    let client = config(vector, "initiator").encoding(encoding);
    let acceptor = Acceptor::new(config(vector, "responder"));
    let ((a, mut near_client), (b, mut near_server)) = (pipe(), pipe());
    let carry = async {
        for _ in 0..2 {
            near_server.send(near_client.next().await.unwrap().unwrap()).await.unwrap();
            near_client.send(near_server.next().await.unwrap().unwrap()).await.unwrap();
        }
    };
    let connect = duplex::connect(a, &client, Destination::default());
    let (client, server, ()) = tokio::join!(connect, duplex::accept(b, &acceptor, None), carry);
    let mut sides = [Side::new(client.unwrap(), near_client), Side::new(server.unwrap(), near_server)];
    // Two bytes an event: what happens on which side, and how much of it.
    while let Some(([event, much], rest)) = data.split_first_chunk() {
        data = rest;
        let [client, server] = &mut sides;
        let (here, there) = if event & 0x80 == 0 { (client, server) } else { (server, client) };
        match event & 0x0f {
            0 => here.send(*much).await,
            1 => here.close().await,
            2 => here.carry(),
            // On its way to the other side, or back to where it came from.
            3 | 4 => {
                here.carry();
                if let Some(frame) = here.held.pop_front() {
                    here.past.push(frame.clone());
                    if event & 0x0f == 3 { there.deliver(frame) } else { here.deliver(frame) }
                }
            }
            5 => {
                let frame = here.past.iter().rev().nth(usize::from(*much)).cloned();
                frame.into_iter().for_each(|frame| there.deliver(frame));
            }
            6 => drop(here.held.pop_front()),
            7 if here.held.len() > 1 => here.held.swap(0, 1),
            8 => {
                let frame = here.held.pop_front();
                frame.into_iter().for_each(|frame| here.held.push_front(flipped(frame, *much)));
            }
            9 | 10 => {
                let (forged, rest) = data.split_at(data.len().min(usize::from(*much)));
                data = rest;
                let forged = Bytes::copy_from_slice(forged);
                there.deliver(if event & 0x0f == 9 { Frame::Text(forged) } else { Frame::Binary(forged) });
            }
            11 => here.near.to = None,
            12 => tokio::time::sleep(Duration::from_secs(u64::from(*much) * 600)).await,
            _ => here.read(there).await,
        }
    }
}));
