//! The middle's own answer to a hello: right in everything but whose key it is (PROTOCOL section 2.2).

use ed25519_dalek::{Signer, SigningKey};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x25519_dalek::{EphemeralSecret, PublicKey};

use crate::BoxError;

/// Under which name the middle answers.
#[derive(Clone, Copy)]
pub(in crate::demo) enum Name {
    /// That of its own key.
    Own,
    /// That of the server which the client asked for.
    Server,
}

/// A reply to `hello`, signed with the Ed25519 key of `seed`.
pub(super) fn reply(hello: &[u8], seed: &[u8; 32], name: Name) -> Result<Vec<u8>, BoxError> {
    let hello: Value = serde_json::from_slice(hello)?;
    let key = SigningKey::from_bytes(seed);
    let node_id = match name {
        Name::Own => key.verifying_key().to_bytes().to_vec(),
        Name::Server => bytes(&hello["audience"])?,
    };
    let mut session = [0; 16];
    getrandom::fill(&mut session)?;
    let secret = EphemeralSecret::random_from_rng(&mut UnwrapErr(SysRng));
    let public_key = PublicKey::from(&secret).to_bytes();
    let (suite, signatures) = (text(&hello["suites"][0])?, text(&hello["signatures"])?);
    let expires_in = 3600_u64;

    let mut signed = Vec::new();
    let parts: [&[u8]; 7] = [
        b"tower-seal/1 reply",
        &hash_of(&hello)?,
        &public_key,
        &node_id,
        suite.as_bytes(),
        signatures.as_bytes(),
        &session,
    ];
    parts.iter().for_each(|part| put(&mut signed, part));
    signed.extend(expires_in.to_be_bytes());
    // No extensions: whoever offers ML-KEM must live with a side that has none.
    signed.extend(0_u32.to_be_bytes());

    let reply = json!({
        "type": "key_exchange", "version": 1, "public_key": const_hex::encode(public_key),
        "node_id": const_hex::encode(node_id), "suite": suite, "signatures": signatures,
        "session": const_hex::encode(session), "expires_in": expires_in, "extensions": {},
        "signature": const_hex::encode(key.sign(&signed).to_bytes()),
    });
    Ok(reply.to_string().into_bytes())
}

/// `h1`, the hash of the hello and its signature (PROTOCOL section 2.1).
fn hash_of(hello: &Value) -> Result<[u8; 32], BoxError> {
    let mut signed = Vec::new();
    let audience = hello.get("audience").map_or(Ok(Vec::new()), bytes)?;
    let parts =
        [&b"tower-seal/1 hello"[..], &bytes(&hello["public_key"])?, &bytes(&hello["node_id"])?, &audience];
    parts.iter().for_each(|part| put(&mut signed, part));

    let suites = hello["suites"].as_array().ok_or("the hello has no suites")?;
    signed.extend((suites.len() as u32).to_be_bytes());
    for suite in suites {
        put(&mut signed, text(suite)?.as_bytes());
    }
    put(&mut signed, text(&hello["signatures"])?.as_bytes());

    // serde_json keeps names in the order of their bytes, as is wanted here.
    let extensions = hello["extensions"].as_object().cloned().unwrap_or_default();
    signed.extend((extensions.len() as u32).to_be_bytes());
    for (name, value) in &extensions {
        put(&mut signed, name.as_bytes());
        put(&mut signed, text(value)?.as_bytes());
    }
    signed.extend(bytes(&hello["signature"])?);
    Ok(Sha256::digest(&signed).into())
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend((part.len() as u32).to_be_bytes());
    out.extend(part);
}

fn text(value: &Value) -> Result<&str, BoxError> {
    Ok(value.as_str().ok_or("the hello lacks a string")?)
}

fn bytes(value: &Value) -> Result<Vec<u8>, BoxError> {
    Ok(const_hex::decode(text(value)?)?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tower_seal::{
        Config, Identity,
        error::Code,
        protocol::{Destination, Initiator},
        trust::Pinned,
    };

    use super::*;

    /// A client that trusts the stranger makes a session with it: what others refuse is the key alone.
    #[test]
    fn nothing_but_the_key_is_wrong() -> Result<(), BoxError> {
        let seed = [7; 32];
        let (stranger, server) = (Identity::from_seed(&seed).node_id(), Identity::generate().node_id());
        for (trusted, name, refused) in [
            (stranger, Name::Own, None),
            (server, Name::Own, Some(Code::UntrustedPeer)),
            (server, Name::Server, Some(Code::InvalidSignature)),
        ] {
            let config = Config::new(Identity::generate(), Pinned::new([trusted]));
            let to = Destination { audience: Some(trusted), ..Destination::default() };
            let (hello, initiator) = Initiator::start(&config, to, &mut UnwrapErr(SysRng))?;
            let finished = initiator.finish(&reply(&hello, &seed, name)?, Instant::now());
            assert_eq!(finished.err().and_then(|error| error.code()), refused);
        }
        Ok(())
    }
}
