//! A hello, of a stranger or of a peer that signs what it likes.

#![no_main]

use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use tower_seal::error::Code;
use tower_seal_fuzz::{Script, handshake, responder, start};

#[allow(dead_code)]
#[path = "../../protocol/support/hand.rs"]
mod hand;

#[derive(Arbitrary)]
struct Fields {
    secret: [u8; 32],
    public_key: Option<[u8; 32]>,
    audience: Option<[u8; 32]>,
    suites: Vec<String>,
    every: bool,
    extensions: Vec<(String, String)>,
}

fn signed(data: &[u8]) -> Option<Vec<u8>> {
    let fields = Fields::arbitrary_take_rest(Unstructured::new(data)).ok()?;
    let mut hello = hand::Hello::new([5; 32], fields.secret);
    fields.public_key.inspect(|key| hello.public_key = key.to_vec());
    hello.audience = fields.audience.map(Into::into);
    hello.suites.extend(fields.suites);
    hello.signatures = if fields.every { "every" } else { "handshake" }.to_owned();
    hello.extensions.extend(fields.extensions);
    Some(hello.message())
}

fuzz_target!(|data: &[u8]| {
    let hello = match data.split_first() {
        Some((0, rest)) => signed(rest),
        _ => Some(data.to_vec()),
    };
    let Some(hello) = hello else { return };
    let vector = handshake("duplex-every");
    let ((responder, mut script), now) = (responder(vector), Instant::now());
    match responder.accept(&hello, |_| true, || true, &mut script, now) {
        Ok((reply, session)) => {
            serde_json::from_slice::<serde_json::Value>(&reply).unwrap();
            responder.admit(session);
            let again = responder.accept(&hello, |_| true, || true, &mut Script(Vec::new()), now);
            assert_eq!(again.err().unwrap().code(), Some(Code::Replayed));
        }
        Err(error) => {
            assert!(error.code().is_some());
            // It has changed nothing.
            responder.accept(&start(vector).0, |_| true, || true, &mut script, now).unwrap();
        }
    }
});
