//! Whoever stands between: it loses, holds, repeats, swaps, changes, forges, and pulls the server's plug.

use std::{
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{Request, Response, header, request};
use http_body::Body as _;
use tokio::{select, sync::oneshot, time::sleep};
use tower::{ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_seal::http::NotSent;

use crate::{
    bodies::{Body, Failure, Tap, channel, content, full, piece},
    dice::{Dice, Flag, Trace},
    fates::{Coming, Fate, Going, forged},
    ledger::{Ledger, SECRET},
    spoil::{Spoil, Spoiler},
};

pub(crate) type Wire = BoxCloneSyncService<Request<Body>, Response<Body>, Failure>;

/// The header field that is copied to the outside, so that the model knows what a message is about.
pub(crate) const TOKEN: &str = "x-token";

/// The server as it runs now. What it has in hand dies with it.
#[derive(Clone)]
struct Server {
    wire: Wire,
    killed: Flag,
}

/// The bytes of a message that goes by, as far as it has.
type Tape = Arc<Mutex<BytesMut>>;

pub(crate) struct Middle {
    dice: Dice,
    trace: Trace,
    ledger: Arc<Ledger>,
    /// Starts a server that has nothing from before but its key.
    start: Box<dyn Fn() -> Wire + Send + Sync>,
    server: Mutex<Server>,
    /// Of so many messages one meets a fault.
    calm: usize,
    healed: Flag,
    parted: Flag,
    requests: Mutex<Vec<(request::Parts, Tape)>>,
    answers: Mutex<Vec<(u16, Option<header::HeaderValue>, Tape)>>,
}

fn broken() -> Failure {
    Failure::new("broken")
}

impl Middle {
    pub(crate) fn new(
        dice: Dice,
        trace: Trace,
        ledger: Arc<Ledger>,
        start: impl Fn() -> Wire + Send + Sync + 'static,
    ) -> Arc<Self> {
        let server = Server { wire: start(), killed: Flag::default() };
        Arc::new(Middle {
            calm: dice.pick(&[1, 2, 3, 6]),
            dice,
            trace,
            ledger,
            start: Box::new(start),
            server: Mutex::new(server),
            healed: Flag::default(),
            parted: Flag::default(),
            requests: Mutex::default(),
            answers: Mutex::default(),
        })
    }

    /// The far side as the clients see it.
    pub(crate) fn wire(self: &Arc<Self>) -> Wire {
        let middle = self.clone();
        Wire::new(service_fn(move |request| middle.clone().carry(request)))
    }

    pub(crate) fn restart(&self) {
        self.trace.note("the server restarts");
        let new = Server { wire: (self.start)(), killed: Flag::default() };
        let old = std::mem::replace(&mut *self.server.lock().unwrap(), new);
        old.killed.set(true);
    }

    pub(crate) fn part(&self, is_parted: bool) {
        self.trace.note(if is_parted { "the network parts" } else { "the network is whole" });
        self.parted.set(is_parted);
    }

    /// From here on every message arrives as it is.
    pub(crate) fn heal(&self) {
        self.part(false);
        self.trace.note("the faults cease");
        self.healed.set(true);
    }

    /// Sends all that clients ever sent once more, and reads the answers to their end.
    pub(crate) async fn repeat_all(self: &Arc<Self>) {
        let all = self.requests.lock().unwrap().clone();
        self.trace.note(format_args!("{} messages once more", all.len()));
        for (parts, tape) in all {
            self.repeat(parts, &tape).await;
        }
    }

    async fn repeat(self: &Arc<Self>, parts: request::Parts, tape: &Tape) {
        let bytes = tape.lock().unwrap().clone();
        let answer = self.deliver(Request::from_parts(parts, full(bytes))).await;
        if let Ok(Ok(answer)) = answer {
            let _ = content(answer.into_body()).await;
        }
    }

    async fn carry(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let fate = match self.healed.is_set() {
            true => Fate::ARRIVES,
            false => Fate::roll(&self.dice, self.calm),
        };
        let (mut parts, mut body) = request.into_parts();
        let is_whole = body.size_hint().exact().is_some();
        // The first record is always at hand.
        let first = piece(&mut body).await?.unwrap_or_default();
        let token = parts.headers.get(TOKEN).map(|token| token.to_str().unwrap().parse().unwrap());
        match token.filter(|_| !parts.headers[header::CONTENT_TYPE].to_str().unwrap().contains("handshake")) {
            Some(token) => {
                self.trace.note(format_args!("request {token}: {fate:?}"));
                self.ledger.sent(token, &first);
            }
            None => self.trace.note(format_args!("hello: {fate:?}")),
        }
        if fate.going == Going::Refused {
            return Err(match self.dice.one_in(2) {
                true => Failure::new(NotSent::new("no route")),
                false => Failure::new(io::Error::from(io::ErrorKind::ConnectionRefused)),
            });
        }
        let tape = Tape::default();
        self.requests.lock().unwrap().push((parts.clone(), tape.clone()));
        self.note(&tape, &first);
        self.reach().await?;
        let mut spoil = Spoil::Nothing;
        match fate.going {
            Going::Arrives | Going::Refused => {}
            Going::Broken => return Err(broken()),
            Going::Hangs => {
                self.healed.becomes(true).await;
                return Err(broken());
            }
            Going::Held(time) => sleep(time).await,
            Going::Repeated(time) => {
                let (middle, parts, tape) = (self.clone(), parts.clone(), tape.clone());
                self.spawn(async move {
                    sleep(time).await;
                    middle.repeat(parts, &tape).await;
                });
            }
            Going::Second => self.repeat(parts.clone(), &tape).await,
            Going::Accompanied => {
                let (parts, tape) = {
                    let all = self.requests.lock().unwrap();
                    all[self.dice.below(all.len())].clone()
                };
                let middle = self.clone();
                self.spawn(async move { middle.repeat(parts, &tape).await });
            }
            Going::OtherPath => parts.uri = "http://example.com/elsewhere".parse().unwrap(),
            Going::Restart => self.restart(),
            Going::Spoilt(how) => spoil = how,
        }
        let forward = if is_whole && spoil == Spoil::Nothing {
            full(first)
        } else {
            let spoiler = Spoiler::new(spoil);
            let (tap, forward) = channel();
            let rest = (!is_whole).then_some(body);
            self.spawn(self.clone().pump(Some(first), rest, spoiler, tape, tap));
            forward
        };
        let answer = self.deliver(Request::from_parts(parts, forward)).await.unwrap_or(Err(broken()))?;
        self.reach().await?;
        match fate.coming {
            Coming::Arrives => {}
            Coming::Broken => return Err(broken()),
            Coming::Hangs => {
                self.healed.becomes(true).await;
                return Err(broken());
            }
            Coming::Held(time) => sleep(time).await,
            Coming::Swapped => return Ok(self.other_answer()),
            Coming::Forged(which) => return Ok(forged(which)),
            Coming::Restart => self.restart(),
            Coming::Spoilt(how) => {
                let (parts, body) = answer.into_parts();
                let (tap, out) = channel();
                let spoiler = Spoiler::new(how);
                self.spawn(self.clone().pump(None, Some(body), spoiler, Tape::default(), tap));
                return Ok(Response::from_parts(parts, out));
            }
        }
        Ok(answer)
    }

    /// Hands a request to the server that runs now. It goes on even if nobody waits for the answer.
    fn deliver(
        self: &Arc<Self>,
        request: Request<Body>,
    ) -> oneshot::Receiver<Result<Response<Body>, Failure>> {
        let server = self.server.lock().unwrap().clone();
        let (tell, told) = oneshot::channel();
        let middle = self.clone();
        self.spawn(async move {
            let answer = select! {
                biased;
                () = server.killed.becomes(true) => Err(broken()),
                answer = server.wire.oneshot(request) => answer,
            };
            let _ = tell.send(answer.map(|answer| middle.answered(answer, server.killed)));
        });
        told
    }

    /// Writes down an answer as it is read, which breaks off when the server dies.
    fn answered(self: &Arc<Self>, answer: Response<Body>, killed: Flag) -> Response<Body> {
        let (parts, mut body) = answer.into_parts();
        let (tape, kind) = (Tape::default(), parts.headers.get(header::CONTENT_TYPE).cloned());
        self.trace.note(format_args!("answer {} {:?}", parts.status.as_u16(), body.size_hint().exact()));
        self.answers.lock().unwrap().push((parts.status.as_u16(), kind, tape.clone()));
        let (tap, out) = channel();
        let middle = self.clone();
        self.spawn(async move {
            loop {
                let piece = select! {
                    biased;
                    () = tap.closed() => return,
                    () = killed.becomes(true) => Err(broken()),
                    piece = piece(&mut body) => piece,
                };
                let Some(piece) = piece.transpose() else { return };
                if let Ok(piece) = &piece {
                    middle.note(&tape, piece);
                }
                if piece.is_err() | tap.send(piece).is_err() {
                    return;
                }
            }
        });
        Response::from_parts(parts, out)
    }

    /// Leads a body on, piece by piece.
    async fn pump(
        self: Arc<Self>,
        mut first: Option<Bytes>,
        mut rest: Option<Body>,
        mut spoiler: Spoiler,
        tape: Tape,
        tap: Tap,
    ) {
        loop {
            let next = match (first.take(), &mut rest) {
                (Some(first), _) => Ok(Some(first)),
                (None, Some(rest)) => select! {
                    biased;
                    () = tap.closed() => return,
                    next = piece(rest) => next.inspect(|next| self.note(&tape, next.as_deref().unwrap_or_default())),
                },
                (None, None) => Ok(None),
            };
            let reached = self.reach().await;
            match next.and_then(|next| reached.map(|()| next)) {
                Ok(Some(piece)) => {
                    let (pieces, end) = spoiler.pass(piece).await;
                    if pieces.into_iter().any(|piece| tap.send(Ok(piece)).is_err()) {
                        return;
                    }
                    if let Err(cleanly) = end {
                        let _ = cleanly || tap.send(Err(broken())).is_err();
                        return;
                    }
                }
                Ok(None) => {
                    let _ = spoiler.end().is_none_or(|held| tap.send(Ok(held)).is_err());
                    return;
                }
                Err(error) => {
                    let _ = tap.send(Err(error));
                    return;
                }
            }
        }
    }

    /// While the network is parted a message waits, or its connection breaks.
    async fn reach(&self) -> Result<(), Failure> {
        if !self.parted.is_set() {
            return Ok(());
        }
        if self.dice.one_in(2) {
            return Err(broken());
        }
        self.parted.becomes(false).await;
        Ok(())
    }

    fn other_answer(&self) -> Response<Body> {
        let answers = self.answers.lock().unwrap();
        let (status, kind, tape) = &answers[self.dice.below(answers.len())];
        let mut answer = Response::new(full(tape.lock().unwrap().clone()));
        *answer.status_mut() = (*status).try_into().unwrap();
        answer.headers_mut().extend(kind.clone().map(|kind| (header::CONTENT_TYPE, kind)));
        answer
    }

    fn note(&self, tape: &Tape, bytes: &[u8]) {
        tape.lock().unwrap().extend_from_slice(bytes);
        if bytes.windows(SECRET.len()).any(|window| window == SECRET) {
            self.ledger.wrong("a secret was read on its way".to_owned());
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ledger = self.ledger.clone();
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                ledger.wrong("a task panicked".to_owned());
            }
        });
    }
}
