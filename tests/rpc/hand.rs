//! A caller by hand, which can send what the client layer never would, and looks at the frames that come back.

use std::{collections::BTreeSet, future::ready, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use rand_core::UnwrapErr;
use tower::service_fn;
use tower_seal::{
    Config, Error,
    config::Encoding,
    error::Code,
    protocol::{self, Awaiting, Destination, Final, Initiator, Record, Responder, Sealer, Session},
};

use crate::support::{MIB, SECOND, Wire, is_hello, parse, send};

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// A hello for `target`, and what waits for its reply.
pub(crate) fn hello(config: &Config, target: Option<&str>) -> (Bytes, Initiator) {
    Initiator::start(config, Destination { target, ..Destination::default() }, &mut rng()).unwrap()
}

/// A caller that seals each message by itself.
#[derive(Clone)]
pub(crate) struct Hand {
    pub(crate) session: Arc<Session>,
    pub(crate) encoding: Encoding,
    pub(crate) wire: Wire,
}

impl Hand {
    /// Shakes hands.
    pub(crate) async fn new(config: &Config, encoding: Encoding, wire: &Wire) -> Self {
        let (hello, initiator) = hello(&config.clone().encoding(encoding), None);
        let reply = send(wire, hello).await.unwrap();
        let session = Arc::new(initiator.finish(&reply, now()).unwrap());
        Hand { session, encoding, wire: wire.clone() }
    }

    /// A message that may begin to be served within a minute.
    pub(crate) fn begin(&self, message: &[u8], last: Final) -> protocol::Request {
        self.session.request(message, last, 60 * SECOND, false, &mut rng(), now()).unwrap()
    }

    /// An honest message, and its answer.
    pub(crate) async fn ask(&self, message: &[u8]) -> Option<Bytes> {
        let sent = self.begin(message, Final::Yes);
        let answer = send(&self.wire, sent.bytes).await?;
        Some(self.open(&answer, &sent.response))
    }

    /// Opens an answer, which is in the encoding of what was sent.
    pub(crate) fn open(&self, frame: &[u8], awaiting: &Awaiting) -> Bytes {
        match self.encoding {
            Encoding::Binary => assert_eq!(frame[0], 0x01),
            Encoding::Json => assert_eq!(parse(frame)["type"], "encrypted"),
        }
        let record = Record::parse(BytesMut::from(frame), self.encoding, MIB).unwrap();
        let (opened, _) = awaiting.open(record, now()).unwrap();
        assert_eq!(opened.last, Final::Yes);
        Bytes::copy_from_slice(&opened.plaintext)
    }
}

/// A server that makes its answers by hand, with the sealer that each has.
pub(crate) fn answering<F>(config: &Config, answer: F) -> Wire
where
    F: Fn(&mut Sealer) -> Bytes + Clone + Send + Sync + 'static,
{
    let responder = Arc::new(Responder::new(config.clone()));
    Wire::new(service_fn(move |frame: Bytes| {
        let reply = if is_hello(&frame) {
            let (reply, session) = responder.accept(&frame, |_| true, || true, &mut rng(), now()).unwrap();
            responder.admit(session);
            reply
        } else {
            let record = Record::parse(BytesMut::from(&frame[..]), Encoding::Binary, MIB).unwrap();
            let (offered, _) = responder.open(record, now()).unwrap();
            answer(&mut offered.claim(false, &mut rng(), now()).unwrap().response)
        };
        ready(Ok(Some(reply)))
    }))
}

/// The code of an error about a request, and whether it is signed for it.
pub(crate) fn refusal(frame: &[u8], awaiting: &Awaiting) -> (Code, bool) {
    assert_eq!(frame[0], b'{');
    let Error::Refused { code, signed } = awaiting.refused(frame) else {
        panic!("{}", String::from_utf8_lossy(frame))
    };
    (code, signed)
}

/// The code of an error that nobody can have signed.
pub(crate) fn unsigned(frame: &[u8]) -> Code {
    let error = parse(frame);
    let fields: BTreeSet<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["code", "message", "type"]), "{error}");
    assert_eq!(error["type"], "error");
    error["code"].as_str().unwrap().parse().unwrap()
}
