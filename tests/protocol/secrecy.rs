//! Nothing that can be printed shows a key, a secret or a plaintext.

use std::fmt::Debug;

use tower_seal::{
    Config, Identity,
    error::Code,
    protocol::{
        Awaiting, Claimed, Destination, Final, Initiator, Offered, Opened, Opener, Plaintext, Record,
        Request, Responder, Sealer, Session,
    },
    trust::PreShared,
};

use crate::support::{
    Pair, code, config, exported,
    hand::Peer,
    open, parse,
    wire::{Wire, opening_bytes},
};

/// Stands for everything that must not be shown; 32 bytes, so that it can be a key too.
const SECRET: &[u8; 32] = b"attack at dawn, attack at dawn!!";

/// Whether printing shows some of `secret`: as text, as hex or as a list of numbers.
fn shows(value: &dyn Debug, secret: &[u8]) -> bool {
    let shown = format!("{value:?}\n{value:#?}").to_lowercase();
    let dense: String = shown.split_whitespace().collect();
    secret.chunks_exact(8).any(|part| {
        let list = format!("{part:?}").replace(['[', ']', ' '], "");
        let text = part.escape_ascii().to_string();
        dense.contains(&list) || shown.contains(&const_hex::encode(part)) || shown.contains(&text)
    })
}

#[track_caller]
fn hides(value: &dyn Debug, secret: &[u8]) {
    assert!(!shows(value, secret), "{value:?}");
}

#[test]
fn a_leak_would_be_seen() {
    let session = ("session", Some(SECRET.to_vec()));
    let leaks: [&dyn Debug; 4] =
        [&session, &const_hex::encode_upper(SECRET), &bytes::Bytes::from_static(SECRET), &&SECRET[8..16]];
    assert!(leaks.into_iter().all(|leak| shows(leak, SECRET)));
}

#[test]
fn an_identity_shows_its_node_id_only() {
    let identity = Identity::from_seed(SECRET);
    hides(&identity, SECRET);
    assert!(format!("{identity:?}").contains(&identity.node_id().short().to_string()));
}

#[test]
fn a_config_shows_no_key() {
    let config = config(Identity::from_seed(SECRET), tower_seal::trust::AnyIdentity);
    hides(&config, SECRET);
}

#[test]
fn a_pre_shared_secret_shows_neither_half() {
    let secret = PreShared::new(SECRET, SECRET).unwrap();
    hides(&secret, SECRET);
    hides(&Some(vec![secret]), SECRET);
}

#[test]
fn what_is_sealed_and_opened_shows_its_length_only() {
    let mut plaintext = Plaintext::with_capacity(64);
    plaintext.extend_from_slice(SECRET);
    hides(&plaintext, SECRET);
    assert!(format!("{plaintext:?}").contains("32 bytes"));

    let mut pair = Pair::new();
    let session = pair.session();
    let request = pair.request(&session, SECRET, Final::No);
    hides(&request, SECRET);
    hides(&request.response, SECRET);
    hides(&parse(&request.bytes).unwrap(), SECRET);
    let (offered, subject) = pair.try_offer(&request.bytes).unwrap();
    hides(&offered, SECRET);
    hides(&subject, SECRET);
    let mut claimed = offered.claim(false, &mut pair.rng, pair.now).unwrap();
    hides(&claimed, SECRET);
    hides(&claimed.caller, SECRET);
    hides(&claimed.rest, SECRET);
    let response = claimed.response.seal(&SECRET[..], Final::Yes, pair.now).unwrap();
    hides(&claimed.response, SECRET);
    let (opened, opener) = pair.receive(&request.response, &response).unwrap();
    assert_eq!(&opened.plaintext[..], SECRET);
    hides(&opened, SECRET);
    hides(&opener, SECRET);
}

#[test]
fn sessions_and_streams_show_no_key() {
    let mut pair = Pair::new();
    let (session, peer) = pair.with_hand();
    let request = pair.request(&session, b"x", Final::No);
    let opening = opening_bytes(Wire::read(&request.bytes).opening.unwrap());
    let keys = &peer.keys;
    let [up, down] = keys.directions;
    for secret in [up, down, keys.exporter, keys.th, exported(&session), keys.secret(0, 1, &opening, 0)] {
        hides(&session, &secret);
        hides(&request, &secret);
        hides(&request.rest, &secret);
        hides(&request.response, &secret);
    }
    let (Peer { keys, .. }, sealer, opener) = pair.duplex_by_hand();
    for secret in
        [keys.directions[0], keys.directions[1], keys.secret(0, 0, &[], 0), keys.secret(1, 0, &[], 0)]
    {
        hides(&sealer, &secret);
        hides(&opener, &secret);
    }
}

#[test]
fn a_destination_and_a_policy_show_no_secret() {
    hides(&Destination::default(), SECRET);
    hides(&tower_seal::trust::Pinned::default(), SECRET);
    hides(&tower_seal::trust::AnyIdentity, SECRET);
}

#[test]
fn errors_repeat_nothing_of_what_a_peer_sent() {
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello.signatures = String::from_utf8(SECRET.to_vec()).unwrap();
    let error = pair.accept(&hello.message()).unwrap_err();
    hides(&error, SECRET);
    assert!(!error.to_string().contains("dawn"));
    let (_, mut opener) = pair.duplex().client;
    let error = open(&mut opener, &[&[1, 0][..], SECRET, SECRET].concat(), pair.now).unwrap_err();
    hides(&error, SECRET);
    assert_eq!(code::<()>(Err(error)), Code::Malformed);
}

/// Compiles only if the type does not have the trait: with it, there are two that could be meant.
macro_rules! has_not {
    ($trait:path: $($type:ty),* $(,)?) => {{
        trait Either<T> {
            fn is_meant() {}
        }
        struct WithTrait;
        impl<T: ?Sized> Either<()> for T {}
        impl<T: ?Sized + $trait> Either<WithTrait> for T {}
        $(<$type as Either<_>>::is_meant();)*
    }};
}

/// `==` ends at the first byte that differs, and takes the longer the more is right. What holds a secret has none.
#[test]
fn what_holds_a_secret_can_neither_be_compared_nor_copied() {
    has_not!(PartialEq: Identity, PreShared, Config, Initiator, Responder, Session, Sealer, Opener, Request, Awaiting,
        Offered, Claimed, Plaintext, Opened, Record);
    has_not!(std::hash::Hash: Identity, PreShared, Config, Session, Sealer, Opener, Plaintext);
    has_not!(Clone: Identity, Initiator, Session, Sealer, Opener, Plaintext);
}
