//! From the child to the client.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::process::ChildStdout;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, FramedRead};
use tower_seal::{
    config::PORTABLE_RECORD,
    duplex::{Sender, Transport},
    error::Result,
};

use super::{
    message::is_message,
    signs::{Signs, Stage},
    voice::Voice,
};

const LONG_LINE: &str = "the server wrote a line of more than 1 MiB, which no record can carry";

/// Until stdout has ended.
pub(super) async fn speak<T: Transport>(
    stdout: ChildStdout,
    sender: &mut Sender<T>,
    signs: &Signs,
    voice: &Voice,
) {
    let codec = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), Vec::new(), PORTABLE_RECORD);
    let mut lines = FramedRead::new(stdout, codec);
    if said(&mut lines, sender, signs, voice).await.is_err() {
        signs.lose_client();
    }
    // A child that cannot get rid of its words does not see that it is to end.
    let _ = tokio::io::copy(lines.get_mut(), &mut tokio::io::sink()).await;
    signs.silent.cancel();
    signs.reach(Stage::Ending);
}

async fn said<T: Transport>(
    lines: &mut FramedRead<ChildStdout, AnyDelimiterCodec>,
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
            Some(Ok(line)) if line.trim_ascii().is_empty() => {}
            Some(Ok(line)) if !is_message(&line) => voice.say("stdout", &line).await,
            Some(Ok(line)) => sender.feed(line).await?,
            Some(Err(AnyDelimiterCodecError::MaxChunkLengthExceeded)) => {
                signs.end_in(LONG_LINE);
                break;
            }
            Some(Err(AnyDelimiterCodecError::Io(_))) | None => break,
        }
    }
    sender.flush().await
}
