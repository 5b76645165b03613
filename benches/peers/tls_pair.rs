//! TLS 1.3 by rustls: AES-256-GCM, X25519, certificates on both sides, and nothing resumed.

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    CipherSuite, ClientConfig, ClientConnection, NamedGroup, ServerConfig, ServerConnection,
    client::Resumption, crypto::CryptoProvider, pki_types::ServerName,
};

use crate::{Way, tls};

type Configs = (Arc<ServerConfig>, Arc<ClientConfig>);

pub(crate) fn way(name: &str, provider: CryptoProvider) -> Way {
    let configs = configs(&provider, NamedGroup::X25519).unwrap();
    let proved = configs.clone();
    let hybrid = self::configs(&provider, NamedGroup::X25519MLKEM768);
    let (mut client, mut server) = shake(&configs);
    let (mut wire, mut opened) = (Vec::new(), vec![0; 64 << 10]);
    Way {
        name: name.to_owned(),
        handshake: Box::new(move || drop(black_box(shake(&configs)))),
        proved: Box::new(move || drop(black_box(shake(&proved)))),
        hybrid: hybrid.map(|hybrid| -> crate::Work { Box::new(move || drop(black_box(shake(&hybrid)))) }),
        message: Box::new(move |message| {
            client.writer().write_all(black_box(message)).unwrap();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let (mut left, mut length) = (&wire[..], 0);
            while length < message.len() {
                server.read_tls(&mut left).unwrap();
                let state = server.process_new_packets().unwrap();
                let ready = state.plaintext_bytes_to_read();
                server.reader().read_exact(&mut opened[length..length + ready]).unwrap();
                length += ready;
            }
            assert!(left.is_empty());
            black_box(&opened[..length]);
            wire.clear();
        }),
    }
}

/// `None` where the provider has no such group.
fn configs(provider: &CryptoProvider, group: NamedGroup) -> Option<Configs> {
    let mut provider = provider.clone();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
    provider.kx_groups.retain(|offered| offered.name() == group);
    if provider.kx_groups.is_empty() {
        return None;
    }
    let (mut server, mut client) = tls::configs(provider);
    client.resumption = Resumption::disabled();
    server.send_tls13_tickets = 0;
    Some((Arc::new(server), Arc::new(client)))
}

fn shake((server, client): &Configs) -> (ClientConnection, ServerConnection) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    client.set_buffer_limit(None);
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut left = &wire[..];
        while !left.is_empty() {
            server.read_tls(&mut left).unwrap();
            server.process_new_packets().unwrap();
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut left = &wire[..];
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client.process_new_packets().unwrap();
        }
        wire.clear();
    }
    assert!(server.peer_certificates().is_some());
    (client, server)
}
