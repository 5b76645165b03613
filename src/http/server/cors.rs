//! Cross-origin requests from browsers (the CORS protocol of the Fetch standard), for the outer side.
//!
//! Sealed requests carry content types and a field that a page may send only after a preflight, and browsers
//! send that in plaintext. The inner response's own CORS fields stay inside the seal.

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

/// The origins whose pages may talk to this server.
#[derive(Clone, Debug)]
pub struct Cors {
    /// `None`: every origin.
    origins: Option<Vec<HeaderValue>>,
}

impl Cors {
    /// Pages of these origins, such as `https://app.example.com`.
    #[must_use]
    pub fn origins(origins: impl IntoIterator<Item = HeaderValue>) -> Self {
        Cors { origins: Some(origins.into_iter().collect()) }
    }

    /// Pages of every origin. The node that speaks is verified anyway.
    #[must_use]
    pub fn any_origin() -> Self {
        Cors { origins: None }
    }

    /// The page's origin, if it may talk to this server.
    pub(super) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        match &self.origins {
            Some(origins) => origins.contains(origin).then(|| origin.clone()),
            None => Some(HeaderValue::from_static("*")),
        }
    }

    /// The answer, if the request is a preflight from an allowed origin.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<()>> {
        let headers = request.headers();
        if request.method() != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        let origin = self.allowed(headers)?;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.add(response.headers_mut(), origin);
        let fields = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, seal-session"),
            (header::ACCESS_CONTROL_MAX_AGE, "7200"),
        ];
        for (name, value) in fields {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }

    /// Lets the page of `origin` read the response.
    pub(super) fn add(&self, response: &mut HeaderMap, origin: HeaderValue) {
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.origins.is_some() {
            response.append(header::VARY, HeaderValue::from_static("origin"));
        }
    }
}
