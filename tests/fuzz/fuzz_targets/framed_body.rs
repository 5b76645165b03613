//! A body of sealed HTTP, in pieces cut anywhere: genuine records, parts of them, and anything else.

#![no_main]

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use libfuzzer_sys::fuzz_target;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    config::Encoding,
    http::{OpenBody, UnsealLayer},
    protocol::{Destination, Final, Initiator},
};
use tower_seal_fuzz::{MINUTE, Pieces, Script, config, handshake, now, run};

const HEAD: &[u8] = b"\0\x04POST\x04http\x0bexample.com\x01/\0\x01a\0";

fuzz_target!(|data: &[u8]| run(async {
    let Some(([how, piece], mut data)) = data.split_first_chunk() else { return };
    let (is_json, cut, count) = (how & 1 == 1, how & 2 == 2, how >> 2 & 7);
    let vector = handshake("exchange-every");
    let app = service_fn(|request: Request<OpenBody<_>>| async {
        // What is opened is what was sealed, as far as it goes.
        let mut body = request.into_body();
        let mut content = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            content.extend_from_slice(&frame.into_data().unwrap());
        }
        assert!(b"aaaaaaaaa".starts_with(&content));
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(content))))
    });
    let server = UnsealLayer::new(config(vector, "responder")).layer(app);
    let (kind, encoding) = if is_json {
        ("application/vnd.tower-seal+json", Encoding::Json)
    } else {
        ("application/vnd.tower-seal", Encoding::Binary)
    };
    let post = |kind, pieces| {
        let request = Request::post("http://example.com/").header(header::CONTENT_TYPE, kind);
        server.clone().oneshot(request.body(Pieces::new(pieces, cut)).unwrap())
    };
    let mut rng = Script(Vec::new());
    let ours = config(vector, "initiator").encoding(encoding);
    let (hello, initiator) = Initiator::start(&ours, Destination::default(), &mut rng).unwrap();
    let request = Request::post("http://example.com/")
        .header(header::CONTENT_TYPE, "application/vnd.tower-seal.handshake+json");
    let reply = server.clone().oneshot(request.body(Pieces::new(vec![hello], false)).unwrap()).await.unwrap();
    let reply = reply.into_body().collect().await.unwrap().to_bytes();
    let session = Arc::new(initiator.finish(&reply, now()).unwrap());

    let last = |at| if at == count { Final::Yes } else { Final::No };
    let mut request = session.request(HEAD, last(0), MINUTE, true, &mut rng, now()).unwrap();
    let mut records = vec![request.bytes];
    for at in 1..=count {
        records.push(request.rest.as_mut().unwrap().seal(&b"a"[..], last(at), now()).unwrap());
    }
    let mut records = records.into_iter();
    let mut body = Vec::new();
    // Two bytes say what comes next.
    while let Some(([part, much], rest)) = data.split_first_chunk() {
        data = rest;
        let much = usize::from(*much);
        match part & 3 {
            0 => body.extend_from_slice(&records.next().unwrap_or_default()),
            1 => {
                let record = records.next().unwrap_or_default();
                body.extend_from_slice(&record[..record.len().min(much)]);
            }
            2 => {
                let (raw, rest) = data.split_at(data.len().min(much));
                data = rest;
                body.extend_from_slice(raw);
            }
            _ => {
                let at = body.len().saturating_sub(much);
                body.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (part >> 5));
            }
        }
    }
    let pieces = body.chunks(usize::from(*piece).max(1)).map(Bytes::copy_from_slice).collect();
    let answer = post(kind, pieces).await.unwrap();
    assert!(matches!(answer.status().as_u16(), 200 | 400 | 403 | 409 | 413), "{}", answer.status());
    let _ = answer.into_body().collect().await;
}));
