//! The layers in the hands of axum, reqwest and hyper.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Path, RawQuery},
    routing::{any, get as route_get, post as route_post},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use tower::{Layer as _, ServiceExt as _};
use tower_seal::{
    Config, Error, Verified,
    http::{Reqwest, SealLayer, UnsealLayer},
};

use crate::support::*;

async fn whoami(caller: Verified) -> String {
    caller.node_id().to_string()
}

// ---- axum ----

#[tokio::test]
async fn a_router_behind_the_layer_routes_by_the_inner_request() {
    let sides = Sides::new();
    let router = Router::new()
        .route("/whoami", route_get(whoami))
        .route(
            "/items/{id}",
            any(async |Path(id): Path<String>, RawQuery(query): RawQuery| format!("{id} {query:?}")),
        )
        .route(
            "/address",
            route_get(async |ConnectInfo(from): ConnectInfo<SocketAddr>| from.ip().to_string()),
        );
    let sealed = Router::new().fallback_service(UnsealLayer::new(sides.server.clone()).layer(router));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = sealed.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());

    for version in [Version::Http1, Version::Http2] {
        let http = sides.seal(connection(version));
        let get = async |path: &str| ask(&http, get(&format!("http://{address}{path}"))).await.unwrap();
        assert_eq!(get("/whoami").await, (200, sides.client.node_id().to_string().into()));
        assert_eq!(get("/items/a%20b?c=d").await, (200, "a b Some(\"c=d\")".into()));
        // The typed extensions of the outer request stay.
        assert_eq!(get("/address").await, (200, "127.0.0.1".into()));
        assert_eq!(get("/nowhere").await.0, 404);
        assert_eq!(ask(&http, post(&format!("http://{address}/whoami"), "")).await.unwrap().0, 405);
    }
}

#[tokio::test]
async fn the_layer_works_within_a_router_too() {
    let sides = Sides::new();
    let router =
        Router::new().route("/post", route_post(whoami)).layer(UnsealLayer::new(sides.server.clone()));
    let http = SealLayer::new(sides.client.clone()).layer(router);
    let request = Request::post("http://example.com/post").body(axum::body::Body::empty()).unwrap();
    let response = http.oneshot(request).await.unwrap();
    let content = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(content, sides.client.node_id().to_string());
}

#[tokio::test]
async fn the_extractor_refuses_a_request_that_was_not_sealed() {
    let sides = Sides::new();
    let router = Router::new().route("/", route_get(whoami));
    let plain = || Request::get("/").body(axum::body::Body::empty()).unwrap();
    let bare = router.clone().oneshot(plain()).await.unwrap();
    assert_eq!(bare.status(), StatusCode::FORBIDDEN);
    for config in [sides.server.clone().dangerously_accept_plaintext(), Config::plaintext()] {
        let response = UnsealLayer::new(config).layer(router.clone()).oneshot(plain()).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "this request was not sealed");
    }
}

// ---- reqwest ----

fn reqwest(sides: &Sides, client: Reqwest) -> Http {
    let service = tower::ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(boxed))
        .layer(SealLayer::new(sides.client.clone()))
        .service(client);
    Http::new(service)
}

#[tokio::test]
async fn reqwest_carries_and_streams() {
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let (arrive, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let app = app(move |request: Request<Body>| {
            let (tap, body) = channel();
            let response = Response::builder().status(207).header("x-path", request.uri().to_string());
            arrive.send((request, tap)).unwrap();
            async { response.body(body).unwrap() }
        });
        let address = listen(sides.serve(app)).await;
        let http = reqwest(&sides, Reqwest::new().unwrap());
        let (up, body) = channel();
        let request = Request::patch(format!("http://{address}/a%2Fb/c?d=%20e")).header("x", "y");
        let response = http.oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-path"]),
            (207, &"/a%2Fb/c?d=%20e".parse().unwrap())
        );
        let (request, down) = arrived.recv().await.unwrap();
        assert_eq!((request.method().as_str(), &request.headers()["x"]), ("PATCH", &"y".parse().unwrap()));
        let (mut asked, mut answered) = (request.into_body(), response.into_body());
        for i in 0..3 {
            let (question, answer) = (format!("question {i}"), format!("answer {i}"));
            up.send(question.clone());
            assert_eq!(piece(&mut asked).await.unwrap().unwrap(), question);
            down.send(answer.clone());
            assert_eq!(piece(&mut answered).await.unwrap().unwrap(), answer);
        }
        drop((up, down));
        assert!(piece(&mut asked).await.unwrap().is_none());
        assert!(piece(&mut answered).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let sides = Sides::new();
    let reached = Count::default();
    let counted = reached.clone();
    // It would even have the right keys.
    let honest = sides.serve(echo());
    let target = listen(middle(honest.clone(), move |request, next| {
        counted.add();
        next.oneshot(request)
    }))
    .await;
    for redirects_hellos in [true, false] {
        for status in [301, 302, 303, 307, 308] {
            let source = listen(middle(honest.clone(), move |request, next| async move {
                if is_hello(&request) && !redirects_hellos {
                    return next.oneshot(request).await;
                }
                let response = Response::builder().status(status);
                let location = format!("http://{target}{}", request.uri().path());
                Ok(response.header(header::LOCATION, location).body(empty()).unwrap())
            }))
            .await;
            let http = reqwest(&sides, Reqwest::new().unwrap());
            let error = ask(&http, post(&format!("http://{source}/"), "")).await.unwrap_err();
            assert!(matches!(error, Error::Unsealed { status: s } if s == status), "{status} {error:?}");
        }
    }
    assert_eq!(reached.value(), 0);
}

#[tokio::test]
async fn what_a_client_that_follows_redirects_brings_back_is_refused() {
    let sides = Sides::new();
    let honest = sides.serve(echo());
    let target = listen(honest.clone()).await;
    for status in [302, 307] {
        let source = listen(middle(honest.clone(), move |request, next| async move {
            if is_hello(&request) {
                return next.oneshot(request).await;
            }
            let response = Response::builder().status(status);
            Ok(response.header(header::LOCATION, format!("http://{target}/")).body(empty()).unwrap())
        }))
        .await;
        let http = reqwest(&sides, ::reqwest::Client::new().into());
        assert!(ask(&http, post(&format!("http://{source}/"), "")).await.is_err(), "{status}");
    }
}
