//! Sessions are renewed before they end, and no call fails in between; and what the layers ask of the services
//! below them.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::time::advance;
use tower::{Service, ServiceExt as _, limit::ConcurrencyLimit, util::BoxCloneSyncService};
use tower_seal::{Error, config::Limits, error::Code};

use crate::support::*;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// A client of a server whose sessions last 1000 s, and a switch that makes hellos fail.
fn short_sessions() -> (Http, Traffic, Gate, Sides) {
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.session = 1000 * SECOND));
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let closed = Gate::new();
    let failing = closed.clone();
    let wire = middle(wire, move |request, next| {
        let fails = is_hello(&request) && failing.is_open();
        async move { if fails { Err(Failure::new("no connection")) } else { next.oneshot(request).await } }
    });
    (sides.seal(wire), traffic, closed, sides)
}

async fn call(http: &Http) -> Result<u16, Error> {
    Ok(ask(http, post("http://example.com/", "hi")).await?.0)
}

/// Lets what runs beside the calls, on this one thread and without real waits, come to rest.
async fn let_tasks_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_before_it_expires_and_no_call_fails() {
    let (http, traffic, _, _sides) = short_sessions();
    let mut handshakes = Vec::new();
    for _ in 0..150 {
        assert_eq!(call(&http).await.unwrap(), 200);
        let_tasks_run().await;
        handshakes.push(traffic.hellos.value());
        advance(20 * SECOND).await;
    }
    // One in 900 s: at 0, 900, 1800 and 2700 s.
    assert_eq!(handshakes, (0..150).map(|i| 1 + i / 45).collect::<Vec<_>>());
    assert_eq!(traffic.requests.value(), 150, "none was sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_renewed_serves_to_its_end() {
    let (http, traffic, fail, _sides) = short_sessions();
    call(&http).await.unwrap();
    fail.open();
    advance(400 * SECOND).await;
    call(&http).await.unwrap();
    advance(510 * SECOND).await;
    assert_eq!(traffic.values(), (1, 2));
    for after in [0, 20, 60] {
        advance(after * SECOND).await;
        assert_eq!(call(&http).await.unwrap(), 200, "{after}");
    }
    assert_eq!(traffic.values(), (1, 5));
    advance(11 * SECOND).await;
    assert!(matches!(call(&http).await.unwrap_err(), Error::Transport(_)), "the session is over");
    assert_eq!(traffic.values(), (1, 5));
    fail.shut();
    assert_eq!(call(&http).await.unwrap(), 200);
    assert_eq!(traffic.values(), (2, 6));
}

#[tokio::test(start_paused = true)]
async fn a_new_session_that_is_not_used_in_time_does_not_cost_the_old_one() {
    let (http, traffic, fail, _sides) = short_sessions();
    call(&http).await.unwrap();
    for rest in [440, 440, 25] {
        advance(rest * SECOND).await;
        call(&http).await.unwrap();
        let_tasks_run().await;
    }
    assert_eq!(traffic.values(), (2, 4), "renewed at 905 s");
    // The server may forget the new session, and a further one can't be made.
    fail.open();
    for rest in [40, 40] {
        advance(rest * SECOND).await;
        assert_eq!(call(&http).await.unwrap(), 200);
        let_tasks_run().await;
    }
    assert_eq!(traffic.values(), (2, 6));
    fail.shut();
    advance(20 * SECOND).await;
    assert_eq!(call(&http).await.unwrap(), 200, "the old session is over");
}

#[tokio::test(start_paused = true)]
async fn no_call_is_queued_behind_a_renewal() {
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.session = 1000 * SECOND));
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let gate = Gate::new();
    gate.open();
    let held = gate.clone();
    let wire = middle(wire, move |request, next| {
        let held = held.clone();
        async move {
            if is_hello(&request) {
                held.pass().await;
            }
            next.oneshot(request).await
        }
    });
    let http = sides.seal(wire);
    call(&http).await.unwrap();
    advance(440 * SECOND).await;
    call(&http).await.unwrap();
    advance(440 * SECOND).await;
    call(&http).await.unwrap();
    advance(25 * SECOND).await;
    // From here on hellos are held, and the renewal is due.
    gate.shut();
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        call(&http).await.unwrap();
    }
    let_tasks_run().await;
    assert_eq!(began.elapsed().as_secs(), 0);
    assert_eq!(traffic.values(), (1, 8));
    gate.open();
    let_tasks_run().await;
    call(&http).await.unwrap();
    assert_eq!(traffic.values(), (2, 9), "one renewal, which goes on though nobody waits for it");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_rested_is_renewed_before_the_server_forgets_it() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let http = sides.seal(wire);
    call(&http).await.unwrap();
    for (rest, expected) in [(449, (1, 2)), (449, (1, 3)), (451, (2, 4)), (20, (2, 5)), (100_000, (3, 6))] {
        advance(rest * SECOND).await;
        assert_eq!(call(&http).await.unwrap(), 200);
        let_tasks_run().await;
        assert_eq!(traffic.values(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_forgets_a_session_that_rests_but_not_one_whose_streams_run() {
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.idle = 100 * SECOND));
    let (tap, body) = channel();
    let body = std::sync::Mutex::new(Some(body));
    let body = Arc::new(body);
    let app = app(move |request| {
        let body =
            if request.uri().path() == "/events" { body.lock().unwrap().take().unwrap() } else { empty() };
        async { Response::new(body) }
    });
    // Its idea of idleness is another: it does not renew in time.
    let (wire, traffic) = Traffic::through(sides.serve(app));
    let http = sides.seal(wire);
    let response = http.clone().oneshot(get("http://example.com/events")).await.unwrap();
    let mut events = response.into_body();
    advance(400 * SECOND).await;
    assert_eq!(call(&http).await.unwrap(), 200);
    tap.send("event");
    assert_eq!(piece(&mut events).await.unwrap().unwrap(), "event");
    drop(events);
    tap.dropped().await;
    assert_eq!(call(&http).await.unwrap(), 200);
    assert_eq!(traffic.values(), (1, 3));
    advance(400 * SECOND).await;
    assert!(matches!(call(&http).await.unwrap_err(), Error::OutcomeUnknown));
    assert_eq!(call(&http).await.unwrap(), 200);
    assert_eq!(traffic.values(), (2, 5));
    assert_eq!(sides.server.telemetry().rejections(Code::UnknownSession), 1);
}

// ---- what the layers ask of the services below ----

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_call_at_a_time_below_does_not_stand_in_its_own_way() {
    let sides = Sides::new();
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let http = sides.seal(BoxCloneSyncService::new(ConcurrencyLimit::new(wire, 1)));
    let began = tokio::time::Instant::now();
    let answers = futures_util::future::join_all((0..5).map(|_| call(&http))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 200));
    assert_eq!(traffic.values(), (1, 5));
    assert_eq!(began.elapsed().as_secs(), 0, "nobody waited until a limit freed it");
}

