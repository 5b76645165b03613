//! What the middle has recorded.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, header, request, response};

/// Everything that the middle received, from either side, in the order of the requests.
///
/// What it made up itself is not on it: that is nothing that it has learned.
#[derive(Clone, Default)]
pub(in crate::demo) struct Tape {
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

/// A request and its answer, heads and bodies.
#[derive(Clone)]
pub(in crate::demo) struct Exchange {
    pub(in crate::demo) request: Message,
    pub(in crate::demo) answer: Message,
    began: Instant,
    ended: Instant,
}

/// A head and the pieces of a body, as they came.
#[derive(Clone, Default)]
pub(in crate::demo) struct Message {
    /// All of the head, as it stands in HTTP/1.1.
    pub(in crate::demo) head: String,
    pub(in crate::demo) content_type: String,
    pub(super) fields: HeaderMap,
    pub(in crate::demo) pieces: Vec<Bytes>,
}

#[derive(Clone, Copy)]
pub(super) enum Side {
    Request,
    Answer,
}

impl Tape {
    /// How many exchanges there are; the next one has this number.
    pub(in crate::demo) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The exchange with this number.
    pub(in crate::demo) fn exchange(&self, number: usize) -> Option<Exchange> {
        self.lock().get(number).cloned()
    }

    pub(in crate::demo) fn exchanges(&self) -> Vec<Exchange> {
        self.lock().clone()
    }

    /// Begins an exchange with the head of its request, and returns its number.
    pub(super) fn begin(&self, request: Message) -> usize {
        let now = Instant::now();
        let mut exchanges = self.lock();
        exchanges.push(Exchange { request, answer: Message::default(), began: now, ended: now });
        exchanges.len() - 1
    }

    pub(super) fn answered(&self, number: usize, answer: Message) {
        self.with(number, |exchange| exchange.answer = answer);
    }

    pub(super) fn piece(&self, number: usize, side: Side, piece: &Bytes) {
        self.with(number, |exchange| match side {
            Side::Request => exchange.request.pieces.push(piece.clone()),
            Side::Answer => exchange.answer.pieces.push(piece.clone()),
        });
    }

    fn with(&self, number: usize, change: impl FnOnce(&mut Exchange)) {
        if let Some(exchange) = self.lock().get_mut(number) {
            change(exchange);
            exchange.ended = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Exchange>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// From the head of the request to the last piece of the answer so far.
    pub(in crate::demo) fn took(&self) -> Duration {
        self.ended - self.began
    }

    pub(in crate::demo) fn messages(&self) -> [&Message; 2] {
        [&self.request, &self.answer]
    }
}

impl Message {
    pub(in crate::demo) fn body(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// The head of a request.
    pub(super) fn request(parts: &request::Parts) -> Self {
        Self::new(format!("{} {} {:?}\r\n", parts.method, parts.uri, parts.version), &parts.headers)
    }

    /// The head of an answer.
    pub(super) fn answer(parts: &response::Parts) -> Self {
        Self::new(format!("{:?} {}\r\n", parts.version, parts.status), &parts.headers)
    }

    fn new(mut head: String, headers: &HeaderMap) -> Self {
        for (name, value) in headers {
            let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        Message { head, content_type, fields: headers.clone(), pieces: Vec::new() }
    }
}
