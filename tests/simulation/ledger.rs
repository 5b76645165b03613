//! The model: what each call was, what became of it, and what must not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::time::Instant;
use tower_seal::{Error, NodeId};

use crate::{dice::Dice, seeds::Wrongs};

/// Stands in every content. Whoever is between never sees it.
pub(crate) const SECRET: &[u8] = b"for your eyes only";

/// What the caller said of its call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Safe,
    Repeatable,
    Once,
}

/// How the application answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    /// When it has the whole request, after a while.
    Whole(Duration),
    /// When it has the whole request, in so many pieces, with rests between.
    Pieces(usize, Duration),
    /// At once, with each piece of the request as it comes.
    Early,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) token: u32,
    pub(crate) caller: NodeId,
    pub(crate) kind: Kind,
    pub(crate) pieces: Vec<Bytes>,
    /// Whether the pieces come one after another, with rests between.
    pub(crate) rest: Option<Duration>,
    pub(crate) answer: Answer,
    /// After which it is dropped.
    pub(crate) patience: Option<Duration>,
}

impl Call {
    pub(crate) fn roll(dice: &Dice, token: u32, caller: NodeId) -> Self {
        let kind = dice.pick(&[Kind::Safe, Kind::Repeatable, Kind::Once, Kind::Once]);
        let many = dice.pick(&[0, 1, 1, 2, 5]);
        let piece = |i| {
            let mut piece = BytesMut::from(SECRET);
            piece.extend_from_slice(format!(" {token}.{i}").as_bytes());
            piece.resize(piece.len() + dice.below(200), b'.');
            piece.freeze()
        };
        let answer = match dice.below(6) {
            0..3 => Answer::Whole(if dice.one_in(2) { Duration::ZERO } else { dice.time() }),
            3..5 => Answer::Pieces(dice.between(1, 5), dice.time()),
            _ => Answer::Early,
        };
        Call {
            token,
            caller,
            kind,
            pieces: (0..many).map(piece).collect(),
            rest: dice.one_in(3).then(|| dice.time()),
            answer,
            patience: dice.one_in(4).then(|| dice.time()),
        }
    }

    pub(crate) fn method(&self) -> Method {
        if self.kind == Kind::Safe { Method::GET } else { Method::POST }
    }

    /// Whether its content is at hand when it is called.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_none() || self.pieces.is_empty()
    }

    /// The whole content of the request.
    pub(crate) fn content(&self) -> Bytes {
        self.pieces.concat().into()
    }

    /// The pieces of the answer; what is whole has one.
    pub(crate) fn answers(&self) -> Vec<Bytes> {
        match self.answer {
            Answer::Whole(_) => vec![self.content()],
            Answer::Pieces(many, _) => (0..many)
                .map(|i| [SECRET, format!(" {}:{i} ", self.token).as_bytes()].concat().into())
                .collect(),
            Answer::Early => self.pieces.clone(),
        }
    }
}

/// How a call ended, as its caller was told.
pub(crate) enum Told {
    /// Status 200: the token, and the whole content.
    Answer(Option<u32>, Bytes),
    /// Before there was an answer.
    Error(Error),
    /// After it had begun.
    Broke(Error),
    /// It did not wait for the end.
    Gone,
}

struct Entry {
    call: Arc<Call>,
    /// What was sent for it, and when first: the same bytes count once.
    sealings: Vec<(Bytes, Instant)>,
    /// How often the application began it.
    runs: usize,
}

/// What is known of all calls.
pub(crate) struct Ledger {
    entries: Mutex<HashMap<u32, Entry>>,
    wrongs: Mutex<Wrongs>,
    /// How long after its sealing a request may begin to be served.
    limit: Duration,
}

impl Ledger {
    pub(crate) fn new(limit: Duration) -> Self {
        Ledger { entries: Mutex::default(), wrongs: Mutex::default(), limit }
    }

    pub(crate) fn wrong(&self, what: String) {
        self.wrongs.lock().unwrap().push(what);
    }

    pub(crate) fn wrongs(&self) -> Wrongs {
        std::mem::take(&mut self.wrongs.lock().unwrap())
    }

    pub(crate) fn add(&self, call: Call) -> Arc<Call> {
        let call = Arc::new(call);
        let entry = Entry { call: call.clone(), sealings: Vec::new(), runs: 0 };
        self.entries.lock().unwrap().insert(call.token, entry);
        call
    }

    /// The first record of a request has been sent.
    pub(crate) fn sent(&self, token: u32, record: &Bytes) {
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(&token).expect("a token of ours");
        if entry.sealings.iter().any(|(known, _)| known == record) {
            return;
        }
        entry.sealings.push((record.clone(), Instant::now()));
        let most = if entry.call.kind == Kind::Once || !entry.call.is_whole() { 1 } else { 2 };
        if entry.sealings.len() > most {
            self.wrong(format!("{token} ({:?}) was sealed {} times", entry.call.kind, entry.sealings.len()));
        }
    }

    /// The application is asked to begin a call.
    pub(crate) fn begun(&self, token: u32, caller: NodeId, method: &Method) -> Option<Arc<Call>> {
        let mut entries = self.entries.lock().unwrap();
        let Some(entry) = entries.get_mut(&token) else {
            self.wrong(format!("{token}, which nobody called, was served"));
            return None;
        };
        entry.runs += 1;
        let call = &entry.call;
        if entry.runs > entry.sealings.len() {
            self.wrong(format!(
                "{token} ({:?}) was served {} times, and sealed {}",
                call.kind,
                entry.runs,
                entry.sealings.len()
            ));
        }
        if call.kind == Kind::Once && entry.runs > 1 {
            self.wrong(format!("{token} was to be served once, and was {} times", entry.runs));
        }
        // The wire has whole milliseconds.
        let latest = entry.sealings.last().map(|(_, at)| *at + self.limit + Duration::from_millis(1));
        if latest.is_none_or(|latest| Instant::now() > latest) {
            self.wrong(format!("{token} was served after its deadline"));
        }
        if (caller, method) != (call.caller, &call.method()) {
            self.wrong(format!("{token} was served as another's, or by another method"));
        }
        Some(call.clone())
    }

    /// The caller has been told.
    pub(crate) fn ended(&self, token: u32, told: &Told) {
        let entries = self.entries.lock().unwrap();
        let (call, runs) = (&entries[&token].call, entries[&token].runs);
        match told {
            Told::Answer(found, content) => {
                if *found != Some(token) {
                    self.wrong(format!("{token} got the answer to {found:?}"));
                } else if *content != call.answers().concat() {
                    self.wrong(format!("{token} took another content for the whole answer: {content:?}"));
                }
                if runs == 0 {
                    self.wrong(format!("{token} was answered, and never served"));
                }
            }
            // Of a request that may not be repeated, this says that nothing has left.
            Told::Error(Error::Transport(_)) if call.kind == Kind::Once && call.is_whole() && runs > 0 => {
                self.wrong(format!("{token} was served, and its caller was told that it was not sent"));
            }
            Told::Error(_) | Told::Broke(_) | Told::Gone => {}
        }
    }
}
