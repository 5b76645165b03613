//! A JSON-RPC 2.0 message: raw bytes, and who sent them.

use bytes::Bytes;

use crate::trust::Verified;

/// What a service of JSON-RPC messages gets: the message as it came, and who sent it.
///
/// A type of its own, and not bare [`Bytes`], since the caller has to come along with each message; and no
/// map of extensions, since nothing else is known here. The same service stands below
/// [`UnsealLayer`](super::UnsealLayer) and behind [`serve`](super::serve).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The JSON text: a request, a notification, a response, or a batch.
    pub bytes: Bytes,
    /// Who sent it. `None` for one that came without protection, for one that came over a two-way connection whose
    /// [`Driver`](super::Driver::caller) was not told who is there, and for one that is on its way out.
    pub caller: Option<Verified>,
}

impl Message {
    /// A message that nobody is known to have sent.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Message { bytes: bytes.into(), caller: None }
    }

    /// The same, sent by `caller`.
    #[must_use]
    pub fn from_caller(self, caller: Verified) -> Self {
        Message { caller: Some(caller), ..self }
    }
}

impl<B: Into<Bytes>> From<B> for Message {
    fn from(bytes: B) -> Self {
        Message::new(bytes)
    }
}
