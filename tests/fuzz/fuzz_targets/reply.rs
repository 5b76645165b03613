//! A reply, from anybody or from a responder that signs what it likes.

#![no_main]

use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use tower_seal_fuzz::{bytes, handshake, start};

#[allow(dead_code)]
#[path = "../../protocol/support/hand.rs"]
mod hand;

#[derive(Arbitrary)]
struct Fields {
    of_another: bool,
    secret: [u8; 32],
    session: [u8; 16],
    public_key: Option<[u8; 32]>,
    suite: Option<String>,
    signatures: Option<String>,
    expires_in: u64,
    extensions: Vec<(String, String)>,
}

fn signed(hello: &[u8], seed: [u8; 32], data: &[u8]) -> Option<Vec<u8>> {
    let fields = Fields::arbitrary_take_rest(Unstructured::new(data)).ok()?;
    let mut reply = hand::Reply::new(
        hello,
        if fields.of_another { [3; 32] } else { seed },
        fields.secret,
        fields.session,
    );
    fields.public_key.inspect(|key| reply.public_key = key.to_vec());
    reply.suite = fields.suite.unwrap_or(reply.suite);
    reply.signatures = fields.signatures.unwrap_or(reply.signatures);
    reply.expires_in = fields.expires_in;
    reply.extensions.extend(fields.extensions);
    Some(reply.message())
}

fuzz_target!(|data: &[u8]| {
    let vector = handshake("duplex-every");
    let (hello, initiator) = start(vector);
    let seed = bytes(&vector["responder"]["identity_secret"]);
    let reply = match data.split_first() {
        Some((0, rest)) => signed(&hello, seed, rest),
        _ => Some(data.to_vec()),
    };
    let (Some(reply), now) = (reply, Instant::now()) else { return };
    match initiator.finish(&reply, now) {
        // Only what that responder signed gets here.
        Ok(session) => {
            assert_eq!(session.peer().as_bytes(), &hand::node_id(&seed));
            let (mut sealer, _) = session.into_duplex(false, now).unwrap();
            sealer.seal(&b""[..], tower_seal::protocol::Final::No, now).unwrap();
        }
        Err(error) => assert!(error.code().is_some()),
    }
});
