//! A POST and its answer, in a task of its own; and the stream of what the server says unasked.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    events::Events,
    far::{
        Body, Far, LONGEST_ANSWER, LONGEST_REFUSAL, SESSION_ID, Session, Unheard, is_event_stream, is_json,
        is_of_no_session,
    },
    learning::is_mismatch,
};
use crate::{
    connect::{
        fault::{Fault, readdressed},
        message::{Id, Kind, Line},
    },
    problem,
};

/// Responses without any event after which a broken answer is given up.
const RESUMES: u32 = 5;
/// How long a stream may take to end by itself after the answer, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);

pub(super) const LOST_SESSION: &str = "the server has lost the session before the answer came";

/// What a task tells.
pub(super) enum Event {
    /// The head of an answer has come, with this session.
    Began(Option<HeaderValue>),
    Said(Line),
    /// 202: an answer, if one is due, comes on another stream.
    Accepted,
    /// The session is unknown, so the message was not served.
    Expired,
    /// The message lacks fields that mirror it, so it was not served.
    Unmirrored,
    /// There is no stream of what the server says unasked.
    Unheard(Fault),
    Failed(Fault),
    /// All that was asked is answered.
    Done,
}

/// A task, by its number.
pub(super) struct Exchange {
    pub(super) far: Far,
    pub(super) number: u64,
    pub(super) events: mpsc::Sender<(u64, Event)>,
    /// What is still to be answered.
    pub(super) ids: Vec<Id>,
    /// Whether that may be asked again, whatever becomes of it.
    pub(super) is_harmless: bool,
    /// Whether fields may be missing, since the tools were never listed.
    pub(super) may_be_unmirrored: bool,
    pub(super) session: Session,
    /// Whether a broken answer can be gone on with by GET.
    pub(super) may_resume: bool,
}

impl Exchange {
    /// Sends a message and tells of its answer, and lastly of its end.
    pub(super) async fn post(mut self, request: Request<Full<Bytes>>) {
        let mut rest = None;
        let end = self.carry(request, &mut rest).await.unwrap_or_else(Event::Failed);
        self.tell(end).await;
        if let Some(mut rest) = rest {
            let _ = timeout(DRAIN, async move { while rest.next().await.is_ok() {} }).await;
        }
    }

    /// The same, given up after `time`.
    pub(super) async fn post_within(self, time: Duration, request: Request<Full<Bytes>>) {
        let (number, events) = (self.number, self.events.clone());
        if timeout(time, self.post(request)).await.is_err() {
            // An end that was told already is not heard twice.
            let _ = events.send((number, Event::Done)).await;
        }
    }

    async fn tell(&self, event: Event) {
        // At the end nobody listens.
        let _ = self.events.send((self.number, event)).await;
    }

