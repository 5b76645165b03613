//! A response of a server whose seal is good, and whose inner message is anything, in any number of records.

#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use libfuzzer_sys::fuzz_target;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    http::{SealBody, SealLayer},
    protocol::{Final, Responder},
};
use tower_seal_fuzz::{Pieces, Script, config, handshake, now, parse, run};

// The first byte says how long the first record is; the rest of the text is a second one.
fuzz_target!(|data: &[u8]| run(async {
    let Some((&cut, text)) = data.split_first() else { return };
    let (first, second) = text.split_at(if cut == 0 { text.len() } else { text.len().min(cut.into()) });
    let (first, second) = (Bytes::copy_from_slice(first), Bytes::copy_from_slice(second));
    let vector = handshake("exchange-every");
    let responder = Arc::new(Responder::new(config(vector, "responder")));
    let far = service_fn(move |request: Request<SealBody<Full<Bytes>>>| {
        let (responder, first, second) = (responder.clone(), first.clone(), second.clone());
        async move {
            let is_hello = request.headers()[header::CONTENT_TYPE].as_bytes().ends_with(b"handshake+json");
            let body = request.into_body().collect().await?.to_bytes();
            let mut rng = Script(Vec::new());
            let (kind, pieces) = if is_hello {
                let (reply, session) = responder.accept(&body, |_| true, || true, &mut rng, now())?;
                responder.admit(session);
                ("application/vnd.tower-seal.handshake+json", vec![reply])
            } else {
                let (offered, _) = responder.open(parse(&body[4..])?, now()).map_err(|(error, _)| error)?;
                let mut sealer = offered.claim(true, &mut rng, now())?.response;
                let last = if cut == 0 { Final::Yes } else { Final::No };
                let mut pieces = vec![sealer.seal(&first[..], last, now())?];
                if cut != 0 {
                    pieces.push(sealer.seal(&second[..], Final::Yes, now())?);
                }
                ("application/vnd.tower-seal", pieces)
            };
            let response = Response::builder().header(header::CONTENT_TYPE, kind);
            Ok::<_, tower_seal::Error>(response.body(Pieces::new(pieces, false)).unwrap())
        }
    });
    let client = SealLayer::new(config(vector, "initiator")).layer(far);
    let request = Request::get("http://example.com/").body(Full::new(Bytes::new())).unwrap();
    match client.oneshot(request).await {
        Ok(response) => {
            assert!((200..600).contains(&response.status().as_u16()));
            let refused = [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];
            assert!(!refused.iter().any(|name| response.headers().contains_key(name)));
            let _ = response.into_body().collect().await;
        }
        Err(error) => assert!(!matches!(error, tower_seal::Error::Misuse { .. }), "{error}"),
    }
}));
