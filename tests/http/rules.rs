//! Inner HTTP messages that are not what section 7 takes, inside genuine records: refused as `malformed` by
//! either side, without the application or the caller seeing them.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, header};
use tower_seal::{
    Config,
    config::Encoding,
    error::Code,
    protocol::{Final, Responder},
};

use crate::{
    hand::{frames, media_type, now, record, rng},
    siege::Siege,
    support::*,
};

/// A known-length Binary HTTP message (RFC 9292 section 3.1), with whatever pieces.
#[derive(Clone)]
struct Inner {
    framing: u64,
    control: Vec<Vec<u8>>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    content: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    behind: Vec<u8>,
}

impl Inner {
    fn request() -> Self {
        let control = ["POST", "http", "example.com", "/"].map(|piece| piece.into()).to_vec();
        Inner { framing: 0, control, fields: vec![], content: b"hi".into(), trailers: vec![], behind: vec![] }
    }

    fn with(control: usize, value: impl AsRef<[u8]>) -> Self {
        let mut inner = Inner::request();
        inner.control[control] = value.as_ref().into();
        inner
    }

    fn field(name: &str, value: impl AsRef<[u8]>) -> Self {
        Inner { fields: vec![(name.into(), value.as_ref().into())], ..Inner::request() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = varint(self.framing);
        for piece in &self.control {
            out.extend(lengthy(piece));
        }
        self.behind_control(out)
    }

    /// As a response with this status.
    fn response(&self, status: u64) -> Vec<u8> {
        let mut out = varint(1);
        out.extend(varint(status));
        self.behind_control(out)
    }

    fn behind_control(&self, mut out: Vec<u8>) -> Vec<u8> {
        let section = |fields: &[(Vec<u8>, Vec<u8>)]| {
            lengthy(&fields.iter().flat_map(|(n, v)| [lengthy(n), lengthy(v)].concat()).collect::<Vec<_>>())
        };
        out.extend(section(&self.fields));
        out.extend(lengthy(&self.content));
        out.extend(section(&self.trailers));
        out.extend(&self.behind);
        out
    }
}

fn varint(number: u64) -> Vec<u8> {
    match number {
        0..64 => vec![number as u8],
        64..16384 => (number as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (number as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    }
}

fn lengthy(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

const FORBIDDEN: [&str; 10] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "content-length",
];
const BAD_NAMES: [&str; 7] = ["", "Upper", "a b", "a:b", "a\r\nb", ":method", "ä"];
const BAD_VALUES: [&[u8]; 7] = [b"a\rb", b"a\nb", b"a\0b", b" a", b"a ", b"\ta", b"a\r\nx: y"];

/// Messages that break a rule that requests and responses share.
fn broken() -> Vec<(String, Inner)> {
    let mut broken = Vec::new();
    for name in FORBIDDEN {
        broken.push((name.to_owned(), Inner::field(name, "1")));
    }
    for name in BAD_NAMES {
        broken.push((format!("the name {name:?}"), Inner::field(name, "1")));
    }
    for value in BAD_VALUES {
        broken.push((format!("the value {value:?}"), Inner::field("x", value)));
    }
    let trailers = vec![(b"x".to_vec(), b"y".to_vec())];
    broken.push(("trailers".into(), Inner { trailers, ..Inner::request() }));
    for behind in [&b"\0\0\x01"[..], b"x", b"\0\0\0\0\0\0\0\0\x80"] {
        broken.push((format!("padding {behind:?}"), Inner { behind: behind.into(), ..Inner::request() }));
    }
    broken
}

#[tokio::test(start_paused = true)]
async fn requests_that_break_a_rule_are_malformed() {
    let mut requests = broken();
    for method in ["CONNECT", "", "G T", "GET\r\n", "G:", "ä"] {
        requests.push((format!("the method {method:?}"), Inner::with(0, method)));
    }
    for scheme in ["", "ftp", "HTTPX", "file", "http:", "ws"] {
        requests.push((format!("the scheme {scheme:?}"), Inner::with(1, scheme)));
    }
    for authority in
        ["", "user@example.com", "user:pw@example.com", "@", "a b", "a/b", "example.com:http", ":80"]
    {
        requests.push((format!("the authority {authority:?}"), Inner::with(2, authority)));
    }
    for path in [
        "",
        "*",
        "a",
        "?q",
        "//",
        "//a",
        "http://example.com/",
        "/a\\b",
        "/a#b",
        "/a b",
        "/a\tb",
        "/a\0",
        "/a\r\nb",
        "/\x7f",
        "/ä",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/%2e",
        "/%2E%2e/a",
        "/.%2e",
        "/a/%2e./b",
        "/a?b#c",
        "/a?b c",
        "/a?\\",
    ] {
        requests.push((format!("the path {path:?}"), Inner::with(3, path)));
    }
    requests.push(("a response".into(), Inner { framing: 1, control: vec![], ..Inner::request() }));
    for framing in [2, 3, 4, 63, 1000] {
        requests.push((format!("the framing {framing}"), Inner { framing, ..Inner::request() }));
    }
    let mut bytes: Vec<_> = requests.into_iter().map(|(name, inner)| (name, inner.bytes())).collect();
    let whole = Inner::field("x", "y").bytes();
    // Cut off within control data, fields or content. Behind each of these it may end.
    for end in [0, 1, 5, 10, 20, 24, 26, 28, 31, 32] {
        bytes.push((format!("cut to {end}"), whole[..end].to_vec()));
    }

    let mut siege = Siege::new(Encoding::Binary).await;
    siege
        .during(async |siege| {
            for (name, bytes) in bytes {
                let request = siege.hand.begin(&bytes, Final::Yes);
                siege.refused(request.bytes.clone(), &request.response, Code::Malformed, &name).await;
                assert_eq!(siege.asked(), [], "{name}");
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_break_none_are_served() {
    let mut requests = vec![Inner::request()];
    requests.extend(["get", "M-SEARCH", "!#$%&'*+-.^_`|~"].map(|method| Inner::with(0, method)));
    requests
        .extend(["[::1]:80", "127.0.0.1", "a.b:", "xn--nxasmq6b"].map(|authority| Inner::with(2, authority)));
    requests.extend(["/?..", "/?/../a?b"].map(|path| Inner::with(3, path)));
    requests.push(Inner::field("x", b""));
    requests.push(Inner::field("x", b"\xff\xe4 \t\x80"));
    requests.push(Inner::field("seal-session", b"x"));
    requests.push(Inner { behind: vec![0; 1000], ..Inner::request() });
    let siege = Siege::new(Encoding::Json).await;
    for inner in requests {
        let request = siege.hand.begin(&inner.bytes(), Final::Yes);
        let answer = siege.post(request.bytes.clone()).await;
        assert_eq!(siege.hand.open(&answer, &request.response), (200, b"hi".to_vec()), "{:?}", inner.control);
    }
    // Empty sections at the end may be left out.
    let request = siege.hand.begin(&Inner::request().bytes()[..25], Final::Yes);
    let answer = siege.post(request.bytes.clone()).await;
    assert_eq!(siege.hand.open(&answer, &request.response), (200, vec![]));
}

#[tokio::test(start_paused = true)]
async fn too_many_fields_are_too_large() {
    let mut siege = Siege::new(Encoding::Binary).await;
    siege
        .during(async |siege| {
            let one = (b"x".to_vec(), Vec::new());
            let inner = Inner { fields: vec![one; 5000], ..Inner::request() };
            let request = siege.hand.begin(&inner.bytes(), Final::Yes);
            siege.refused(request.bytes.clone(), &request.response, Code::TooLarge, "fields").await;
            assert_eq!(siege.asked(), []);
        })
        .await;
}

/// A server that seals these plaintexts as its responses, one after the other.
fn answering(config: Config, encoding: Encoding, mut plaintexts: std::vec::IntoIter<Vec<u8>>) -> Wire {
    let responder = Arc::new(Responder::new(config));
    let plaintexts = Arc::new(std::sync::Mutex::new(std::iter::from_fn(move || plaintexts.next())));
    app(move |request| {
        let (responder, plaintexts) = (responder.clone(), plaintexts.clone());
        async move {
            let hello = is_hello(&request);
            let body = content(request.into_body()).await.unwrap();
            let (kind, bytes) = if hello {
                let (reply, session) = responder.accept(&body, |_| true, || true, &mut rng(), now()).unwrap();
                responder.admit(session);
                (HANDSHAKE, reply)
            } else {
                let frame = record(encoding, &frames(encoding, &body)[0]);
                let (offered, _) = responder.open(frame, now()).unwrap();
                let mut claimed = offered.claim(true, &mut rng(), now()).unwrap();
                let plaintext = plaintexts.lock().unwrap().next().unwrap();
                (media_type(encoding), claimed.response.seal(&plaintext[..], Final::Yes, now()).unwrap())
            };
            Response::builder().header(header::CONTENT_TYPE, kind).body(full(bytes)).unwrap()
        }
    })
}

#[tokio::test(start_paused = true)]
async fn responses_that_break_a_rule_are_malformed() {
    let mut responses: Vec<(String, Vec<u8>)> =
        broken().into_iter().map(|(name, inner)| (name, inner.response(200))).collect();
    for status in [0, 1, 99, 100, 101, 103, 199, 600, 999, 1000, 65536 + 200] {
        responses.push((format!("the status {status}"), Inner::request().response(status)));
    }
    responses.push(("a request".into(), Inner::request().bytes()));
    responses.push(("nothing".into(), vec![]));
    for encoding in BOTH {
        let sides = Sides::speaking(encoding);
        let honest = Inner::field("x", "y").response(418);
        let plaintexts: Vec<_> =
            responses.iter().flat_map(|(_, bytes)| [bytes.clone(), honest.clone()]).collect();
        let http = sides.seal(answering(sides.server.clone(), encoding, plaintexts.into_iter()));
        for (name, _) in &responses {
            let error = ask(&http, get("http://example.com/")).await.unwrap_err();
            assert_eq!(error.code(), Some(Code::Malformed), "{name}");
            let (status, content) = ask(&http, get("http://example.com/")).await.unwrap();
            assert_eq!((status, content), (418, Bytes::from("hi")), "{name}");
        }
    }
}