    async fn carry(
        &mut self,
        request: Request<Full<Bytes>>,
        rest: &mut Option<Events>,
    ) -> Result<Event, Fault> {
        let response = self.far.send(request).await.map_err(|error| {
            if !self.is_harmless && problem::may_be_done(&error) {
                self.far.fault_unknown(&error)
            } else {
                self.far.fault(&error)
            }
        })?;
        self.tell(Event::Began(response.headers().get(SESSION_ID).cloned())).await;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => return Ok(Event::Accepted),
            status if !status.is_success() => return self.refusal(response).await,
            // Some servers answer with other than 202 where nothing is asked.
            _ if self.ids.is_empty() => return Ok(Event::Done),
            _ => {}
        }
        if is_event_stream(&response) {
            let events = rest.insert(Events::new(response.into_body()));
            return self.follow(events).await;
        }
        if !is_json(&response) {
            return Err(self.far.own(
                "unexpected_answer",
                "the answer is neither JSON nor an event stream. Check that the URL is that of an MCP server.",
            ));
        }
        let body = self.far.read(response.into_body(), LONGEST_ANSWER, self.is_harmless).await?;
        if !self.answer(body).await {
            return Err(self
                .far
                .own("unexpected_answer", "the answer is no JSON-RPC message. See the log of the server."));
        }
        if self.ids.is_empty() { Ok(Event::Done) } else { Err(self.unanswered("the answer is not complete")) }
    }

    /// A refusal that is a JSON-RPC error is the answer, unless it is for want of the session.
    async fn refusal(&mut self, response: Response<Body>) -> Result<Event, Fault> {
        let status = response.status();
        let has_session = self.session.id.is_some();
        let body = self.far.read(response.into_body(), LONGEST_REFUSAL, self.is_harmless).await;
        let body = match body {
            Err(_) if has_session && status == StatusCode::NOT_FOUND => return Ok(Event::Expired),
            body => body?,
        };
        if has_session && is_of_no_session(status, &body) && !self.is_ours(&body) {
            return Ok(Event::Expired);
        }
        if self.may_be_unmirrored && is_mismatch(&body) {
            return Ok(Event::Unmirrored);
        }
        if !self.ids.is_empty() && self.answer(body.clone()).await && self.ids.is_empty() {
            return Ok(Event::Done);
        }
        Err(self.far.status(status, &String::from_utf8_lossy(&body)))
    }

    fn is_ours(&self, body: &Bytes) -> bool {
        Line::read(body.clone()).is_ok_and(|line| line.answers().iter().any(|id| self.ids.contains(id)))
    }

    /// Tells what is in a body. False if that is no answer.
    async fn answer(&mut self, body: Bytes) -> bool {
        #[derive(Deserialize)]
        struct Failed<'a> {
            #[serde(borrow)]
            error: &'a RawValue,
        }
        #[derive(Deserialize)]
        struct Failure {
            #[allow(dead_code, reason = "that it is a number makes it one of JSON-RPC")]
            code: i64,
        }
        let Ok(line) = Line::read(body) else { return false };
        let is_ours = line.answers().iter().any(|id| self.ids.contains(id));
        if is_ours {
            self.say(line).await;
            return true;
        }
        // Who refuses before the message has been read cannot name it.
        let failed = serde_json::from_slice::<Failed<'_>>(&line.bytes);
        let (Ok(failed), Kind::Response { .. }) = (failed, &line.kind) else { return false };
        if serde_json::from_str::<Failure>(failed.error.get()).is_err() {
            return false;
        }
        for id in std::mem::take(&mut self.ids) {
            if let Ok(line) = Line::read(readdressed(failed.error, &id)) {
                self.say(line).await;
            }
        }
        true
    }

    async fn say(&mut self, line: Line) {
        self.ids.retain(|id| !line.answers().contains(id));
        self.tell(Event::Said(line)).await;
    }

    /// Tells the messages of a stream, until all is answered.
    async fn follow(&mut self, events: &mut Events) -> Result<Event, Fault> {
        loop {
            let why = match events.next().await {
                Ok(data) => {
                    self.pass_on(data).await;
                    if self.ids.is_empty() {
                        return Ok(Event::Done);
                    }
                    continue;
                }
                Err(why) => why,
            };
            self.resume(events, &why).await?;
        }
    }

    async fn pass_on(&mut self, data: Bytes) {
        match Line::read(data) {
            Ok(line) => self.say(line).await,
            Err(_) if self.far.bad_begins() => {
                tracing::warn!("the server sent what is no JSON-RPC message; it was not passed on");
            }
            Err(_) => {}
        }
    }

    /// Goes on where a stream broke off (MCP 2025-11-25, Transports, Resumability).
    async fn resume(&self, events: &mut Events, why: &str) -> Result<(), Fault> {
        loop {
            let (rest, failures) = events.rest();
            let Some(last) = events.last().filter(|_| self.may_resume && failures < RESUMES) else {
                return Err(self.unanswered(&format!("the answer broke off ({why})")));
            };
            tracing::debug!(reason = why, "an answer broke off; it is gone on with");
            sleep(rest).await;
            match self.far.listen(&self.session, Some(last)).await {
                Ok(body) => {
                    events.go_on(body);
                    return Ok(());
                }
                Err(Unheard::Now) => {}
                Err(Unheard::Never) => {
                    let what = format!(
                        "the answer broke off ({why}), and the server does not let it be gone on with"
                    );
                    return Err(self.unanswered(&what));
                }
                Err(Unheard::Expired) => return Err(self.unanswered(LOST_SESSION)),
            }
        }
    }

    fn unanswered(&self, what: &str) -> Fault {
        self.far.unanswered(what, self.is_harmless)
    }

    /// Tells what the server says unasked in a session, for as long as there is one.
    pub(super) async fn listen(mut self) {
        let mut events = Events::none();
        loop {
            match self.far.listen(&self.session, events.last()).await {
                Ok(body) => {
                    events.go_on(body);
                    while let Ok(data) = events.next().await {
                        self.pass_on(data).await;
                    }
                }
                Err(Unheard::Now) => {}
                Err(Unheard::Never) => {
                    let what =
                        "the server has not answered, and has no event stream on which it still could.";
                    return self.tell(Event::Unheard(self.far.own("unexpected_answer", what))).await;
                }
                Err(Unheard::Expired) => {
                    return self.tell(Event::Unheard(self.unanswered(LOST_SESSION))).await;
                }
            }
            sleep(events.rest().0).await;
        }
    }
}
