//! A client by hand, which can send what the client layer never would, and looks at the bytes that come back.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use bhttp::{Message, Mode};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use rand_core::UnwrapErr;
use tower::ServiceExt as _;
use tower_seal::{
    Config, Error,
    config::Encoding,
    error::Code,
    http::Rejection,
    protocol::{self, Awaiting, Destination, Final, Initiator, Record, Session},
};

use crate::support::{BINARY, Body, ERROR, HANDSHAKE, JSON, MIB, SECOND, Wire, full, piece};

/// An outer response, all of it.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// What the server layer left in the extensions.
    pub(crate) rejection: Option<Code>,
    pub(crate) body: Bytes,
    /// Whether the body ended well.
    pub(crate) whole: bool,
}

/// Sends an outer request.
pub(crate) async fn send(wire: &Wire, request: Request<Body>) -> Answer {
    let (parts, mut body) = wire.clone().oneshot(request).await.unwrap().into_parts();
    let mut bytes = BytesMut::new();
    let whole = loop {
        match piece(&mut body).await {
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            end => break end.is_ok(),
        }
    };
    let rejection = parts.extensions.get::<Rejection>().map(Rejection::code);
    let (status, headers) = (parts.status.as_u16(), parts.headers);
    Answer { status, headers, rejection, body: bytes.freeze(), whole }
}

pub(crate) fn sealed(path: &str, content_type: &str, body: Body) -> Request<Body> {
    let uri = format!("http://example.com{path}");
    Request::post(uri).header(header::CONTENT_TYPE, content_type).body(body).unwrap()
}

impl Answer {
    pub(crate) fn content_type(&self) -> &str {
        self.headers[header::CONTENT_TYPE].to_str().unwrap()
    }

    /// Status and code of an error, and whether it is signed for this request.
    pub(crate) fn refusal(&self, awaiting: &Awaiting) -> (u16, Code, bool) {
        assert_eq!(self.content_type(), ERROR, "{} {:?}", self.status, self.body);
        let Error::Refused { code, signed } = awaiting.refused(&self.body) else { panic!("{:?}", self.body) };
        assert_eq!(self.rejection, Some(code));
        assert_eq!(self.status, code.http_status());
        (self.status, code, signed)
    }

    /// The code of an error that nobody can have signed.
    pub(crate) fn code(&self) -> (u16, Code) {
        assert_eq!(self.content_type(), ERROR, "{} {:?}", self.status, self.body);
        let error: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let fields: BTreeSet<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(["code", "message", "type"]));
        assert_eq!(error["type"], "error");
        let code = error["code"].as_str().unwrap().parse().unwrap();
        assert_eq!(self.rejection, Some(code));
        (self.status, code)
    }
}

// ---- by hand ----

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// A client that seals each message by itself.
#[derive(Clone)]
pub(crate) struct Hand {
    pub(crate) session: Arc<Session>,
    pub(crate) encoding: Encoding,
    pub(crate) wire: Wire,
}

impl Hand {
    /// Shakes hands.
    pub(crate) async fn new(config: &Config, encoding: Encoding, wire: &Wire) -> Self {
        let config = config.clone().encoding(encoding);
        let (hello, initiator) = Initiator::start(&config, Destination::default(), &mut rng()).unwrap();
        let answer = send(wire, sealed("/", HANDSHAKE, full(hello))).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        Hand {
            session: Arc::new(initiator.finish(&answer.body, now()).unwrap()),
            encoding,
            wire: wire.clone(),
        }
    }

    /// The first record of a request that may begin within a minute.
    pub(crate) fn begin(&self, message: &[u8], last: Final) -> protocol::Request {
        self.session.request(message, last, 60 * SECOND, true, &mut rng(), now()).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Body) -> Answer {
        let content_type = media_type(self.encoding);
        send(&self.wire, sealed(path, content_type, body)).await
    }

    /// An honest `POST`, in one record: its status and content.
    pub(crate) async fn ask(&self, path: &str, content: &str) -> (u16, Vec<u8>) {
        let request = self.begin(&message("POST", path, content), Final::Yes);
        let answer = self.post(path, full(request.bytes.clone())).await;
        self.open(&answer, &request.response)
    }

    /// Opens a response to its end.
    pub(crate) fn open(&self, answer: &Answer, awaiting: &Awaiting) -> (u16, Vec<u8>) {
        assert_eq!(
            (answer.status, answer.content_type()),
            (200, media_type(self.encoding)),
            "{:?}",
            answer.body
        );
        assert!(answer.whole);
        let mut frames = frames(self.encoding, &answer.body).into_iter();
        let (first, mut opener) =
            awaiting.open(record(self.encoding, &frames.next().unwrap()), now()).unwrap();
        let head = Message::read_bhttp(&mut std::io::Cursor::new(&first.plaintext)).unwrap();
        let mut content = head.content().to_vec();
        for frame in frames {
            content.extend_from_slice(&opener.open(record(self.encoding, &frame), now()).unwrap().plaintext);
        }
        assert!(opener.is_finished());
        (head.control().status().unwrap().code(), content)
    }
}

pub(crate) fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Binary => BINARY,
        Encoding::Json => JSON,
    }
}

/// An inner request with a known length.
pub(crate) fn message(method: &str, path: &str, content: &str) -> Vec<u8> {
    let mut message = Message::request(method.into(), b"http".to_vec(), b"example.com".to_vec(), path.into());
    message.write_content(content);
    write(&message)
}

pub(crate) fn write(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write_bhttp(Mode::KnownLength, &mut bytes).unwrap();
    bytes
}

/// The records of a body, each with what frames it.
pub(crate) fn frames(encoding: Encoding, mut body: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let end = match encoding {
            Encoding::Binary => 4 + u32::from_be_bytes(*body.first_chunk().unwrap()) as usize,
            Encoding::Json => body.iter().position(|&byte| byte == b'\n').unwrap() + 1,
        };
        frames.push(Bytes::copy_from_slice(&body[..end]));
        body = &body[end..];
    }
    frames
}

/// A record without what frames it.
pub(crate) fn record(encoding: Encoding, frame: &[u8]) -> Record {
    let bare = match encoding {
        Encoding::Binary => &frame[4..],
        Encoding::Json => frame.strip_suffix(b"\n").unwrap(),
    };
    Record::parse(BytesMut::from(bare), encoding, MIB).unwrap()
}
