//! Answers of the tool itself, where there is none of the other side: 502 and a JSON body that says what
//! happened and what to do.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tower_seal::{Error, NodeId, error::Code, trust::PeerChanged};

use crate::upstream::AnyBody;

/// `{"error":{"code":…,"message":…}}`.
pub(crate) fn respond(code: &str, message: &str) -> Response<AnyBody> {
    let body = serde_json::json!({ "error": { "code": code, "message": message } }).to_string();
    let mut response = Response::new(Full::from(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
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

/// The answer to a request that could not be sealed and sent, or whose answer could not be opened.
///
/// `node` is this side; `known` is what trust on first use, if that is on, has to say.
pub(crate) fn of(
    error: &Error,
    far_side: &str,
    node: NodeId,
    known: Option<&Known<'_>>,
) -> Response<AnyBody> {
    let (code, remedy) = explain(error);
    let named = |text: &str| known.map_or(text.to_owned(), |known| known.named(text));
    if let Some(changed) = known.and_then(|known| known.changed.as_ref()) {
        return respond(code, &named(&changed.to_string().replacen("the", "The", 1)));
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    let remedy = match error {
        // It says what to do.
        Error::Untrusted { .. } if known.is_some() => {
            return respond(code, &named(&format!("{far_side}: {text}.")));
        }
        Error::Refused { code: Code::UntrustedPeer, .. } => {
            format!(
                "Its operator has to let this side in: `tower-seal serve --allow {node}`. If that runs with the \
                 same key as this, give one of the two another with --identity FILE."
            )
        }
        _ => remedy.to_owned(),
    };
    respond(code, &format!("{far_side}: {text}. {remedy}"))
}

fn explain(error: &Error) -> (&'static str, &'static str) {
    match error {
        Error::OutcomeUnknown => ("outcome_unknown", "Look whether it was done before you repeat it."),
        Error::Unsealed { .. } => (
            "unsealed",
            "Something that does not speak tower-seal answered: check the URL, and that `tower-seal serve` \
             listens there, without --plaintext.",
        ),
        Error::TimedOut { .. } => ("timeout", "Check that the far side runs, and its load."),
        Error::Transport(_) => ("unreachable", "Check the URL, and that the far side runs."),
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
