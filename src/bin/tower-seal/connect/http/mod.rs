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
mod learning;
mod renewal;

use std::collections::{HashMap, VecDeque};

use http::Uri;
use tokio::{sync::mpsc, task::AbortHandle};
use tower_seal::Config;

use super::{
    HELD_BYTES,
    fault::Fault,
    greeting::Greeting,
    message::{Id, Line},
    stdio::{Gone, Host},
    waiting::{Asked, Waiting},
};
use crate::{spell::Spell, upstream, whom::FarSide};

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
    /// Calls that wait for a list of the tools.
    unlisted: Vec<Held>,
    /// Answers to the server, and cancellations: one at a time, and held up by no other message.
    controls: VecDeque<Line>,
    exchanges: HashMap<u64, Under>,
    /// The one that others have to wait for.
    barrier: Option<u64>,
    control: Option<u64>,
    /// The stream of what the server says unasked.
    unasked: Option<(u64, AbortHandle)>,
    /// Why there is none in this session.
    unheard: Option<Fault>,
    last: u64,
    tell: mpsc::Sender<(u64, Event)>,
    events: mpsc::Receiver<(u64, Event)>,
    /// Stdin has.
    is_ended: bool,
    /// Requests of the server for which there is no room.
    bad: Spell,
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
    /// The answer is to come on the stream of what the server says unasked.
    is_accepted: bool,
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
    /// A request of our own, for a page of the tools.
    List {
        page: u32,
    },
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
            unlisted: Vec::new(),
            controls: VecDeque::new(),
            exchanges: HashMap::new(),
            barrier: None,
            control: None,
            unasked: None,
            unheard: None,
            last: 0,
            tell,
            events,
            is_ended: false,
            bad: Spell::default(),
        }
    }

    /// Carries messages until the host has no more, and those that it asked are answered.
    pub(super) async fn run(&mut self, host: &mut Host) -> Result<(), Gone> {
        loop {
            self.start(host).await?;
            match self.next(host).await? {
                Next::Told(line) => self.told(line, host).await?,
                Next::Event(number, event) => self.event(number, event, host).await?,
                Next::Ended => self.is_ended = true,
                Next::Over => return Ok(()),
            }
        }
    }

    /// The requests that have no answer, and get none any more.
    pub(super) fn waiting(&mut self) -> Vec<Id> {
        self.waiting.drain().into_iter().map(|(id, _)| id).collect()
    }

    /// Leaves what is under way, and ends the session.
    pub(super) async fn finish(mut self) {
        for (_, exchange) in self.exchanges.drain() {
            exchange.task.abort();
        }
        self.listen_no_more();
        if self.session.id.is_some() {
            self.far.delete(&self.session).await;
        }
    }

    /// Dropping this future loses nothing.
    async fn next(&mut self, host: &mut Host) -> Result<Next, Gone> {
        if self.is_ended && self.waiting.is_empty() && self.held.is_empty() && self.exchanges.is_empty() {
            return Ok(Next::Over);
        }
        let has_room = !self.is_ended && self.has_room();
        tokio::select! {
            line = host.next(), if has_room => Ok(line?.map_or(Next::Ended, Next::Told)),
            Some((number, event)) = self.events.recv() => Ok(Next::Event(number, event)),
        }
    }

    fn has_room(&self) -> bool {
        self.held.len() < HELD && self.controls.len() < HELD && self.bytes_held() < HELD_BYTES
    }

    fn bytes_held(&self) -> usize {
        let held = self.held.iter().map(|held| &held.line);
        held.chain(&self.controls).map(|line| line.bytes.len()).sum()
    }

    /// Whether a request may be taken: those under way stay until they are answered, and cannot be waited for, as that
    /// may take an answer of the host.
    fn has_room_for(&self, line: &Line) -> bool {
        let underway = self.exchanges.values().map(|exchange| &exchange.line);
        let underway = underway.chain(self.unlisted.iter().map(|held| &held.line));
        let underway: usize = underway.map(|line| line.bytes.len()).sum();
        line.asks().is_empty() || self.bytes_held() + underway + line.bytes.len() <= HELD_BYTES
    }

    /// The host said something.
    async fn told(&mut self, line: Line, host: &Host) -> Result<(), Gone> {
        self.greeting.told(&line);
        if let Some(id) = line.cancels() {
            match self.waiting.answered(&id) {
                // It has been answered, if only with an error.
                None => {}
                Some(Place::Held) => {
                    self.held.retain(|held| !self.waiting.is_left_by(&held.line, &id));
                    self.unlisted.retain(|held| !self.waiting.is_left_by(&held.line, &id));
                }
                Some(Place::Posted(number)) => match self.exchanges.get(&number) {
                    // The end of its stream says so.
                    Some(exchange) if exchange.is_modern => self.abort(number),
                    _ => self.controls.push_back(line),
                },
            }
            return Ok(());
        }
        let is_answering = !line.answers().is_empty();
        let is_wanted = is_answering && self.asked.answer(&line);
        if is_answering && line.asks().is_empty() {
            if is_wanted {
                self.controls.push_back(line);
            } else {
                tracing::debug!("the host answered what nobody waits for any more");
            }
        } else if self.has_room_for(&line) && self.waiting.ask(&line, &Place::Held) {
            self.held.push_back(Held { line, is_again: false });
        } else {
            for id in line.asks() {
                host.say(Fault::busy().answer(id)).await?;
            }
        }
        Ok(())
    }
}
