//! A far side at `ws(s)://`: each message is a record of a sealed connection.
//!
//! A connection is made when there is something to say, after a rest that grows with each failure. When one is
//! lost, or cannot be made, all requests that wait are answered with an error; none is sent twice.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    task::JoinHandle,
};
use tower_seal::{
    Config, Error,
    config::PORTABLE_RECORD,
    duplex::{
        Receiver, Redial, Sealed,
        websocket::{self, ClientSocket, Options},
    },
};

use super::{
    HELD_BYTES,
    fault::{Fault, reasons},
    greeting::Greeting,
    message::{Id, Kind, Line},
    salvage::without_asks,
    stdio::{Gone, Host},
    waiting::{Asked, Waiting},
};
use crate::{spell::Spell, whom::FarSide};

/// The rests between attempts; not longer, since somebody waits meanwhile.
const RESTS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Messages on their way to the socket.
const QUEUE: usize = 8;
/// Messages that wait to be on their way; then stdin waits.
const HELD: usize = 2048;

type Dialed = Result<Sealed<ClientSocket>, Error>;

pub(super) struct WebSocket {
    far_side: FarSide,
    dial: mpsc::Sender<()>,
    dialed: mpsc::Receiver<Dialed>,
    is_dialing: bool,
    connection: Option<Connection>,
    greeting: Greeting,
    waiting: Waiting<Sent>,
    asked: Asked,
    held: VecDeque<Line>,
    /// Stdin has.
    is_ended: bool,
    /// What the far side sends that is of no use.
    bad: Spell,
}

/// Whether a request may have come to the far side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Perhaps,
    /// It may, and does no harm when it comes again.
    Harmless,
    No,
}

struct Connection {
    out: mpsc::Sender<Bytes>,
    writer: JoinHandle<()>,
    receiver: Receiver<ClientSocket>,
    /// The far side is being told again who the host is. Until it answers, nothing else is asked.
    is_greeting: bool,
    /// Why it ends, in the words of `tower-seal serve`, which are its last.
    notice: Option<String>,
    /// Something else was said on it.
    is_in_use: bool,
}

/// What happened.
enum Event {
    Told(Line),
    Room(OwnedPermit<Bytes>),
    Heard(Bytes),
    Lost(String),
    Dialed(Box<Dialed>),
    /// Stdin has.
    Ended,
    /// Nobody waits for anything.
    Over,
}

impl WebSocket {
    /// Of the far side at `url`.
    pub(super) fn new(config: Config, options: Options, url: String, far_side: FarSide) -> Self {
        let (dial, mut orders) = mpsc::channel(1);
        let (connected, dialed) = mpsc::channel(1);
        tokio::spawn(async move {
            let dial = || websocket::connect(&url, &config, &options);
            let mut redial = Redial::new(dial).rests(RESTS.0, RESTS.1);
            while orders.recv().await.is_some() && connected.send(redial.attempt().await).await.is_ok() {}
        });
        WebSocket {
            far_side,
            dial,
            dialed,
            is_dialing: false,
            connection: None,
            greeting: Greeting::default(),
            waiting: Waiting::new(),
            asked: Asked::default(),
            held: VecDeque::new(),
            is_ended: false,
            bad: Spell::default(),
        }
    }

    /// Carries messages until the host has no more, and those that it asked are answered.
    pub(super) async fn run(&mut self, host: &mut Host) -> Result<(), Gone> {
        loop {
            match self.event(host).await? {
                Event::Told(line) => self.told(line, host).await?,
                Event::Room(room) => self.send(room),
                Event::Heard(bytes) => self.heard(bytes, host).await?,
                Event::Lost(why) => self.lost(&why, host).await?,
                Event::Dialed(dialed) => match *dialed {
                    Ok(sealed) => self.connected(sealed),
                    Err(error) => self.unreached(&error, host).await?,
                },
                Event::Ended => self.is_ended = true,
                Event::Over => return Ok(()),
            }
        }
    }

    /// The requests that have no answer, and get none any more.
    pub(super) fn waiting(&mut self) -> Vec<Id> {
        self.waiting.drain().into_iter().map(|(id, _)| id).collect()
    }

    /// Tells the far side that nothing follows.
    pub(super) async fn finish(mut self) {
        if let Some(Connection { out, writer, mut receiver, .. }) = self.connection.take() {
            drop(out);
            let _ = tokio::join!(writer, async { while let Some(Ok(_)) = receiver.next().await {} });
        }
    }

