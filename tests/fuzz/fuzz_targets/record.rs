//! A record in either encoding: to a responder, to an initiator that waits, and in both directions of a duplex
//! connection.

#![no_main]

use std::{sync::Arc, time::Instant};

use libfuzzer_sys::fuzz_target;
use tower_seal::protocol::Final;
use tower_seal_fuzz::{MINUTE, Script, VECTORS, handshake, parse, sessions};

fuzz_target!(|data: &[u8]| {
    let Ok(record) = parse(data) else { return };
    let (vector, now) = (&VECTORS["negatives"], Instant::now());
    let (initiator, session, responder) = sessions(&vector["handshake"], now);
    responder.admit(session);
    let good = vector["good"].as_str().unwrap().as_bytes();
    match responder.open(record, now) {
        Ok((offered, _)) => drop(offered.claim(false, &mut Script(Vec::new()), now)),
        Err((error, subject)) => {
            serde_json::from_slice::<serde_json::Value>(&responder.refuse(&error, subject.as_ref())).unwrap();
            // It has changed nothing.
            responder.open(parse(good).unwrap(), now).unwrap();
        }
    }
    let mut rng = Script(Vec::new());
    let request = Arc::new(initiator).request(&b"?"[..], Final::Yes, MINUTE, false, &mut rng, now).unwrap();
    assert!(request.response.open(parse(data).unwrap(), now).is_err(), "nobody has answered");

    let (initiator, responder, _) = sessions(handshake("duplex-every"), now);
    for session in [initiator, responder] {
        let (_, mut opener) = session.into_duplex(false, now).unwrap();
        let first = opener.open(parse(data).unwrap(), now);
        // The same again is never taken.
        assert!(opener.open(parse(data).unwrap(), now).is_err() || first.is_err());
    }
});
