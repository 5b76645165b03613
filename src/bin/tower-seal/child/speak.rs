//! From the child to the client.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::process::ChildStdout;
use tokio_util::codec::FramedRead;
use tower_seal::{
    duplex::{Sender, Transport},
    error::Result,
};

use super::{
    lines::{Lines, Spoken},
    message::{is_message, too_long},
    signs::{Signs, Stage},
    voice::Voice,
};

const LONG_LINE: &str =
    "the server wrote a line of more than 1 MiB, which no record can carry, and which is no answer";

/// Until stdout has ended.
pub(super) async fn speak<T: Transport>(
    stdout: ChildStdout,
    sender: &mut Sender<T>,
    signs: &Signs,
    voice: &Voice,
) {
    let mut lines = FramedRead::new(stdout, Lines::default());
    if said(&mut lines, sender, signs, voice).await.is_err() {
        signs.lose_client();
    }
    // A child that cannot get rid of its words does not see that it is to end.
    let _ = tokio::io::copy(lines.get_mut(), &mut tokio::io::sink()).await;
    signs.reach(Stage::Ending);
}

async fn said<T: Transport>(
    lines: &mut FramedRead<ChildStdout, Lines>,
    sender: &mut Sender<T>,
    signs: &Signs,
    voice: &Voice,
) -> Result<()> {
    loop {
        let line = match lines.next().now_or_never() {
            Some(line) => line,
            // Only when there is nothing more to go with it.
            None => {
                sender.flush().await?;
                lines.next().await
            }
        };
        match line {
            Some(Ok(Spoken::Line(line))) if line.trim_ascii().is_empty() => {}
            Some(Ok(Spoken::Line(line))) => {
                signs.spoke();
                if is_message(&line) {
                    sender.feed(line).await?;
                } else {
                    voice.say("stdout", &line);
                }
            }
            Some(Ok(Spoken::Long(line))) => {
                signs.spoke();
                let Some(answer) = too_long(&line) else {
                    signs.end_in(LONG_LINE);
                    break;
                };
                tracing::warn!(
                    child = voice.child,
                    bytes = line.length(),
                    "an answer is too long to be sent"
                );
                sender.feed(answer).await?;
            }
            Some(Ok(Spoken::Endless)) => {
                signs.end_in(LONG_LINE);
                break;
            }
            Some(Err(_)) | None => break,
        }
    }
    sender.flush().await
}
