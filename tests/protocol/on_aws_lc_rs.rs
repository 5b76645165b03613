//! The same promises, kept by the other backend; and the two of them with each other.

#![allow(clippy::unwrap_used, clippy::panic, clippy::result_large_err)]

#[path = "main.rs"]
mod promises;

use promises::support::{self, BOTH, Pair};
use tower_seal::config::{Backend, Signatures};

#[test]
fn it_is_the_other_backend() {
    for config in [&Pair::new().client, Pair::new().server.config()] {
        assert!(format!("{config:?}").contains("backend: aws-lc-rs"), "{config:?}");
    }
}

#[test]
fn backends_talk_to_each_other() {
    assert_eq!(Backend::ALL, [Backend::RUST_CRYPTO, Backend::AWS_LC_RS]);
    assert_eq!(Backend::default(), Backend::RUST_CRYPTO);
    for (ours, theirs) in [(0, 1), (1, 0)] {
        for encoding in BOTH {
            for signatures in [Signatures::Every, Signatures::Handshake] {
                let mut pair = Pair::with(
                    |client| client.backend(Backend::ALL[ours]).encoding(encoding).signatures(signatures),
                    |server| server.backend(Backend::ALL[theirs]).signatures(signatures),
                );
                let session = pair.session();
                pair.exchange(&session).unwrap();
                pair.exchange(&session).unwrap();
            }
        }
    }
}
