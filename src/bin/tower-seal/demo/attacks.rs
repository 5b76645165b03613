//! The attacks, each followed by an honest call.

use std::{io::Write, time::Duration};

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_seal::{Error, error::Code};

use super::{
    client::{Client, Failure},
    middle::{Attack, Message, Name},
    recorded::invoice,
    show::{Outcome, Show},
    stage::Stage,
};
use crate::BoxError;

/// What the middle would like the client to believe.
const INVENTED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"5"}]}}"#;

/// Who has to refuse an attack.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Server,
    Client,
}

/// How long an attacked call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Attacks in every way, and shows what came of it. `paid` is the exchange in which the invoice was
/// paid, and `plain` a request to do so without the seal.
pub(super) async fn show<W: Write>(
    show: &mut Show<W>,
    stage: &Stage,
    client: &Client,
    paid: usize,
    plain: &Message,
) -> Result<(), BoxError> {
    show.chapter("The middle attacks, and each time an honest call follows")?;
    show.attacks()?;
    let attacker = Attacker { stage, client };
    let recorded = stage.middle.tape().exchange(paid).ok_or("the call is not on the tape")?;

    let outcome = attacker.call(Attack::FlipRequest, By::Server, Some(Code::DecryptionFailed)).await;
    show.attack("flips one bit of another request to pay", &outcome)?;
    let outcome = attacker.send(&recorded.request, Code::Replayed).await;
    show.attack("sends the request that paid the invoice again", &outcome)?;
    let outcome = attacker.join().await;
    show.attack("calls the server itself, with its own key", &outcome)?;
    let outcome = attacker.send(plain, Code::EncryptionRequired).await;
    show.attack("sends a request to pay without a seal", &outcome)?;

    let outcome = attacker.call(Attack::FlipAnswer, By::Client, Some(Code::DecryptionFailed)).await;
    show.attack("flips one bit of an answer", &outcome)?;
    let swap = Attack::Swap(recorded.answer.clone());
    let outcome = attacker.call(swap, By::Client, Some(Code::Malformed)).await;
    show.attack("answers with the answer to another call", &outcome)?;
    let swap = Attack::Relabel(recorded.answer);
    let outcome = attacker.call(swap, By::Client, Some(Code::DecryptionFailed)).await;
    show.attack("answers so, with the number of the call put right", &outcome)?;
    let outcome = attacker.connect(Attack::OwnKey(Name::Own), Code::UntrustedPeer).await;
    show.attack("answers a handshake with a stranger's key: its own", &outcome)?;
    let outcome = attacker.connect(Attack::OwnKey(Name::Server), Code::InvalidSignature).await;
    show.attack("answers so, under the name of the server", &outcome)?;
    let outcome = attacker.call(Attack::Plaintext(INVENTED), By::Client, None).await;
    show.attack("answers with plaintext of its own invention", &outcome)?;

    show.claim(stage.server.paid() == 1, "through all of this the invoice was paid once")?;
    Ok(())
}

struct Attacker<'a> {
    stage: &'a Stage,
    client: &'a Client,
}

impl Attacker<'_> {
    /// Attacks a call on its way.
    async fn call(&self, attack: Attack, by: By, code: Option<Code>) -> Outcome {
        let before = self.refusals(code);
        self.stage.middle.arm(attack);
        let call = match by {
            By::Server => self.client.call("pay_invoice", invoice()),
            By::Client => self.client.call("add_numbers", json!({ "a": 2, "b": 2 })),
        };
        let result = timeout(PATIENCE, call).await.unwrap_or(Ok("the call hung".to_owned()));
        let struck = !self.stage.middle.disarm();
        let counted = by == By::Client || self.refusals(code) == before + 1;
        let (refused, with) = judge(result, by, code);
        Outcome {
            refused: refused && struck && counted,
            by: by.name(),
            with,
            after: works(self.client).await,
        }
    }

    /// Attacks the handshake of a client that has no session yet, and then leaves the same client alone.
    async fn connect(&self, attack: Attack, code: Code) -> Outcome {
        let (http, url) = (self.stage.http(), self.stage.middle.url());
        self.stage.middle.arm(attack);
        let result = Client::connect(http.clone(), &url).await.map(|_| "it got a session".to_owned());
        let struck = !self.stage.middle.disarm();
        let (refused, with) = judge(result, By::Client, Some(code));
        let after = match Client::connect(http, &url).await {
            Ok(client) => works(&client).await,
            Err(_) => false,
        };
        Outcome { refused: refused && struck, by: By::Client.name(), with, after }
    }

    /// Has the middle make a session with the server, under its own name.
    async fn join(&self) -> Outcome {
        let code = Some(Code::UntrustedPeer);
        let before = self.refusals(code);
        let result = self.stage.stranger().await.map(|_| "it got a session".to_owned());
        let counted = self.refusals(code) == before + 1;
        let (refused, with) = judge(result, By::Server, code);
        let after = works(self.client).await;
        Outcome { refused: refused && counted, by: By::Server.name(), with, after }
    }

    /// Has the middle send `request` on its own.
    async fn send(&self, request: &Message, code: Code) -> Outcome {
        let before = self.refusals(Some(code));
        let (refused, with) = match self.stage.middle.send(request).await {
            Ok((status, body)) => {
                let error: Value = serde_json::from_slice(&body).unwrap_or_default();
                let refused = status == code.http_status() && error["code"] == code.as_str();
                let counted = self.refusals(Some(code)) == before + 1;
                (refused && counted, error["code"].as_str().map_or_else(|| status.to_string(), str::to_owned))
            }
            Err(error) => (false, error.to_string()),
        };
        Outcome { refused, by: By::Server.name(), with, after: works(self.client).await }
    }

    /// How many messages the server's layer has refused with `code`, as it counts itself.
    fn refusals(&self, code: Option<Code>) -> u64 {
        code.map_or(0, |code| self.stage.server_config.telemetry().rejections(code))
    }
}

/// Whether `result` is a refusal by the right side with the right code, or for want of a seal where no code
/// is given; and what it is in words.
fn judge(result: Result<String, Failure>, by: By, code: Option<Code>) -> (bool, String) {
    let failure = match result {
        Ok(answer) => return (false, format!("not refused: {answer}")),
        Err(failure) => failure,
    };
    match failure.sealed() {
        Some(Error::Unsealed { .. }) => (code.is_none(), "it is not sealed".to_owned()),
        Some(error) => {
            // A refusal of what was changed on its way can't be signed for what was sent, and so counts as
            // anybody's: that it is the server's, its own counters tell.
            let from = if matches!(error, Error::Refused { .. }) { By::Server } else { By::Client };
            let right = error.code().is_some() && error.code() == code && from == by;
            (right, error.code().map_or_else(|| error.to_string(), |code| code.to_string()))
        }
        None => (false, failure.to_string()),
    }
}

/// Whether an honest call is answered.
async fn works(client: &Client) -> bool {
    client.call("add_numbers", json!({ "a": 20, "b": 22 })).await.is_ok_and(|sum| sum == "42")
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Server => "server",
            By::Client => "client",
        }
    }
}
