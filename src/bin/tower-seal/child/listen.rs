//! From the client to the child.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{io::AsyncWriteExt as _, process::ChildStdin, sync::mpsc, time::timeout};
use tower_seal::{
    config::PORTABLE_RECORD,
    duplex::{Receiver, Transport},
};

use super::{
    message::into_line,
    signs::{Signs, Stage},
};

/// How long a child may leave a message unread, as long as a client may (`Limits::stall`).
const STALL: Duration = Duration::from_secs(300);

const LONG_MESSAGE: &str = "too_large: a message has at most 1 MiB";
const STALLED: &str = "the server has left a message unread for 5 minutes";

/// Until the child has ended, or the client has nothing more to say.
pub(super) async fn listen<T: Transport>(receiver: &mut Receiver<T>, stdin: ChildStdin, signs: &Signs) {
    // One message waits, so that the client's pings are answered while the child leaves one unread.
    let (queue, queued) = mpsc::channel(1);
    let take = async {
        if take(receiver, queue, signs).await {
            // Whether the client is still there has to be known until the child has ended, and its pings are answered.
            let _ = receiver.gone().await;
            signs.lose_client();
        }
    };
    let take = async {
        tokio::select! {
            () = take => {}
            () = signs.reached(Stage::Ended) => {}
        }
    };
    let feed = async {
        // Which drops stdin, whereupon the child is to end.
        tokio::select! {
            () = feed(stdin, queued, signs) => {}
            () = signs.deaf.cancelled() => {}
            () = signs.reached(Stage::Ended) => {}
        }
    };
    tokio::join!(take, feed);
}

/// False once the client has gone.
async fn take<T: Transport>(receiver: &mut Receiver<T>, queue: mpsc::Sender<Bytes>, signs: &Signs) -> bool {
    let mut ending = std::pin::pin!(signs.reached(Stage::Ending));
    loop {
        let message = tokio::select! {
            message = receiver.next() => message,
            () = &mut ending => return true,
        };
        match message {
            Some(Ok(message)) if message.is_empty() => {}
            // In plaintext; sealed ones are no longer.
            Some(Ok(message)) if message.len() > PORTABLE_RECORD => {
                signs.end_in(LONG_MESSAGE);
                return true;
            }
            Some(Ok(message)) => {
                tokio::select! {
                    _ = queue.send(message) => {}
                    () = &mut ending => return true,
                }
            }
            Some(Err(error)) => {
                tracing::debug!(error = %error, "a client has gone");
                signs.lose_client();
                return false;
            }
            None => {
                signs.reach(Stage::Ending);
                return true;
            }
        }
    }
}

async fn feed(mut stdin: ChildStdin, mut queued: mpsc::Receiver<Bytes>, signs: &Signs) {
    while let Some(message) = queued.recv().await {
        match timeout(STALL, stdin.write_all(&into_line(message))).await {
            Ok(Ok(())) => {}
            // It reads no more: it may still say something before it ends.
            Ok(Err(_)) => return signs.reach(Stage::Ending),
            Err(_) => return signs.end_in(STALLED),
        }
    }
}
