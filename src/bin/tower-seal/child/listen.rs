//! From the client to the child.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    process::ChildStdin,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tower_seal::{
    config::PORTABLE_RECORD,
    duplex::{Receiver, Transport},
};

use super::{
    message::into_line,
    signs::{Signs, Stage},
};

/// Messages, and bytes of them, that wait for a child which is busy: as long as there is room, its client is read on.
const QUEUE: usize = 64;
const QUEUED: usize = 4 << 20;
/// How long a child may read nothing for which no more can wait, or whose client has said all. Meanwhile the client's pings are not answered, so
/// this is less than it waits for that (`Limits::ping` and `Limits::pong`), and it hears the true reason.
const STALL: Duration = Duration::from_secs(100);

const LONG_MESSAGE: &str = "too_large: a message has at most 1 MiB";
const STALLED: &str = "the server leaves its messages unread";

/// Until the child has ended, or the client has nothing more to say.
pub(super) async fn listen<T: Transport>(receiver: &mut Receiver<T>, stdin: ChildStdin, signs: &Signs) {
    let (queue, queued) = queue();
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
async fn take<T: Transport>(receiver: &mut Receiver<T>, queue: Queue, signs: &Signs) -> bool {
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
                    has_room = timeout(STALL, queue.push(message)) => if has_room.is_err() {
                        signs.end_in(STALLED);
                        return true;
                    },
                    () = &mut ending => return true,
                }
            }
            Some(Err(error)) => {
                tracing::debug!(error = %error, "a client has gone");
                signs.lose_client();
                return false;
            }
            None => {
                signs.said_all.cancel();
                return true;
            }
        }
    }
}

async fn feed(mut stdin: ChildStdin, mut queued: mpsc::Receiver<Queued>, signs: &Signs) {
    while let Some((message, _room)) = queued.recv().await {
        let line = into_line(message);
        // As long as its client stays, a child may be as busy as it likes: that has an end in `take`.
        let stalled = async {
            signs.said_all.cancelled().await;
            sleep(STALL).await;
        };
        tokio::select! {
            written = stdin.write_all(&line) => if written.is_err() {
                // It reads no more: it may still say something before it ends.
                return signs.reach(Stage::Ending);
            },
            () = stalled => return signs.end_in(STALLED),
        }
    }
    // Its time to end by itself begins when it can see that nothing follows.
    drop(stdin);
    if signs.said_all.is_cancelled() {
        signs.dismiss();
    }
}

/// Messages for the child, bounded by number and by bytes.
struct Queue {
    messages: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// A message, and its room, which is held until it is written.
type Queued = (Bytes, Option<OwnedSemaphorePermit>);

fn queue() -> (Queue, mpsc::Receiver<Queued>) {
    let (messages, queued) = mpsc::channel(QUEUE);
    (Queue { messages, room: Arc::new(Semaphore::new(QUEUED)) }, queued)
}

impl Queue {
    async fn push(&self, message: Bytes) {
        let bytes = u32::try_from(message.len().min(QUEUED)).unwrap_or(u32::MAX);
        // Neither is ever closed before the child has ended.
        let room = self.room.clone().acquire_many_owned(bytes).await.ok();
        let _ = self.messages.send((message, room)).await;
    }
}
