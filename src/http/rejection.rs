//! Answers to what a server refuses.

use ::http::{Response, StatusCode};

use super::{Content, body::SealBody};
use crate::{
    error::{Code, Error},
    protocol::{Responder, Subject},
    telemetry,
};

/// Why a request was refused: in the extensions of the response, for the layers around.
#[derive(Clone, Debug)]
pub struct Rejection {
    error: Error,
}

impl Rejection {
    /// The reason.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The code that the peer gets.
    #[must_use]
    pub fn code(&self) -> Code {
        self.error.code().unwrap_or(Code::Malformed)
    }

    pub(super) fn new(error: Error) -> Self {
        Rejection {
            error: match error {
                Error::TimedOut { .. } => Error::new(Code::Timeout, "the request did not come in time"),
                // The connection broke, so that nobody is going to read this.
                Error::Transport(_) => Error::new(Code::Truncated, "the request broke off"),
                error => error,
            },
        }
    }

    /// The response, signed where there is a `subject`.
    pub(super) fn respond<B>(
        self,
        responder: &Responder,
        subject: Option<&Subject>,
    ) -> Response<SealBody<B>> {
        let code = self.code();
        tracing::debug!(target: telemetry::TARGET, code = code.as_str(), reason = %self.error, "refused");
        let mut response = Response::new(SealBody::whole(responder.refuse(&self.error, subject)));
        *response.status_mut() = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
        response.headers_mut().insert(::http::header::CONTENT_TYPE, Content::Error.media_type());
        response.extensions_mut().insert(self);
        response
    }
}
