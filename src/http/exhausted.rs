//! What becomes of messages that the backend cannot sign any more.

use std::convert::Infallible;

use ::http::{Request, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use tokio::task::yield_now;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{SealLayer, UnsealLayer};
use crate::{
    Config, Identity,
    error::{Code, Error, Result},
    suite::exhausted::{EXHAUSTED, leave},
    trust::AnyIdentity,
};

fn config() -> Config {
    Config::new(Identity::generate(), AnyIdentity)
}

/// Asks for two pieces, of which the second one comes later. So many signatures can be made on this thread from the
/// call on, from the moment when the server is called, and when there is a second piece.
async fn ask(client: &SealLayer, server: &UnsealLayer, left: [usize; 3]) -> Result<Bytes> {
    let [at_first, when_served, at_last] = left;
    let app = service_fn(move |_: Request<_>| async move {
        leave(when_served);
        let pieces = unfold(0, move |piece| async move {
            if piece == 1 {
                yield_now().await;
                leave(at_last);
            }
            (piece < 2).then(|| (Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"piece"))), piece + 1))
        });
        Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(pieces))))
    });
    leave(at_first);
    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    let answer = client.layer(server.layer(app)).oneshot(request).await?;
    let content = answer.into_body().collect().await;
    leave(MANY);
    content.map(|content| content.to_bytes())
}

const MANY: usize = usize::MAX;

#[tokio::test]
async fn a_client_that_cannot_sign_sends_nothing_and_goes_on_when_it_can() {
    let (client, server) = (SealLayer::new(config().backend(EXHAUSTED)), UnsealLayer::new(config()));
    assert_eq!(ask(&client, &server, [MANY; 3]).await.unwrap(), "piecepiece");
    let error = ask(&client, &server, [0, MANY, MANY]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { code: Code::Busy, .. }), "{error:?}");
    assert_eq!(ask(&client, &server, [MANY; 3]).await.unwrap(), "piecepiece");
}

#[tokio::test]
async fn a_server_that_cannot_sign_its_answer_is_busy() {
    let (client, server) = (SealLayer::new(config()), UnsealLayer::new(config().backend(EXHAUSTED)));
    let error = ask(&client, &server, [MANY, 0, 0]).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Busy, signed: false }), "{error:?}");
    leave(MANY);
    assert_eq!(ask(&client, &server, [MANY; 3]).await.unwrap(), "piecepiece");
}

#[tokio::test]
async fn an_answer_whose_next_record_cannot_be_signed_ends_with_an_error() {
    let (client, server) = (SealLayer::new(config()), UnsealLayer::new(config().backend(EXHAUSTED)));
    let error = ask(&client, &server, [MANY, MANY, 0]).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)) || error.code() == Some(Code::Truncated), "{error:?}");
}
