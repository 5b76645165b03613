//! Exchanges: a request and its response, two short streams with one id (PROTOCOL section 7).
//!
//! ```text
//! initiator   Session::request ──> (bytes, more records?, Awaiting) ─────────> Awaiting::open ──> content
//! responder   Responder::open ──> Offered ──(path compared)──> Offered::claim ──> Claimed: content, response
//! ```

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand_core::CryptoRng;

use super::{
    record::{MAX_NUMBER, Opening, Plaintext, Record},
    reject::{Refusal, Subject},
    session::Session,
    stream::{Draft, Final, FirstRecord, Opened, OpenedInPlace, Opener, Sealer, Stream, sign_alone},
};
use crate::{
    config::Encoding,
    error::{Code, Error, Result},
    identity::Proof,
    trust::Verified,
};

/// A request that is encrypted, and whose first record may have to be signed.
pub(crate) struct Unsent {
    draft: Draft,
    first: FirstRecord,
    rest: Option<Sealer>,
    session: Arc<Session>,
    stream: u64,
}

impl Unsent {
    /// What is to be signed, if anything is.
    pub(crate) fn leaf(&self) -> Option<[u8; 32]> {
        self.draft.leaf()
    }

    /// `proof` is of the leaf, where there is one.
    pub(crate) fn write(self, proof: Option<&Proof>) -> Request {
        let Unsent { draft, first, rest, session, stream } = self;
        let (bytes, ciphertext) = draft.write_both(proof);
        let first = Arc::new(first.sent(ciphertext));
        Request { bytes, rest, response: Awaiting { session, stream, first } }
    }
}

/// A request on its way.
pub struct Request {
    /// Its first record. The same bytes may be sent again: they are served at most once.
    pub bytes: Bytes,
    /// For further records, unless the first one was FINAL.
    pub rest: Option<Sealer>,
    /// For the answer.
    pub response: Awaiting,
}

impl Session {
    /// Begins an exchange, as initiator. `timeout` from `now` is the latest moment at which the responder may
    /// begin to serve it. Takes 16 bytes of `rng`.
    ///
    /// `framed` puts a transport framing around records: a u32 length, or a LF after JSON.
    ///
    /// Errors: `unknown_session` when the session has ended or expired; `Misuse` above 1 MiB.
    pub fn request(
        self: &Arc<Self>,
        plaintext: impl Into<Plaintext>,
        last: Final,
        timeout: Duration,
        framed: bool,
        rng: &mut (impl CryptoRng + ?Sized),
        now: Instant,
    ) -> Result<Request> {
        let unsent = self.draft_request(plaintext.into(), last, timeout, framed, rng, now)?;
        let proof = sign_alone(&self.agreed.config, unsent.leaf())?;
        Ok(unsent.write(proof.as_ref()))
    }

    /// As [`request`](Self::request), but for the signature.
    pub(crate) fn draft_request(
        self: &Arc<Self>,
        plaintext: Plaintext,
        last: Final,
        timeout: Duration,
        framed: bool,
        rng: &mut (impl CryptoRng + ?Sized),
        now: Instant,
    ) -> Result<Unsent> {
        self.check_new_stream(now)?;
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let deadline =
            self.age(now).saturating_add(timeout).as_millis().clamp(1, u128::from(MAX_NUMBER)) as u64;
        let opening =
            Opening { session: self.id(), stream: self.next_stream(), salt, deadline: Some(deadline) };
        let encoding = self.agreed.config.chosen_encoding();
        let mut sealer = Sealer::new(Stream::request(self.clone(), opening, now), encoding, framed)?;
        let draft = sealer.draft(plaintext, last, now)?;
        let first = FirstRecord::drafted(sealer.stream(), &draft);
        let rest = (last == Final::No).then_some(sealer);
        Ok(Unsent { draft, first, rest, session: self.clone(), stream: opening.stream })
    }
}

/// A request that has been sent and waits for its response.
pub struct Awaiting {
    session: Arc<Session>,
    stream: u64,
    first: Arc<FirstRecord>,
}

impl Awaiting {
    /// Opens the first record of the response; the opener is for the further ones.
    ///
    /// Errors: those of [`Opener::open`], and `malformed` for the response of another request.
    pub fn open(&self, record: Record, now: Instant) -> Result<(Opened, Opener)> {
        let Some(opening) = record.opening else {
            return Err(Error::malformed("a response without an opening"));
        };
        if opening.session != self.session.id() || opening.stream != self.stream || opening.deadline.is_some()
        {
            return Err(Error::malformed("the response of another request"));
        }
        let stream = Stream::response(self.session.clone(), opening, Some(self.first.clone()), now);
        let mut opener = Opener::new(stream)?;
        let opened = opener.open(record, now)?;
        Ok((opened, opener))
    }

