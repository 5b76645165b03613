//! What becomes of a connection whose backend cannot sign any more.

use futures_util::{SinkExt as _, StreamExt as _};

use super::{Acceptor, pipe};
use crate::{
    Config, Identity,
    error::Code,
    protocol::Destination,
    suite::exhausted::{EXHAUSTED, leave},
    trust::AnyIdentity,
};

#[tokio::test]
async fn it_ends_and_both_sides_learn_of_it_after_what_was_signed() {
    let config = || Config::new(Identity::generate(), AnyIdentity);
    let (near, far) = tokio::io::duplex(1 << 16);
    let (config, acceptor) = (config().backend(EXHAUSTED), Acceptor::new(config()));
    let (client, server) =
        tokio::join!(pipe::connect(near, &config, Destination::default()), pipe::accept(far, &acceptor));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.send("signed".into()).await.unwrap();
    leave(0);
    client.feed("one".into()).await.unwrap();
    client.feed("two".into()).await.unwrap();
    let error = client.flush().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Busy));
    leave(usize::MAX);
    // Fail once, fail always.
    assert_eq!(client.send("three".into()).await.unwrap_err().code(), Some(Code::Busy));
    assert_eq!(client.next().await.unwrap().unwrap_err().code(), Some(Code::Busy));
    assert_eq!(server.next().await.unwrap().unwrap(), "signed");
    assert_eq!(server.next().await.unwrap().unwrap_err().code(), Some(Code::Truncated));
}