    /// Dropping this future loses nothing.
    async fn event(&mut self, host: &mut Host) -> Result<Event, Gone> {
        if self.is_ended && self.waiting.is_empty() && self.held.is_empty() {
            return Ok(Event::Over);
        }
        let has_room = !self.is_ended && self.has_room();
        let next = self.next_to_send();
        let connection = self.connection.as_mut();
        let out = connection.as_ref().filter(|_| next.is_some()).map(|connection| connection.out.clone());
        let room = async {
            match out {
                Some(out) => out.reserve_owned().await.ok(),
                None => None,
            }
        };
        let heard = async {
            match connection {
                Some(connection) => connection.receiver.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = host.next(), if has_room => Ok(line?.map_or(Event::Ended, Event::Told)),
            Some(dialed) = self.dialed.recv() => Ok(Event::Dialed(Box::new(dialed))),
            // Without room for ever the connection has failed, of which the receiver tells.
            Some(room) = room => Ok(Event::Room(room)),
            heard = heard => Ok(match heard {
                Some(Ok(bytes)) => Event::Heard(bytes),
                Some(Err(error)) => Event::Lost(reasons(&error)),
                None => Event::Lost("the far side ended it".to_owned()),
            }),
        }
    }

    fn has_room(&self) -> bool {
        let bytes = || self.held.iter().map(|line| line.bytes.len()).sum::<usize>();
        self.held.len() < HELD && bytes() < HELD_BYTES
    }

    /// Where in the queue is what may be sent: while the far side is greeted, only what it asks the host itself.
    fn next_to_send(&self) -> Option<usize> {
        let is_answer = |line: &Line| matches!(line.kind, Kind::Response { .. });
        match &self.connection {
            Some(Connection { is_greeting: false, .. }) if !self.held.is_empty() => Some(0),
            Some(Connection { is_greeting: true, .. }) => self.held.iter().position(is_answer),
            _ => None,
        }
    }

    fn send(&mut self, room: OwnedPermit<Bytes>) {
        let line = self.next_to_send().and_then(|next| self.held.remove(next));
        if let Some(line) = line {
            let sent = if line.is_harmless() { Sent::Harmless } else { Sent::Perhaps };
            self.waiting.mark(&line, &sent);
            room.send(line.bytes);
        }
    }

    /// The host said something.
    async fn told(&mut self, line: Line, host: &Host) -> Result<(), Gone> {
        self.greeting.told(&line);
        if let Some(id) = line.cancels() {
            match self.waiting.answered(&id) {
                Some(Sent::Perhaps | Sent::Harmless) => {}
                // It has been answered, if only with an error, or has not left yet.
                _ => {
                    let left = self.held.iter().position(|line| self.waiting.is_left_by(line, &id));
                    if let Some(left) = left.and_then(|at| self.held.remove(at)) {
                        let is_left = |id| left.asks().contains(&id);
                        self.held.retain(|line| !line.cancels().is_some_and(is_left));
                    }
                    // One of a batch leaves with the others, and is cancelled after that.
                    if !self.held.iter().any(|line| line.asks().contains(&id)) {
                        return Ok(());
                    }
                }
            }
        }
        let is_asking = !line.asks().is_empty();
        let is_wanted = line.answers().is_empty() || self.asked.answer(&line);
        if !is_wanted && !is_asking {
            tracing::debug!("the host answered what nobody waits for any more");
            return Ok(());
        }
        let refused = if line.bytes.len() > PORTABLE_RECORD {
            Some(Fault::new("too_large", "A message over WebSocket has at most 1 MiB: send less at once."))
        } else {
            (is_asking && !self.waiting.ask(&line, &Sent::No)).then(Fault::busy)
        };
        if let Some(fault) = refused {
            tracing::warn!(reason = %fault, "a message was not sent");
            for id in line.asks() {
                host.say(fault.answer(id)).await?;
            }
            for id in line.answers() {
                self.held.extend(Line::read(fault.answer(id)));
            }
            return Ok(());
        }
        let is_alone = self.connection.is_none() && !self.is_dialing;
        if is_alone && !is_asking {
            tracing::debug!("there is nobody to be notified");
            return Ok(());
        }
        self.held.push_back(line);
        if is_alone {
            self.is_dialing = self.dial.try_send(()).is_ok();
        }
        Ok(())
    }

    fn connected(&mut self, sealed: Sealed<ClientSocket>) {
        self.is_dialing = false;
        let (mut sender, receiver) = sealed.into_split();
        let (out, mut messages) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(async move {
            // The receiver tells of failures.
            while let Some(message) = messages.recv().await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            let _ = sender.close().await;
        });
        let again = self.greeting.again().filter(|_| !self.held.iter().any(Line::is_initialize));
        // The channel is new, and so has room.
        let is_greeting = again.is_some_and(|line| out.try_send(line.bytes.clone()).is_ok());
        self.connection =
            Some(Connection { out, writer, receiver, is_greeting, notice: None, is_in_use: false });
    }

    /// The far side said something.
    async fn heard(&mut self, bytes: Bytes, host: &Host) -> Result<(), Gone> {
        let Ok(line) = Line::read(bytes) else {
            if self.bad.begins(Instant::now()) {
                tracing::warn!("the far side sent what is no JSON-RPC message; it was not passed on");
            }
            return Ok(());
        };
        if let Some(connection) = &mut self.connection {
            connection.notice = line.notice();
            connection.is_in_use |= connection.notice.is_none();
        }
        if let Some(connection) = self.connection.as_mut().filter(|connection| connection.is_greeting)
            && self.greeting.is_answer(&line)
        {
            connection.is_greeting = false;
            return match self.greeting.fits(&line) {
                Ok(()) => {
                    self.held.retain(|line| !line.is_notification("notifications/initialized"));
                    self.held.extend(self.greeting.then().cloned());
                    self.held.rotate_right(usize::from(self.greeting.then().is_some()));
                    Ok(())
                }
                Err(fault) => self.give_up(|_| fault.clone(), host).await,
            };
        }
        for id in line.answers() {
            self.waiting.answered(id);
        }
        self.greeting.heard(&line);
        if let Some(id) = line.cancels() {
            self.asked.forget(&id);
        }
        if self.asked.ask(&line) {
            return host.say(line.bytes).await;
        }
        if self.bad.begins(Instant::now()) {
            tracing::warn!("the far side asks more than the host answers; requests are answered with `busy`");
        }
        if self.has_room() {
            self.held.extend(line.asks().iter().filter_map(|id| Line::read(Fault::busy().answer(id)).ok()));
        }
        match without_asks(&line) {
            Some(rest) => host.say(rest.bytes).await,
            None => Ok(()),
        }
    }

    async fn unreached(&mut self, error: &Error, host: &Host) -> Result<(), Gone> {
        self.is_dialing = false;
        tracing::warn!(url = self.far_side.url, error = reasons(error), "not connected");
        let (name, message) = self.far_side.explain(error);
        let fault = Fault::new(name, message);
        self.give_up(|_| fault.clone(), host).await
    }

    async fn lost(&mut self, why: &str, host: &Host) -> Result<(), Gone> {
        let url = self.far_side.url.clone();
        let notice = self.connection.as_mut().and_then(|connection| connection.notice.take());
        let is_in_use = self.connection.as_ref().is_some_and(|connection| connection.is_in_use);
        let why = notice.as_deref().unwrap_or(why);
        tracing::warn!(url, reason = why, "the connection was lost");
        let before = |what, remedy| format!("{url}: the connection was lost before {what} ({why}). {remedy}");
        let fault = |sent| match (sent, why.split_once(": ")) {
            // No server was there to serve it: whoever has spoken before was one.
            (_, Some(("busy", why))) if !is_in_use => Fault::new("busy", format!("{url}: {why}.")),
            (Sent::No, _) => Fault::new("unreachable", before("this was sent", "Try again.")),
            (Sent::Harmless, _) => Fault::new("connection_lost", before("the answer came", "Try again.")),
            (Sent::Perhaps, reason) => {
                let name = reason.map_or("outcome_unknown", |(name, _)| match name {
                    "too_large" => name,
                    _ => "outcome_unknown",
                });
                Fault::new(name, before("the answer came", "Look whether it was done before you repeat it."))
            }
        };
        self.give_up(fault, host).await
    }

    /// Answers all who wait, and leaves the connection, if there is one.
    async fn give_up(&mut self, fault: impl Fn(Sent) -> Fault, host: &Host) -> Result<(), Gone> {
        self.held.clear();
        self.connection = None;
        for (id, sent) in self.waiting.drain() {
            host.say(fault(sent).answer(&id)).await?;
        }
        for cancelled in self.asked.cancel() {
            host.say(cancelled).await?;
        }
        Ok(())
    }
}
