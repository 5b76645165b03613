//! The protocol without I/O, for a transport of one's own: `cargo run --example by_hand`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rand_core::UnwrapErr;
use tower_seal::{
    Config, Identity,
    config::Encoding,
    protocol::{Destination, Final, Initiator, Record, Responder},
    trust::Pinned,
};

fn main() -> Result<(), tower_seal::Error> {
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let (alice_id, bob_id) = (alice.node_id(), bob.node_id());
    let alice = Config::new(alice, Pinned::new([bob_id])).encoding(Encoding::Json);
    let bob = Responder::new(Config::new(bob, Pinned::new([alice_id])));
    let (rng, timeout) = (&mut UnwrapErr(getrandom::SysRng), Duration::from_secs(60));

    // Two messages make a session. They may travel any way you like.
    let (hello, initiator) = Initiator::start(&alice, Destination::default(), rng)?;
    let (reply, session) = bob.accept(&hello, |_target| true, || true, rng, Instant::now())?;
    bob.admit(session);
    let session = Arc::new(initiator.finish(&reply, Instant::now())?);
    println!("session {} with {}", session.id(), session.peer().short());

    // A request, as whoever stands in between sees it.
    let request = session.request(&b"2 + 2"[..], Final::Yes, timeout, false, rng, Instant::now())?;
    println!("{}", String::from_utf8_lossy(&request.bytes));

    // Bob opens it, looks where it is meant to go, and takes it as served.
    let record = Record::parse(BytesMut::from(&request.bytes[..]), Encoding::Json, 1 << 20)?;
    let (offered, _) = bob.open(record, Instant::now()).map_err(|(error, _)| error)?;
    let mut claimed = offered.claim(false, rng, Instant::now())?;
    println!("{} asks: {}", claimed.caller.node_id().short(), String::from_utf8_lossy(&claimed.plaintext));

    // The same bytes again are refused.
    let again = Record::parse(BytesMut::from(&request.bytes[..]), Encoding::Json, 1 << 20)?;
    let (offered, _) = bob.open(again, Instant::now()).map_err(|(error, _)| error)?;
    println!(
        "again: {}",
        offered.claim(false, rng, Instant::now()).map_or_else(|e| e.to_string(), |_| "?".into())
    );

    let response = claimed.response.seal(&b"4"[..], Final::Yes, Instant::now())?;
    let record = Record::parse(BytesMut::from(&response[..]), Encoding::Json, 1 << 20)?;
    let (opened, _) = request.response.open(record, Instant::now())?;
    println!("answer: {}", String::from_utf8_lossy(&opened.plaintext));
    Ok(())
}
