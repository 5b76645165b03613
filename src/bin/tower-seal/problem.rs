//! Answers of the tool itself, where there is none of the other side: 502 and a JSON body that says what
//! happened and what to do.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use tower_seal::{Error, NodeId, error::Code, http::NotSent, trust::PeerChanged};

use crate::{failure::Chain, upstream::AnyBody};

/// 502 and `{"error":{"code":…,"message":…}}`.
pub(crate) fn respond(code: &str, message: &str) -> Response<AnyBody> {
    respond_with(StatusCode::BAD_GATEWAY, code, message)
}

/// The same with another status.
pub(crate) fn respond_with(status: StatusCode, code: &str, message: &str) -> Response<AnyBody> {
    let body = serde_json::json!({ "error": { "code": code, "message": message } }).to_string();
    let mut response = Response::new(Full::from(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is known of the far side since its first use.
pub(crate) struct Known<'a> {
    /// That its key is not the one that was learned.
    pub(crate) changed: Option<PeerChanged>,
    /// How a command about the file begins.
    pub(crate) command: &'a str,
}

impl Known<'_> {
    fn named(&self, text: &str) -> String {
        text.replace("tower-seal peers", self.command)
    }
}

/// What to say of a request that could not be sealed and sent, or whose answer could not be opened: a code, and
/// a sentence.
///
/// `node` is this side; `known` is what trust on first use, if that is on, has to say.
pub(crate) fn explain(
    error: &Error,
    far_side: &str,
    node: NodeId,
    known: Option<&Known<'_>>,
) -> (&'static str, String) {
    let (code, remedy) = advice(error);
    let named = |text: &str| known.map_or(text.to_owned(), |known| known.named(text));
    if let Some(changed) = known.and_then(|known| known.changed.as_ref()) {
        return (code, named(&changed.to_string().replacen("the", "The", 1)));
    }
    let text = Chain(error);
    let remedy = match error {
        // It says what to do.
        Error::Untrusted { .. } if known.is_some() => {
            return (code, named(&format!("{far_side}: {text}.")));
        }
        Error::Refused { code: Code::UntrustedPeer, .. } => {
            format!(
                "Its operator has to let this side in: `tower-seal serve --allow {node}`. If that runs with the \
                 same key as this, give one of the two another with --identity FILE."
            )
        }
        Error::Unsealed { status: 400..=499 } if far_side.starts_with("ws") => {
            format!("{remedy} If it does, then before an HTTP server: {BY_HTTP}.")
        }
        _ => remedy.to_owned(),
    };
    (code, format!("{far_side}: {text}. {remedy}"))
}

const BY_HTTP: &str = "that is reached with an http:// or https:// URL";

/// The same where nothing is sealed, of a WebSocket that there is not.
pub(crate) fn explain_no_websocket(status: u16, far_side: &str) -> (&'static str, String) {
    (
        "unsealed",
        format!(
            "{far_side}: there is no plain WebSocket (status {status}). If `tower-seal serve` seals there, leave \
             --plaintext out here; if an HTTP server is behind it, {BY_HTTP}."
        ),
    )
}

/// The same of a request that would do harm if it were made twice, and may have been served.
pub(crate) fn explain_unknown(error: &Error, far_side: &str) -> (&'static str, String) {
    let (code, remedy) = advice(&Error::OutcomeUnknown);
    (
        code,
        format!(
            "{far_side}: {}. The request may have been served; it was not sent again. {remedy}",
            Chain(error)
        ),
    )
}

/// Whether the request had left, so that it may have been served.
pub(crate) fn may_be_done(error: &Error) -> bool {
    is_lost(error) || matches!(error, Error::TimedOut { waiting_for: "the response" })
}

/// Whether the connection broke when the request, or a part of it, had left.
fn is_lost(error: &Error) -> bool {
    let broke =
        |cause: Cause<'_>| cause.downcast_ref().is_some_and(|error: &legacy::Error| !error.is_connect());
    matches!(error, Error::Transport(_))
        && !causes(error).any(|cause| cause.is::<NotSent>())
        && causes(error).any(broke)
}

type Cause<'a> = &'a (dyn std::error::Error + 'static);

fn causes(error: &Error) -> impl Iterator<Item = Cause<'_>> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

/// Errors of TLS are inside of others of I/O, which do not name them as their sources.
fn is_of_certificate(mut cause: Cause<'_>) -> bool {
    while let Some(inner) = cause.downcast_ref().and_then(|error: &std::io::Error| error.get_ref()) {
        cause = inner;
    }
    matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

fn advice(error: &Error) -> (&'static str, &'static str) {
    match error {
        Error::OutcomeUnknown => ("outcome_unknown", "Look whether it was done before you repeat it."),
        Error::Unsealed { status: 426 } => (
            "unsealed",
            "A stdio server may be behind that, which `tower-seal connect` reaches, with a ws:// or wss:// URL.",
        ),
        Error::Unsealed { .. } => (
            "unsealed",
            "Something that does not speak tower-seal answered: check the URL, and that `tower-seal serve` \
             listens there, without --plaintext.",
        ),
        Error::TimedOut { .. } => ("timeout", "Check that the far side runs, and its load."),
        Error::Transport(_) if causes(error).any(is_of_certificate) => (
            "certificate",
            "Whoever answers there has no certificate that this side trusts: if it is of an authority of your own, \
             give that with --ca; otherwise check the URL.",
        ),
        Error::Transport(_) if is_lost(error) => ("connection_lost", "The connection broke: try again."),
        Error::Transport(_) => ("unreachable", "Check the URL, and that the far side runs."),
        Error::Misbehaved { code: Code::TooLarge, .. } => {
            ("too_large", "The answer is larger than this side takes: ask for less at once.")
        }
        Error::Misuse { .. } => ("malformed", "Change the request."),
        error => match error.code() {
            Some(code) => (code.as_str(), remedy(code)),
            None => ("failed", "See the log."),
        },
    }
}

fn remedy(code: Code) -> &'static str {
    match code {
        Code::UntrustedPeer => {
            "Another key answers there than the one expected: compare the node id that `tower-seal serve` \
             prints there with --peer here."
        }
        Code::WrongAudience => {
            "Another key answers there than the one expected: compare the node id that `tower-seal serve` \
             prints there with --peer here."
        }
        Code::UnsupportedVersion | Code::UnsupportedSuite => "Update the older of the two sides.",
        Code::PathMismatch => {
            "A gateway in between rewrites paths or names: tell `tower-seal serve` with --strip-prefix, or \
             --authority."
        }
        Code::EncryptionRequired => "The far side takes no plaintext: leave --plaintext out here.",
        Code::UnknownSession => {
            "The far side lost the session, or another one answers in its place: try again."
        }
        Code::Expired => "It took too long on the way: try again.",
        Code::Busy => "The far side has too much to do: try again later.",
        Code::TooLarge => "Send less at once.",
        Code::Timeout => "The far side waited in vain: try again.",
        _ => "Somebody in between changed something, or one side has an error: try again, then look there.",
    }
}
