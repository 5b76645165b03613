//! What the host said when it began, so that it can be said again to a far side that has begun anew.
//!
//! In MCP until 2025-11-25 a server knows its client by `initialize`. After a loss the far side is a fresh one, a
//! new child or a new session, that has not seen it. A host takes its server for one process, and could not know
//! that it should begin again: so its own `initialize` and `notifications/initialized` are sent again before
//! anything else, and the answer, which it has had, is kept from it. That changes nothing at the far side. What
//! is not sent again is any request; and what the server kept for the client, such as subscriptions, is gone.

use serde::Deserialize;

use super::{
    fault::Fault,
    message::{Id, Line},
};

#[derive(Debug, Default)]
pub(super) struct Greeting {
    initialize: Option<Line>,
    /// As agreed in the answer to that.
    version: Option<String>,
    initialized: Option<Line>,
}

impl Greeting {
    /// To be told of each message of the host.
    pub(super) fn told(&mut self, line: &Line) {
        if line.is_initialize() {
            *self = Greeting { initialize: Some(line.clone()), ..Greeting::default() };
        } else if line.is_notification("notifications/initialized") {
            self.initialized = Some(line.clone());
        }
    }

    /// To be told of each answer that the host gets: true for the one to its `initialize`.
    pub(super) fn heard(&mut self, line: &Line) -> bool {
        if self.version.is_some() || !self.is_answer(line) {
            return false;
        }
        self.version = version(line);
        true
    }

    /// Whether this answers `initialize`, for the first time or again.
    pub(super) fn is_answer(&self, line: &Line) -> bool {
        let asked = self.initialize.as_ref().map_or(&[][..], Line::asks);
        !asked.is_empty() && line.answers() == asked
    }

    /// The protocol version that was agreed upon; `None` until then.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What has to be said to a far side that has begun anew, if anything.
    pub(super) fn again(&self) -> Option<&Line> {
        self.initialize.as_ref().filter(|_| self.version.is_some())
    }

    /// What has to be said after the answer to that, unless the host has not said it yet.
    pub(super) fn then(&self) -> Option<&Line> {
        self.initialized.as_ref()
    }

    /// Whether the answer to [`again`](Greeting::again) lets the host go on as before.
    pub(super) fn fits(&self, answer: &Line) -> Result<(), Fault> {
        match version(answer) {
            Some(version) if Some(&version) == self.version.as_ref() => Ok(()),
            Some(version) => Err(Fault::new(
                "begun_anew",
                format!(
                    "The far side has begun anew, and speaks MCP {version} now, not {} as before: restart this \
                     server in its host.",
                    self.version.as_deref().unwrap_or_default()
                ),
            )),
            None => Err(Fault::new(
                "begun_anew",
                "The far side has begun anew, and refuses to be initialised again: restart this server in its host.",
            )),
        }
    }

    /// The id of `initialize`.
    pub(super) fn id(&self) -> Option<&Id> {
        self.initialize.as_ref().and_then(|line| line.asks().first())
    }
}

/// The version in an answer to `initialize`; `None` where that is an error.
fn version(answer: &Line) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        result: Agreed,
    }
    #[derive(Deserialize)]
    struct Agreed {
        #[serde(rename = "protocolVersion")]
        protocol_version: String,
    }
    serde_json::from_slice::<Answer>(&answer.bytes).ok().map(|answer| answer.result.protocol_version)
}