#[tokio::test(start_paused = true)]
async fn the_call_that_begins_a_renewal_keeps_its_place_under_a_limit_of_one_at_a_time() {
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.session = 1000 * SECOND));
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    let wire = middle(wire, move |request, next| {
        let stuck = is_hello(&request) && traffic.hellos.value() > 0;
        async move { if stuck { std::future::pending().await } else { next.oneshot(request).await } }
    });
    let http = sides.seal(BoxCloneSyncService::new(ConcurrencyLimit::new(wire, 1)));
    for _ in 0..3 {
        call(&http).await.unwrap();
        advance(302 * SECOND).await;
    }
    let began = tokio::time::Instant::now();
    assert_eq!(call(&http).await.unwrap(), 200);
    assert_eq!(began.elapsed().as_secs(), 0, "the old session serves, and nobody waited for the handshake");
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_call_at_a_time_below_survives_the_loss_of_the_session() {
    let sides = Sides::new();
    let switch = Switch::new(sides.serve(echo()));
    let gate = Gate::new();
    gate.open();
    let slow = gate.clone();
    let wire = middle(switch.wire(), move |request, next| {
        let slow = slow.clone();
        async move {
            slow.pass().await;
            next.oneshot(request).await
        }
    });
    let http = sides.seal(BoxCloneSyncService::new(ConcurrencyLimit::new(wire, 1)));
    call(&http).await.unwrap();

    // One call is on its way and the others queue for its place, when the server loses its memory.
    switch.to(sides.serve(echo()));
    gate.shut();
    let ask = |_| Box::pin(ask(&http, get("http://example.com/")));
    let mut calls = futures_util::future::join_all((0..4).map(ask));
    begin(&mut calls).await;
    gate.open();
    let began = tokio::time::Instant::now();
    for answer in calls.await {
        assert_eq!(answer.unwrap().0, 200);
    }
    assert_eq!(began.elapsed().as_secs(), 0, "nobody waited until a limit freed it");
}

