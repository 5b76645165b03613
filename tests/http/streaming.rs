//! Nothing waits for what comes later. Each step here is made only after the one before has arrived, so that a
//! layer that held anything back would stand still.

use http::{Request, Response};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::support::*;

/// A server whose answers the test makes piece by piece, and the client above it.
struct Live {
    http: Http,
    uri: String,
    arrived: mpsc::UnboundedReceiver<(Request<Body>, Tap)>,
    _sides: Sides,
}

impl Live {
    async fn new((version, encoding): (Version, tower_seal::config::Encoding)) -> Self {
        let sides = Sides::speaking(encoding);
        let (arrive, arrived) = mpsc::unbounded_channel();
        let app = app(move |request| {
            let (tap, body) = channel();
            arrive.send((request, tap)).unwrap();
            async { Response::builder().header("content-type", "text/event-stream").body(body).unwrap() }
        });
        let address = listen(sides.serve(app)).await;
        let http = sides.seal(connection(version));
        Live { http, uri: format!("http://{address}/mcp"), arrived, _sides: sides }
    }

    async fn call(&self, request: Request<Body>) -> Body {
        let response = self.http.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body()
    }
}

#[tokio::test]
async fn a_head_arrives_before_any_event_and_each_event_before_the_next() {
    for each in EACH {
        let mut live = Live::new(each).await;
        let mut events = live.call(get(&live.uri)).await;
        let (_, tap) = live.arrived.recv().await.unwrap();
        for i in 0..5 {
            let event = format!("data: {i}\n\n");
            tap.send(event.clone());
            assert_eq!(piece(&mut events).await.unwrap().unwrap(), event, "{each:?}");
        }
        // A comment is content like any other.
        tap.send(": ping\n\n");
        assert_eq!(piece(&mut events).await.unwrap().unwrap(), ": ping\n\n");
        drop(tap);
        assert!(piece(&mut events).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_request_streams_in_before_and_after_the_response_has_begun() {
    for each in EACH {
        let mut live = Live::new(each).await;
        let (up, body) = channel();
        let request = Request::post(&live.uri).body(body).unwrap();
        // The head of the request arrives before there is any content.
        let (http, mut arrived) = (live.http.clone(), live.arrived);
        let call = tokio::spawn(async move { http.oneshot(request).await.unwrap().into_body() });
        let (request, down) = arrived.recv().await.unwrap();
        let (mut asked, mut answered) = (request.into_body(), call.await.unwrap());
        for i in 0..5 {
            let (question, answer) = (format!("question {i}"), format!("answer {i}"));
            up.send(question.clone());
            assert_eq!(piece(&mut asked).await.unwrap().unwrap(), question, "{each:?}");
            down.send(answer.clone());
            assert_eq!(piece(&mut answered).await.unwrap().unwrap(), answer, "{each:?}");
        }
        drop(up);
        assert!(piece(&mut asked).await.unwrap().is_none());
        // The request has ended, the response has not.
        down.send("last");
        assert_eq!(piece(&mut answered).await.unwrap().unwrap(), "last");
        drop(down);
        assert!(piece(&mut answered).await.unwrap().is_none());
        live.arrived = arrived;
    }
}

#[tokio::test]
async fn a_request_that_is_read_before_it_is_answered_streams_in() {
    for each @ (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let (heard, mut pieces) = mpsc::unbounded_channel();
        let app = app(move |request: Request<Body>| {
            let heard = heard.clone();
            async move {
                let mut body = request.into_body();
                while let Some(piece) = piece(&mut body).await.unwrap() {
                    heard.send(piece).unwrap();
                }
                Response::new(full("done"))
            }
        });
        let address = listen(sides.serve(app)).await;
        let http = sides.seal(connection(version));
        let (up, body) = channel();
        let request = Request::put(format!("http://{address}/")).body(body).unwrap();
        let call = tokio::spawn(async move { ask(&http, request).await.unwrap() });
        for i in 0..5 {
            let part = format!("part {i}");
            up.send(part.clone());
            assert_eq!(pieces.recv().await.unwrap(), part, "{each:?}");
        }
        drop(up);
        assert_eq!(call.await.unwrap().1, "done");
    }
}

#[tokio::test]
async fn many_streams_of_one_session_run_side_by_side() {
    for each in EACH {
        let mut live = Live::new(each).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            let events = live.call(get(&live.uri)).await;
            streams.push((events, live.arrived.recv().await.unwrap().1));
        }
        for round in 0..2 {
            for (i, (events, tap)) in streams.iter_mut().enumerate().rev() {
                let event = format!("{round} {i}");
                tap.send(event.clone());
                assert_eq!(piece(events).await.unwrap().unwrap(), event, "{each:?}");
            }
        }
    }
}

#[tokio::test]
async fn content_at_hand_leaves_with_the_head_and_the_rest_when_it_is_made() {
    for each in EACH {
        let mut live = Live::new(each).await;
        let (up, body) = channel();
        up.send("at hand");
        let request = Request::post(&live.uri).body(body).unwrap();
        let (http, mut arrived) = (live.http.clone(), live.arrived);
        let call = tokio::spawn(async move { http.oneshot(request).await.unwrap().into_body() });
        let (request, down) = arrived.recv().await.unwrap();
        let mut asked = request.into_body();
        assert_eq!(piece(&mut asked).await.unwrap().unwrap(), "at hand");
        up.send("later");
        assert_eq!(piece(&mut asked).await.unwrap().unwrap(), "later");
        drop((up, down));
        assert_eq!(content(call.await.unwrap()).await.unwrap(), "");
        live.arrived = arrived;
    }
}

// ---- the end ----

#[tokio::test]
async fn a_response_body_that_fails_is_an_error_and_never_an_end() {
    for each in EACH {
        let mut live = Live::new(each).await;
        let mut events = live.call(get(&live.uri)).await;
        let (_, tap) = live.arrived.recv().await.unwrap();
        tap.send("one");
        assert_eq!(piece(&mut events).await.unwrap().unwrap(), "one");
        tap.fail();
        assert!(piece(&mut events).await.is_err(), "{each:?}");
        assert!(piece(&mut events).await.unwrap().is_none(), "one error is enough");
    }
}

#[tokio::test]
async fn a_request_body_that_fails_is_an_error_for_both() {
    for each in EACH {
        let mut live = Live::new(each).await;
        let (up, body) = channel();
        let request = Request::post(&live.uri).body(body).unwrap();
        let (http, mut arrived) = (live.http.clone(), live.arrived);
        let call = tokio::spawn(async move { ask(&http, request).await });
        let (request, down) = arrived.recv().await.unwrap();
        let mut asked = request.into_body();
        up.send("one");
        assert_eq!(piece(&mut asked).await.unwrap().unwrap(), "one");
        up.fail();
        assert!(piece(&mut asked).await.is_err(), "{each:?}");
        drop(down);
        assert!(call.await.unwrap().is_err());
        live.arrived = arrived;
    }
}

// ---- cancellation ----

#[tokio::test]
async fn dropping_the_response_body_drops_the_body_that_makes_it() {
    for each in EACH {
        let mut live = Live::new(each).await;
        for begun in [false, true] {
            let mut events = live.call(get(&live.uri)).await;
            let (_, tap) = live.arrived.recv().await.unwrap();
            if begun {
                tap.send("one");
                assert_eq!(piece(&mut events).await.unwrap().unwrap(), "one");
            }
            drop(events);
            tap.dropped().await;
        }
        // The session goes on.
        let mut events = live.call(get(&live.uri)).await;
        live.arrived.recv().await.unwrap().1.send("on");
        assert_eq!(piece(&mut events).await.unwrap().unwrap(), "on", "{each:?}");
    }
}

#[tokio::test]
async fn dropping_a_call_drops_the_servers_call() {
    for each @ (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let (arrive, mut arrived) = mpsc::unbounded_channel();
        let app = app(move |_| {
            let (alive, end) = tokio::sync::oneshot::channel::<()>();
            arrive.send(end).unwrap();
            async move {
                let _alive = alive;
                std::future::pending().await
            }
        });
        let address = listen(sides.serve(app)).await;
        let http = sides.seal(connection(version));
        for content in ["", "content"] {
            let (http, request) = (http.clone(), post(&format!("http://{address}/"), content));
            let call = tokio::spawn(async move { ask(&http, request).await });
            let end = arrived.recv().await.unwrap();
            call.abort();
            assert!(end.await.is_err(), "{each:?}");
        }
    }
}

#[tokio::test]
async fn dropping_a_call_drops_its_request_body_and_breaks_that_of_the_server() {
    for each @ (version, encoding) in EACH {
        let sides = Sides::speaking(encoding);
        let (arrive, mut arrived) = mpsc::unbounded_channel();
        let app = app(move |request| {
            arrive.send(request).unwrap();
            std::future::pending()
        });
        let address = listen(sides.serve(app)).await;
        let http = sides.seal(connection(version));
        let (up, body) = channel();
        let request = Request::post(format!("http://{address}/")).body(body).unwrap();
        let call = tokio::spawn(async move { ask(&http, request).await });
        let mut asked = arrived.recv().await.unwrap().into_body();
        up.send("one");
        assert_eq!(piece(&mut asked).await.unwrap().unwrap(), "one");
        call.abort();
        up.dropped().await;
        assert!(piece(&mut asked).await.is_err(), "{each:?}: a request that broke off is no whole one");
    }
}

#[tokio::test(start_paused = true)]
async fn in_process_each_drop_is_immediate() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (arrive, mut arrived) = mpsc::unbounded_channel();
        let app = app(move |request| {
            let (tap, body) = channel();
            arrive.send((request, tap)).unwrap();
            async { Response::new(body) }
        });
        let http = sides.seal(sides.serve(app));
        let (up, body) = channel();
        let request = Request::post("http://example.com/").body(body).unwrap();
        let response = http.oneshot(request).await.unwrap();
        let (request, down) = arrived.recv().await.unwrap();
        drop(request);
        up.dropped().await;
        drop(response);
        down.dropped().await;
    }
}
