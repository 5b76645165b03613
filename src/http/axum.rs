//! [`Verified`] as an axum extractor.

use ::http::{StatusCode, request::Parts};
use axum_core::extract::FromRequestParts;

use crate::trust::Verified;

/// The caller, for handlers below an [`UnsealLayer`](super::UnsealLayer).
///
/// Rejects with 403 a request that came in plaintext, which is served only where the config says so; a
/// handler that serves both takes `Option<Extension<Verified>>`.
impl<S: Sync> FromRequestParts<S> for Verified {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get().copied().ok_or((StatusCode::FORBIDDEN, "this request was not sealed"))
    }
}
