//! A session under attack: while one honest request is being served, hostile ones come in; then the honest one
//! ends well, and so does the next. The application sees nothing of the hostile ones.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use tokio::sync::mpsc;
use tower_seal::{
    config::{Encoding, Limits},
    error::Code,
    protocol::{Awaiting, Final, Request},
};

use crate::{
    hand::{Answer, Hand, message, now},
    support::*,
};

pub(crate) struct Siege {
    pub(crate) hand: Hand,
    /// Paths that the application was asked for, and the content that it got until an end or an error.
    pub(crate) seen: Arc<Mutex<Vec<(String, String)>>>,
    gate: Gate,
    entered: mpsc::UnboundedReceiver<()>,
    sides: Sides,
}

impl Siege {
    pub(crate) async fn new(encoding: Encoding) -> Self {
        let mut sides = Sides::new();
        let mut limits = Limits::default();
        limits.signed_errors_per_second = u32::MAX;
        sides.server = sides.server.limits(limits);
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let gate = Gate::new();
        let (enter, entered) = mpsc::unbounded_channel();
        let (log, opens) = (seen.clone(), gate.clone());
        let app = app(move |request| {
            let (log, opens, enter) = (log.clone(), opens.clone(), enter.clone());
            async move {
                let (path, mut body) = (request.uri().path().to_owned(), request.into_body());
                let mut got = String::new();
                // It does not mind how the content ends.
                while let Ok(Some(piece)) = piece(&mut body).await {
                    got.push_str(std::str::from_utf8(&piece).unwrap());
                }
                log.lock().unwrap().push((path.clone(), got.clone()));
                if path == "/slow" {
                    enter.send(()).unwrap();
                    opens.pass().await;
                }
                Response::new(full(got))
            }
        });
        let wire = sides.serve(app);
        let hand = Hand::new(&sides.client, encoding, &wire).await;
        Siege { hand, seen, gate, entered, sides }
    }

    /// Runs `attack` while an honest request is being served, and another one afterwards.
    pub(crate) async fn during<T>(&mut self, attack: impl AsyncFnOnce(&mut Self) -> T) -> T {
        self.gate.shut();
        let hand = self.hand.clone();
        let slow = tokio::spawn(async move { hand.ask("/slow", "in flight").await });
        self.entered.recv().await.unwrap();
        self.seen.lock().unwrap().clear();
        let result = attack(self).await;
        assert_eq!(self.hand.ask("/next", "next").await, (200, b"next".to_vec()));
        self.gate.open();
        assert_eq!(slow.await.unwrap(), (200, b"in flight".to_vec()));
        assert_eq!(self.seen.lock().unwrap().pop(), Some(("/next".into(), "next".into())));
        result
    }

    /// Waits until a request for `/slow` is being served.
    pub(crate) async fn enter(&mut self) {
        self.entered.recv().await.unwrap();
    }

    /// Lets the requests for `/slow` end.
    pub(crate) fn let_go(&self) {
        self.gate.open();
    }

    /// What the application was asked for since the siege began.
    pub(crate) fn asked(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().clone()
    }

    /// A `POST` to `/` in one record.
    pub(crate) fn unary(&self, content: &str) -> Request {
        self.hand.begin(&message("POST", "/", content), Final::Yes)
    }

    /// A `POST` to `/` in as many records as there are pieces.
    pub(crate) fn streamed(&self, pieces: &[&str]) -> (Vec<Bytes>, Awaiting) {
        let mut request = self.hand.begin(&message("POST", "/", pieces[0]), Final::No);
        let mut records = vec![request.bytes];
        let sealer = request.rest.as_mut().unwrap();
        for (i, piece) in pieces.iter().enumerate().skip(1) {
            let last = if i + 1 == pieces.len() { Final::Yes } else { Final::No };
            records.push(sealer.seal(piece.as_bytes(), last, now()).unwrap());
        }
        (records, request.response)
    }

    pub(crate) async fn post(&self, bytes: impl Into<Bytes>) -> Answer {
        self.hand.post("/", full(bytes)).await
    }

    /// Sends what has to be refused with `code`, signed for `awaiting`.
    pub(crate) async fn refused(
        &self,
        bytes: impl Into<Bytes>,
        awaiting: &Awaiting,
        code: Code,
        about: &str,
    ) {
        let counted = || self.sides.server.telemetry().rejections(code);
        let before = counted();
        let answer = self.post(bytes).await;
        assert_eq!(answer.content_type(), ERROR, "{:?} {about}", self.hand.encoding);
        assert_eq!(counted(), before + 1, "{:?} {about}", self.hand.encoding);
        let refusal = answer.refusal(awaiting);
        assert_eq!(refusal, (code.http_status(), code, true), "{:?} {about}", self.hand.encoding);
        assert_eq!(answer.headers["cache-control"], "no-store, no-transform");
        assert_eq!(answer.headers["x-accel-buffering"], "no");
    }

    /// Sends what has to be refused with `code`, which nobody can sign.
    pub(crate) async fn unsigned(&self, bytes: impl Into<Bytes>, code: Code, about: &str) {
        let answer = self.post(bytes).await;
        assert_eq!(answer.code(), (code.http_status(), code), "{:?} {about}", self.hand.encoding);
    }
}
