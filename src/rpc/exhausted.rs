//! What becomes of messages that the backend cannot sign any more.

use std::convert::Infallible;

use bytes::Bytes;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{Message, SealLayer, UnsealLayer};
use crate::{
    Config, Identity,
    error::{Code, Error, Result},
    suite::exhausted::{EXHAUSTED, leave},
    trust::AnyIdentity,
};

/// So many signatures can be made on this thread from the call on, and from the moment when the server is called.
async fn ask(client: &SealLayer, server: &UnsealLayer, [at_first, when_served]: [usize; 2]) -> Result<Bytes> {
    let app = service_fn(move |message: Message| async move {
        leave(when_served);
        Ok::<_, Infallible>(Some(message.bytes))
    });
    leave(at_first);
    let question = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    let answer = client.layer(server.layer(app)).oneshot(question).await;
    leave(MANY);
    answer.map(Option::unwrap_or_default)
}

const MANY: usize = usize::MAX;

#[tokio::test]
async fn who_cannot_sign_is_busy_and_goes_on_when_it_can() {
    let config = || Config::new(Identity::generate(), AnyIdentity);
    let (client, server) =
        (SealLayer::new(config().backend(EXHAUSTED)), UnsealLayer::new(config().backend(EXHAUSTED)));
    ask(&client, &server, [MANY; 2]).await.unwrap();
    let error = ask(&client, &server, [0, MANY]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { code: Code::Busy, .. }), "the client: {error:?}");
    let error = ask(&client, &server, [MANY, 0]).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Busy, signed: false }), "the server: {error:?}");
    ask(&client, &server, [MANY; 2]).await.unwrap();
}
