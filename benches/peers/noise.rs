//! Noise XX by snow: AES-256-GCM and SHA-256 by ring, X25519 by dalek as ring lends it to nobody.

use std::hint::black_box;

use snow::{Builder, Keypair, TransportState, params::NoiseParams};

use crate::Way;

/// The most that a message takes, without its tag.
const MOST: usize = 65535 - 16;

pub(crate) fn way() -> Way {
    let params: NoiseParams = "Noise_XX_25519_AESGCM_SHA256".parse().unwrap();
    let key = || Builder::new(params.clone()).generate_keypair().unwrap();
    let keys = [key(), key()];
    let (mut client, mut server) = shake(&params, &keys);
    let (mut sealed, mut opened) = (vec![0; 65535], vec![0; 65535]);
    let again = {
        let (params, keys) = (params.clone(), [key(), key()]);
        move || drop(black_box(shake(&params, &keys)))
    };
    Way {
        name: "snow, Noise XX, ring".into(),
        handshake: Box::new(again),
        proved: Box::new(move || drop(black_box(shake(&params, &keys)))),
        hybrid: None,
        message: Box::new(move |message| {
            for piece in message.chunks(MOST) {
                let length = client.write_message(black_box(piece), &mut sealed).unwrap();
                let length = server.read_message(&sealed[..length], &mut opened).unwrap();
                black_box(&opened[..length]);
            }
        }),
    }
}

/// A client and a server that know each other's static key.
fn shake(params: &NoiseParams, keys: &[Keypair; 2]) -> (TransportState, TransportState) {
    let [client, server] =
        keys.each_ref().map(|key| Builder::new(params.clone()).local_private_key(&key.private).unwrap());
    let (mut client, mut server) = (client.build_initiator().unwrap(), server.build_responder().unwrap());
    let (mut message, mut payload) = ([0; 256], [0; 256]);
    let length = client.write_message(&[], &mut message).unwrap();
    server.read_message(&message[..length], &mut payload).unwrap();
    let length = server.write_message(&[], &mut message).unwrap();
    client.read_message(&message[..length], &mut payload).unwrap();
    let length = client.write_message(&[], &mut message).unwrap();
    server.read_message(&message[..length], &mut payload).unwrap();
    // Whom one talks to is the caller's to check.
    assert_eq!(client.get_remote_static(), Some(&keys[1].public[..]));
    assert_eq!(server.get_remote_static(), Some(&keys[0].public[..]));
    (client.into_transport_mode().unwrap(), server.into_transport_mode().unwrap())
}
