//! `tower-seal demo`: the seal at work, against a middle that reads and attacks everything.
//!
//! ```text
//!  rmcp client ── SealLayer ── hyper ──TCP──> the middle ──TCP──> axum ── UnsealLayer ── rmcp server
//!                                         records and attacks
//! ```
//!
//! Nothing is played: refusals come from the layers, and each claim is made of what was seen in this run.

mod attacks;
mod client;
mod middle;
mod recorded;
mod search;
mod server;
mod show;
mod stage;

use std::{
    env,
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::BoxError;
use client::Client;
use middle::HANDSHAKE;
use show::{Show, abridged};
use stage::Stage;

/// How long all of it may take; it takes about two seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs the demo. Success only if every claim holds.
pub(crate) async fn run() -> Result<ExitCode, BoxError> {
    let plaintext = env::var("TOWER_SEAL_PLAINTEXT").is_ok_and(|value| value == "1");
    let mut show = Show::new(anstream::stdout());
    let told = tokio::time::timeout(LIMIT, tell(&mut show, plaintext)).await;
    told.map_err(|_| format!("the demo was not at its end after {} s", LIMIT.as_secs()))??;
    Ok(if show.end()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn tell<W: Write>(show: &mut Show<W>, plaintext: bool) -> Result<(), BoxError> {
    let stage = Stage::start(plaintext).await?;
    who(show, &stage)?;
    let mut client = Client::connect(stage.http(), &stage.middle.url()).await?;
    handshake(show, &stage)?;
    let paid = calls(show, &stage, &client).await?;
    streaming(show, &stage, &mut client).await?;
    let unsealed = recorded::rehearse().await?;
    recorded::compare(show, &stage, paid, &unsealed)?;
    attacks::show(show, &stage, &client, paid, unsealed.request()?).await?;
    recorded::learned(show, &stage, &unsealed)?;
    Ok(())
}

fn who<W: Write>(show: &mut Show<W>, stage: &Stage) -> Result<(), BoxError> {
    show.say(
        "An MCP client calls an MCP server through a middle that neither of them trusts. All three run in \
         this process and talk over TCP. The middle keeps all that it receives, and later it attacks.",
    )?;
    show.chapter("Who is who: a node is its Ed25519 key")?;
    let stranger = stage.middle.identity().node_id();
    for (name, id) in [("client", stage.client_id), ("server", stage.server_id), ("middle", stranger)] {
        show.fact(name, &format!("{}  {id}", id.short()))?;
    }
    show.fact("", "client and server trust each other's key, and no other")?;
    show.fact("", &format!("the client is told that the server is at {}", stage.middle.url()))?;
    Ok(())
}

fn handshake<W: Write>(show: &mut Show<W>, stage: &Stage) -> Result<(), BoxError> {
    show.chapter("The handshake, as the middle saw it")?;
    let seen = stage.middle.tape().exchange(0).filter(|seen| seen.request.content_type == HANDSHAKE);
    let Some(seen) = seen else {
        show.claim(false, "a handshake came before anything else")?;
        return Ok(());
    };
    let texts = seen.messages().map(|message| String::from_utf8_lossy(&message.body()).into_owned());
    let [hello, reply] = [serde_json::from_str::<Value>(&texts[0])?, serde_json::from_str(&texts[1])?];
    show.wire("client says", &abridged(&texts[0]))?;
    show.wire("server says", &abridged(&texts[1]))?;

    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kem = |message: &Value| text(&message["extensions"]["mlkem768"]).len() / 2;
    show.fact("session", &abridged(&text(&reply["session"])))?;
    show.fact("cipher suite", &text(&reply["suite"]))?;
    let (key, ciphertext) = (kem(&hello), kem(&reply));
    show.fact("post-quantum", &format!("ML-KEM-768 beside X25519: {key} bytes there, {ciphertext} back"))?;
    show.fact("time", &format!("{:.1} ms, one round trip", seen.took().as_secs_f64() * 1e3))?;
    let named = [&hello["node_id"], &hello["audience"], &reply["node_id"]].map(text);
    let meant = [stage.client_id, stage.server_id, stage.server_id].map(|id| id.to_string());
    show.claim(named == meant, "each names the other, and signs that with its key")?;
    let hybrid = (key, ciphertext) == (1184, 1088);
    show.claim(hybrid, "both make the key: what is recorded now stays closed to a later quantum computer")?;
    Ok(())
}

/// Returns the number of the exchange in which the invoice was paid.
async fn calls<W: Write>(show: &mut Show<W>, stage: &Stage, client: &Client) -> Result<usize, BoxError> {
    show.chapter("MCP as ever: rmcp's own client and server, which know nothing of the seal")?;
    for (i, tool) in client.tools().await?.into_iter().enumerate() {
        let text = format!("{:<13}{}", tool.name, tool.description.unwrap_or_default());
        show.fact(if i == 0 { "tools" } else { "" }, &text)?;
    }
    let sum = client.call("add_numbers", json!({ "a": 2, "b": 40 })).await?;
    show.fact("calls", &format!("add_numbers(2, 40)  →  {sum}"))?;
    let number = stage.middle.tape().len();
    let paid = client.call("pay_invoice", recorded::invoice()).await?;
    show.fact("", &format!("pay_invoice(\"Ada Lovelace\", 250)  →  {paid}"))?;
    let caller = client.call("who_am_i", json!({})).await?;
    show.fact("", &format!("who_am_i()  →  {}", abridged(&caller)))?;
    show.claim(sum == "42" && stage.server.paid() == 1, "calls are answered, and the invoice is paid, once")?;
    let known = caller == stage.client_id.to_string();
    show.claim(known, "the server's tool knows the caller by the client's key")?;
    Ok(number)
}

async fn streaming<W: Write>(show: &mut Show<W>, stage: &Stage, client: &mut Client) -> Result<(), BoxError> {
    show.chapter("A call that streams: each event is shown as it arrives")?;
    let (mut steps, number, began) = (Vec::new(), stage.middle.tape().len(), Instant::now());
    let time = || format!("after {} ms", began.elapsed().as_millis());
    let answer = client
        .count_down(&stage.server, |step| {
            steps.push(step.progress);
            let (text, total) = (step.message.as_deref().unwrap_or_default(), step.total.unwrap_or_default());
            show.fact(&time(), &format!("{} of {total}: {text}", step.progress)).map_err(BoxError::from)
        })
        .await?;
    show.fact(&time(), &format!("the answer: {answer}"))?;
    let seen = stage.middle.tape().exchange(number).ok_or("the call is not on the tape")?.answer.body();
    let records = seen.split_inclusive(|&byte| byte == b'\n').map(|record| record.len().to_string());
    let records = records.collect::<Vec<_>>();
    show.wire("on the wire", &format!("{} records, of {} bytes", records.len(), records.join(", ")))?;
    let whole = steps == [1.0, 2.0, 3.0] && answer == "lift-off";
    show.claim(whole, "nobody held an event back: the server makes none before the last one was shown here")?;
    Ok(())
}
