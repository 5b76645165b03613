//! Two-way connections of channels, with both ends driven, or with one end by hand.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::PollSender;
use tower::ServiceExt as _;
use tower_seal::{
    Config, Error,
    config::Limits,
    rpc::{Client, Driver, Message, serve},
};

use crate::support::{App, Watchdog, parse};

/// One end of a connection.
pub(crate) struct Pipe {
    sender: PollSender<Bytes>,
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    /// Longer messages are refused, as a sealed connection does it.
    pub(crate) longest: usize,
}

/// The other end, by hand.
pub(crate) struct Far {
    /// Dropping it ends the stream.
    pub(crate) sender: Option<mpsc::Sender<io::Result<Bytes>>>,
    pub(crate) receiver: mpsc::Receiver<Bytes>,
    _watchdog: Watchdog,
}

/// A connection whose sink holds `capacity` messages that the far side has not read.
pub(crate) fn by_hand(capacity: usize) -> (Pipe, Far) {
    let (sender, receiver) = mpsc::channel(capacity);
    let (far_sender, far_receiver) = mpsc::channel(10_000);
    let pipe = Pipe { sender: PollSender::new(sender), receiver: far_receiver, longest: usize::MAX };
    (pipe, Far { sender: Some(far_sender), receiver, _watchdog: Watchdog::start() })
}

/// Two ends that are each other's far side.
pub(crate) fn pipes(capacity: usize) -> (Pipe, Pipe) {
    fn one(capacity: usize) -> (mpsc::Sender<Bytes>, mpsc::Receiver<io::Result<Bytes>>) {
        let (sender, mut between) = mpsc::channel::<Bytes>(capacity);
        let (out, receiver) = mpsc::channel(capacity);
        tokio::spawn(async move {
            while let Some(message) = between.recv().await {
                if out.send(Ok(message)).await.is_err() {
                    break;
                }
            }
        });
        (sender, receiver)
    }
    let ((a, to_b), (b, to_a)) = (one(capacity), one(capacity));
    (
        Pipe { sender: PollSender::new(a), receiver: to_a, longest: usize::MAX },
        Pipe { sender: PollSender::new(b), receiver: to_b, longest: usize::MAX },
    )
}

impl Stream for Pipe {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

impl Sink<Bytes> for Pipe {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(ready!(self.sender.poll_reserve(cx)).map_err(|_| broken()))
    }

    fn start_send(mut self: Pin<&mut Self>, item: Bytes) -> Result<(), Error> {
        if item.len() > self.longest {
            return Err(Error::Misuse { reason: "too long for this pipe" });
        }
        self.sender.send_item(item).map_err(|_| broken())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

fn broken() -> Error {
    Error::Transport(Arc::new(io::Error::from(io::ErrorKind::BrokenPipe)))
}

impl Far {
    pub(crate) async fn send(&self, message: impl Into<Bytes>) {
        self.sender.as_ref().unwrap().send(Ok(message.into())).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Value {
        parse(&self.receiver.recv().await.unwrap())
    }

    /// Nothing has come.
    pub(crate) fn is_silent(&mut self) -> bool {
        matches!(self.receiver.try_recv(), Err(mpsc::error::TryRecvError::Empty))
    }
}

pub(crate) type End = JoinHandle<Result<(), Error>>;

pub(crate) fn config(change: impl FnOnce(&mut Limits)) -> Config {
    Config::plaintext().limits(crate::support::limits(change))
}

/// A client whose far side is driven by hand.
pub(crate) fn client(config: &Config, capacity: usize) -> (Client, Far, End) {
    let (pipe, far) = by_hand(capacity);
    let (client, driver) = Client::connect(config, pipe);
    (client, far, tokio::spawn(driver))
}

/// `app`, served to a far side that is driven by hand.
pub(crate) fn served(config: &Config, app: App) -> (Client, Far, End) {
    let (pipe, far) = by_hand(10_000);
    let driver: Driver<_, _> = serve(config, pipe, app);
    (driver.client(), far, tokio::spawn(driver))
}

pub(crate) async fn call(client: &Client, message: impl Into<Message>) -> Result<Option<Bytes>, Error> {
    client.clone().oneshot(message.into()).await
}
