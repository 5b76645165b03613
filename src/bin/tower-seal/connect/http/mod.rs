//! A far side at `http(s)://`: MCP's Streamable HTTP, in the era that the host speaks.
//!
//! | | 2025-11-25, which begins with `initialize` | 2026-07-28 |
//! |---|---|---|
//! | a message is | a POST | a POST whose fields mirror it ([`fields`]) |
//! | the server knows the client by | a session | what each message says of it |
//! | what it says unasked comes by | a GET stream | the answer to a request that asks for it |
//! | an answer that breaks off | is gone on with by GET | is lost |
//! | the host cancels a request | by a POST | by the end of the request's stream |
//!
//! One loop owns the state; each exchange is a task that tells it what comes ([`exchange`]).

mod coming;
mod events;
mod exchange;
mod far;
mod fields;
mod going;
mod renewal;

use std::collections::{HashMap, VecDeque};

use http::Uri;
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tower_seal::Config;

use super::{
    PATIENCE,
    fault::Fault,
    greeting::Greeting,
    message::Line,
    stdio::{Gone, Host},
    waiting::{Asked, Waiting},
};
use crate::{upstream, whom::FarSide};

use exchange::Event;
use far::{Far, Session};
use fields::Tools;

/// Messages of tasks that wait for the loop.
const QUEUE: usize = 16;
/// Exchanges at once.
const MOST: usize = 1024;
/// Messages that wait to be posted; then stdin waits.
const HELD: usize = 2048;

pub(super) struct Http {
    far: Far,
    session: Session,
    /// Counts the sessions.
    epoch: u64,
    /// The server has lost the session, so that the host has to be introduced again before anything else.
    is_lost: bool,
    greeting: Greeting,
    tools: Tools,
    waiting: Waiting<Place>,
    asked: Asked,
    held: VecDeque<Held>,
    /// Answers to the server, and cancellations: one at a time, and held up by no other message.
    controls: VecDeque<Line>,
    exchanges: HashMap<u64, Under>,
    /// The one that others have to wait for.
    barrier: Option<u64>,
    control: Option<u64>,
    /// The stream of what the server says unasked.
    unasked: Option<(u64, AbortHandle)>,
    last: u64,
    tell: mpsc::Sender<(u64, Event)>,
    events: mpsc::Receiver<(u64, Event)>,
    /// Set at the end of stdin.
    until: Option<Instant>,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Held,
    Posted(u64),
}

struct Held {
    line: Line,
    /// It came to a session that the server had lost, which happens to a message once.
    is_again: bool,
}

/// An exchange that is under way.
struct Under {
    line: Line,
    purpose: Purpose,
    is_again: bool,
    is_modern: bool,
    epoch: u64,
    task: AbortHandle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The host's `initialize`.
    Greet,
    /// The same to another session.
    GreetAgain,
    /// `notifications/initialized`, for the first time or again.
    Greeted,
    Control,
    Message,
}

enum Next {
    Told(Line),
    Event(u64, Event),
    Ended,
    Over,
}

impl Http {
    pub(super) fn new(config: Config, http: upstream::Http, url: Uri, far_side: FarSide) -> Self {
        let (tell, events) = mpsc::channel(QUEUE);
        Http {
            far: Far::new(config, http, url, far_side),
            session: Session::default(),
            epoch: 0,
            is_lost: false,
            greeting: Greeting::default(),
            tools: Tools::default(),
            waiting: Waiting::new(),
            asked: Asked::default(),
            held: VecDeque::new(),
            controls: VecDeque::new(),
            exchanges: HashMap::new(),
            barrier: None,
            control: None,
            unasked: None,
            last: 0,
            tell,
            events,
            until: None,
        }
    }

    /// Carries messages until the host has no more, and those that it asked are answered.
    pub(super) async fn run(&mut self, host: &mut Host) -> Result<(), Gone> {
        loop {
            self.start();
            match self.next(host).await? {
                Next::Told(line) => self.told(line, host).await?,
                Next::Event(number, event) => self.event(number, event, host).await?,
                Next::Ended => self.until = Some(Instant::now() + PATIENCE),
                Next::Over => return Ok(()),
            }
        }
    }

    /// Tells those who still wait that nothing comes, and ends the session.
    pub(super) async fn finish(mut self, host: &Host) {
        for (_, exchange) in self.exchanges.drain() {
            exchange.task.abort();
        }
        if let Some((_, task)) = self.unasked.take() {
            task.abort();
        }
        for (id, _) in self.waiting.drain() {
            let _ = host.say(Fault::stopped().answer(&id)).await;
        }
        if self.session.id.is_some() {
            self.far.delete(&self.session).await;
        }
    }

    /// Dropping this future loses nothing.
    async fn next(&mut self, host: &mut Host) -> Result<Next, Gone> {
        let is_ended = self.until.is_some();
        if is_ended && self.waiting.is_empty() && self.held.is_empty() && self.exchanges.is_empty() {
            return Ok(Next::Over);
        }
        let has_room = !is_ended && self.held.len() < HELD && self.controls.len() < HELD;
        tokio::select! {
            line = host.next(), if has_room => Ok(line?.map_or(Next::Ended, Next::Told)),
            Some((number, event)) = self.events.recv() => Ok(Next::Event(number, event)),
            () = sleep_until(self.until.unwrap_or_else(Instant::now)), if is_ended => Ok(Next::Over),
        }
    }

    /// The host said something.
    async fn told(&mut self, line: Line, host: &Host) -> Result<(), Gone> {
        self.greeting.told(&line);
        if let Some(id) = line.cancels() {
            match self.waiting.answered(&id) {
                // It has been answered, if only with an error.
                None => {}
                Some(Place::Held) => self.held.retain(|held| !held.line.asks().contains(&id)),
                Some(Place::Posted(number)) => match self.exchanges.get(&number) {
                    // The end of its stream says so.
                    Some(exchange) if exchange.is_modern => self.abort(number),
                    _ => self.controls.push_back(line),
                },
            }
        } else if !line.answers().is_empty() {
            if self.asked.answer(&line) {
                self.controls.push_back(line);
            } else {
                tracing::debug!("the host answered what nobody waits for any more");
            }
        } else if self.waiting.ask(&line, &Place::Held) {
            self.held.push_back(Held { line, is_again: false });
        } else {
            for id in line.asks() {
                host.say(Fault::busy().answer(id)).await?;
            }
        }
        Ok(())
    }
}
