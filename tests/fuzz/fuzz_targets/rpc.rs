//! A frame of a queue: as it comes, or sealed by a peer whose message is anything.

#![no_main]

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_seal::{
    protocol::{Final, Initiator},
    rpc::{Message, UnsealLayer},
};
use tower_seal_fuzz::{MINUTE, Script, config, handshake, now, parse, run};

fuzz_target!(|data: &[u8]| run(async {
    let vector = handshake("exchange-every");
    let app = service_fn(|message: Message| async move {
        assert!(message.caller.is_some());
        Ok::<_, Infallible>((message.bytes.first() != Some(&b'!')).then_some(message.bytes))
    });
    let server = UnsealLayer::new(config(vector, "responder")).layer(app);
    let Some((0, message)) = data.split_first() else {
        let answer = server.oneshot(Bytes::copy_from_slice(data)).await.unwrap().unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer).unwrap();
        return;
    };
    let mut rng = Script(Vec::new());
    let start = Initiator::start(&config(vector, "initiator"), Default::default(), &mut rng);
    let (hello, initiator) = start.unwrap();
    let reply = server.clone().oneshot(hello).await.unwrap().unwrap();
    let session = Arc::new(initiator.finish(&reply, now()).unwrap());
    let request = session.request(message, Final::Yes, MINUTE, false, &mut rng, now()).unwrap();
    if let Some(answer) = server.oneshot(request.bytes).await.unwrap() {
        let (opened, _) = request.response.open(parse(&answer).unwrap(), now()).unwrap();
        assert_eq!(opened.plaintext, message);
    }
}));