/// Takes calls only on a clone that has been polled ready, and is ready at the second asking.
struct Picky<S> {
    service: S,
    asked: usize,
}

impl<S: Clone> Clone for Picky<S> {
    fn clone(&self) -> Self {
        Picky { service: self.service.clone(), asked: 0 }
    }
}

impl<S, B> Service<Request<B>> for Picky<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.asked += 1;
        if self.asked < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        assert!(self.asked >= 2, "called before it was ready");
        self.asked = 0;
        self.service.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn only_services_that_are_ready_are_called() {
    let sides = Sides::new();
    let switch = Switch::new(sides.serve(Wire::new(Picky { service: echo(), asked: 0 })));
    let http = sides.seal(Wire::new(Picky { service: switch.wire(), asked: 0 }));
    for _ in 0..3 {
        assert_eq!(ask(&http, get("http://example.com/")).await.unwrap().0, 200);
        switch.to(sides.serve(Wire::new(Picky { service: echo(), asked: 0 })));
    }
}

/// Ready when, and as, it is told.
#[derive(Clone)]
struct Told(tokio::sync::watch::Receiver<Option<Result<(), &'static str>>>);

impl Service<Request<Body>> for Told {
    type Response = Response<Body>;
    type Error = Failure;
    type Future = std::future::Ready<Result<Response<Body>, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match *self.0.borrow() {
            None => Poll::Pending,
            Some(ready) => Poll::Ready(ready.map_err(Failure::new)),
        }
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Response::new(empty())))
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_service_below() {
    let sides = Sides::new();
    let (tell, told) = tokio::sync::watch::channel(None);
    let mut client = sides.seal(Wire::new(Told(told.clone())));
    let mut server = sides.serve(Wire::new(Told(told)));
    let mut polls = std::future::poll_fn(move |cx| {
        Poll::Ready([client.poll_ready(cx).map(|r| r.is_ok()), server.poll_ready(cx).map(|r| r.is_ok())])
    });
    assert_eq!((&mut polls).await, [Poll::Pending; 2]);
    tell.send_replace(Some(Err("worn out")));
    assert_eq!((&mut polls).await, [Poll::Ready(false); 2]);
    tell.send_replace(Some(Ok(())));
    assert_eq!((&mut polls).await, [Poll::Ready(true); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_had_to_make_room_is_replaced_without_a_failing_call() {
    let mut sides = Sides::new();
    sides.server = sides.server.limits(limits(|limits| limits.sessions_per_peer = 2));
    let (wire, traffic) = Traffic::through(sides.serve(echo()));
    // Three processes of one identity.
    let processes: Vec<Http> = (0..3).map(|_| sides.seal(wire.clone())).collect();
    let get = async |process: usize| ask(&processes[process], get("http://example.com/")).await.unwrap();
    // The third one takes the place of the least recently used: the second.
    for (process, hellos) in [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (2, 3), (1, 4), (2, 4), (0, 5)] {
        tokio::time::advance(SECOND).await;
        assert_eq!(get(process).await.0, 200);
        assert_eq!(traffic.hellos.value(), hellos, "{process}");
    }
}
