//! Messages between a client and its child, until one of them ends.

use std::{io, process::ExitStatus, time::Duration};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_seal::duplex::{Receiver, Sealed, Sender, Transport};

use super::{
    Children, Streams,
    listen::listen,
    message::notice,
    signs::{Signs, Stage},
    speak::speak,
};
use crate::daemon::Tasks;

/// How long the client may take for what is left to be said when the child has ended.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long the rest of stderr may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Messages that are still taken from a client that is told of an end.
const UNREAD: usize = 64;

const NO_START: &str = "the server cannot be started; its operator finds the reason in the log of tower-seal";
const STOPS: &str = "`tower-seal serve` stops";
const UNSAID: &str = "the server has ended, perhaps before all that it said was sent";

/// Starts a child for a client that is known, and carries messages until both have ended.
pub(crate) async fn carry<T: Transport>(sealed: Sealed<T>, children: &Children, tasks: &Tasks) {
    let peer = sealed.verified().map(|peer| peer.node_id());
    let (mut sender, mut receiver) = sealed.into_split();
    let child = children.place(peer).and_then(|place| {
        children.start(peer, place).map_err(|error| {
            tracing::warn!(error = %error, "`{}` cannot be started", children.program);
            NO_START
        })
    });
    let mut child = match child {
        Ok(child) => child,
        Err(reason) => return complain(sender, receiver, reason).await,
    };
    let Some(Streams { stdin, stdout, stderr }) = child.streams.take() else { return };
    let (signs, voice, hurry) = (Signs::new(), child.voice.clone(), tasks.hurry());

    let status = {
        let listen = listen(&mut receiver, stdin, &signs);
        let speak = async {
            tokio::select! {
                () = speak(stdout, &mut sender, &signs, &voice) => {}
                // The client does not read, or something that left the group still holds stdout.
                () = late(&signs, FAREWELL, hurry) => signs.end_in(UNSAID),
            }
        };
        let voices = async {
            tokio::select! {
                () = voice.pass(stderr) => {}
                () = late(&signs, LAST_WORDS, hurry) => {}
            }
        };
        let stop = async {
            tokio::select! {
                () = tasks.end().cancelled() => signs.dismiss(),
                () = signs.reached(Stage::Ended) => {}
            }
        };
        tokio::join!(child.live(&signs, hurry), listen, speak, voices, stop).0
    };
    // From here on there is room for another.
    drop(child);
    let reason = signs.trouble().map(str::to_owned).or_else(|| failure(&status));
    match &reason {
        // Whoever has it to end need not be told how it did.
        _ if signs.is_dismissed() => tracing::info!(child = voice.child, reason, "ended"),
        Some(reason) => tracing::warn!(child = voice.child, reason, "a server ended by itself"),
        None if !signs.has_spoken() => {
            tracing::warn!(child = voice.child, "a server ended by itself before it said anything");
        }
        None => tracing::info!(child = voice.child, "ended"),
    }
    if signs.deaf.is_cancelled() {
        return;
    }
    match reason {
        Some(reason) => {
            // Told to end by this program, a child need not end well.
            let is_stopped = tasks.end().is_cancelled() && signs.trouble().is_none();
            complain(sender, receiver, if is_stopped { STOPS } else { &reason }).await;
        }
        None => {
            let part = async {
                let _ = sender.close().await;
                // The transport is closed once the client has ended its direction, too.
                while let Some(Ok(_)) = receiver.next().await {}
            };
            tokio::select! {
                _ = timeout(FAREWELL, part) => {}
                () = hurry.cancelled() => {}
            }
        }
    }
}

/// Some time after the end of the child and of all that it started.
async fn late(signs: &Signs, time: Duration, hurry: &CancellationToken) {
    signs.reached(Stage::Gone).await;
    tokio::select! {
        () = sleep(time) => {}
        () = hurry.cancelled() => {}
    }
}

fn failure(status: &io::Result<ExitStatus>) -> Option<String> {
    match status {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("the server has ended with {status}")),
        Err(error) => Some(format!("it is not known how the server has ended ({error})")),
    }
}

/// The last message, and an end that is not a good one.
async fn complain<T: Transport>(mut sender: Sender<T>, mut receiver: Receiver<T>, reason: &str) {
    let _ = timeout(FAREWELL, sender.send(notice(reason))).await;
    // What has come and is not read would reset the connection, and the client might not get the notice.
    for _ in 0..UNREAD {
        let Some(Some(Ok(_))) = receiver.next().now_or_never() else { break };
    }
}