    /// Reads an error that came in place of a response.
    ///
    /// It is `signed` only when session, stream, hash and node id are those of this request and the signature
    /// holds; a signature that does not is as good as none.
    #[must_use]
    pub fn refused(&self, message: &[u8]) -> Error {
        match Refusal::parse(message) {
            Ok(refusal) => {
                let subject =
                    Subject::sent(self.session.id(), self.stream, self.first.nonce(), self.first.hash());
                let signed =
                    refusal.is_signed_by(&self.session.agreed.verifier, self.session.peer(), &subject);
                Error::Refused { code: refusal.code, signed }
            }
            Err(error) => error,
        }
    }

    /// The session that the request is in.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

/// For the test vectors.
#[cfg(test)]
impl Awaiting {
    pub(super) fn new(session: Arc<Session>, stream: u64, first: FirstRecord) -> Self {
        Awaiting { session, stream, first: Arc::new(first) }
    }
}

/// A request whose first record held every check, and that has not been served.
///
/// The application must not see it before it is [claimed](Offered::claim).
pub struct Offered {
    plaintext: Bytes,
    last: Final,
    opener: Opener,
    opening: Opening,
    first: Option<FirstRecord>,
    session: Arc<Session>,
    encoding: Encoding,
}

impl Offered {
    /// The subject is for errors from here on. A record that fails is as it was.
    pub(super) fn open(session: Arc<Session>, record: &mut Record, now: Instant) -> Result<(Self, Subject)> {
        session.check_new_stream(now)?;
        let Some(opening) = record.opening else {
            return Err(Error::malformed("a request without an opening"));
        };
        let Some(deadline @ 1..) = opening.deadline else {
            return Err(Error::malformed("a request without a deadline, or with one of 0"));
        };
        check_deadline(&session, deadline, now)?;
        let (encoding, nonce) = (record.encoding(), record.nonce);
        let mut opener = Opener::new(Stream::request(session.clone(), opening, now))?;
        let OpenedInPlace { opened: Opened { plaintext, last }, whole, leaf } =
            opener.open_in_place(record, now)?;
        let first = leaf.and_then(|leaf| FirstRecord::received(opener.stream(), nonce, leaf));
        let subject = Subject::opened(Stream::request(session.clone(), opening, now), nonce, whole);
        Ok((Offered { plaintext, last, opener, opening, first, session, encoding }, subject))
    }

    /// What the first record said.
    #[must_use]
    pub fn plaintext(&self) -> &Bytes {
        &self.plaintext
    }

    /// Whether the request ended with it.
    #[must_use]
    pub fn last(&self) -> Final {
        self.last
    }

    /// Takes the request as served, once for each id: of two copies in flight, one gets it. Takes 16 bytes of
    /// `rng` for the response.
    ///
    /// `framed` puts a transport framing around the response's records.
    ///
    /// Errors: `replayed`; and `unknown_session` and `expired`, since time has passed.
    pub fn claim(self, framed: bool, rng: &mut (impl CryptoRng + ?Sized), now: Instant) -> Result<Claimed> {
        self.session.check_new_stream(now)?;
        check_deadline(&self.session, self.opening.deadline.unwrap_or(0), now)?;
        self.session.claim(self.opening.stream)?;
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let opening = Opening { salt, deadline: None, ..self.opening };
        let Some(caller) = self.session.verified() else {
            return Err(Error::new(Code::InvalidSignature, "the session has not been confirmed"));
        };
        let stream = Stream::response(self.session, opening, self.first.map(Arc::new), now);
        Ok(Claimed {
            plaintext: self.plaintext,
            rest: (self.last == Final::No).then_some(self.opener),
            response: Sealer::new(stream, self.encoding, framed)?,
            caller,
        })
    }
}

/// Errors: `expired` when the session is older than `deadline` milliseconds.
fn check_deadline(session: &Session, deadline: u64, now: Instant) -> Result<()> {
    if session.age(now) > Duration::from_millis(deadline) {
        return Err(Error::new(Code::Expired, "the request came after its deadline"));
    }
    Ok(())
}

/// A request that is this call's alone to serve.
pub struct Claimed {
    /// What its first record said.
    pub plaintext: Bytes,
    /// For its further records, unless the first one was FINAL.
    pub rest: Option<Opener>,
    /// For the response.
    pub response: Sealer,
    /// Who sent it.
    pub caller: Verified,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("stream", &self.response.stream).finish_non_exhaustive()
    }
}

impl fmt::Debug for Awaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaiting").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offered").field("stream", &self.opening.stream).finish_non_exhaustive()
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed").field("caller", &self.caller).finish_non_exhaustive()
    }
}
