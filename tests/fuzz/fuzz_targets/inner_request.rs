//! A request of a peer whose seal is good, and whose inner message is anything, in any number of records.

#![no_main]

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use libfuzzer_sys::fuzz_target;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    http::{OpenBody, UnsealLayer},
    protocol::{Final, Initiator},
};
use tower_seal_fuzz::{MINUTE, Pieces, Script, config, handshake, now, run};

/// What no inner field may be, whoever sent it. (`content-length` is the layer's own.)
const REFUSED: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

// The first byte says how long the first record is; the rest of the text is a second one.
fuzz_target!(|data: &[u8]| run(async {
    let Some((&cut, text)) = data.split_first() else { return };
    let (first, second) = text.split_at(if cut == 0 { text.len() } else { text.len().min(cut.into()) });
    let vector = handshake("exchange-every");
    let app = service_fn(|request: Request<OpenBody<_>>| async {
        let path = request.uri().path();
        assert!(path == "/" && !request.uri().to_string().contains('\\'), "{path}");
        assert!(!REFUSED.iter().any(|name| request.headers().contains_key(*name)));
        let content = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok::<_, Infallible>(Response::new(Full::new(content)))
    });
    let server = UnsealLayer::new(config(vector, "responder")).layer(app);
    let post = |kind, body| {
        let request = Request::post("http://example.com/").header(header::CONTENT_TYPE, kind);
        server.clone().oneshot(request.body(Pieces::new(vec![body], false)).unwrap())
    };
    let mut rng = Script(Vec::new());
    let start = Initiator::start(&config(vector, "initiator"), Default::default(), &mut rng);
    let (hello, initiator) = start.unwrap();
    let reply = post("application/vnd.tower-seal.handshake+json", hello).await.unwrap();
    let reply = reply.into_body().collect().await.unwrap().to_bytes();
    let session = Arc::new(initiator.finish(&reply, now()).unwrap());

    let last = if cut == 0 { Final::Yes } else { Final::No };
    let mut request = session.request(first, last, MINUTE, true, &mut rng, now()).unwrap();
    let mut body = request.bytes.to_vec();
    if let Some(sealer) = &mut request.rest {
        body.extend_from_slice(&sealer.seal(second, Final::Yes, now()).unwrap());
    }
    let answer = post("application/vnd.tower-seal", Bytes::from(body)).await.unwrap();
    let served = answer.status() == 200;
    let answer = answer.into_body().collect().await.map(|body| body.to_bytes());
    if served {
        let answer = answer.unwrap();
        let record = tower_seal_fuzz::parse(
            &answer[4..4 + u32::from_be_bytes(*answer.first_chunk().unwrap()) as usize],
        );
        request.response.open(record.unwrap(), now()).unwrap();
    }
}));
