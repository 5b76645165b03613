//! Two sides, a transport of frames that the test holds in its hands, and a peer that is played by hand.

#[path = "../support/frames.rs"]
mod frames;
#[path = "../support/recorder.rs"]
pub(crate) mod recorder;

use std::{
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use rand_core::UnwrapErr;
use tower_seal::{
    Config, Error,
    config::{Encoding, Hybrid, Limits},
    duplex::{self, Acceptor, Frame, Sealed},
    error::Code,
    protocol::{Destination, Final, Initiator, Opened, Opener, Record, Responder, Sealer, Session},
    trust::Pinned,
};

pub(crate) use frames::{End, frames};

pub(crate) const BOTH: [Encoding; 2] = [Encoding::Binary, Encoding::Json];
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// Who they are, and whom they trust: each other. Without ML-KEM, for speed.
pub(crate) struct Sides {
    pub(crate) server: Config,
    pub(crate) client: Config,
    /// Whom the server trusts.
    pub(crate) clients: Arc<Pinned>,
    /// Whom the client trusts.
    pub(crate) servers: Arc<Pinned>,
    _watchdog: Watchdog,
}

impl Sides {
    pub(crate) fn new() -> Self {
        let (server, client) = (recorder::new_identity(), recorder::new_identity());
        let clients = Arc::new(Pinned::new([client.node_id()]));
        let servers = Arc::new(Pinned::new([server.node_id()]));
        Sides {
            server: Config::new(server, clients.clone()).hybrid(Hybrid::Off),
            client: Config::new(client, servers.clone()).hybrid(Hybrid::Off),
            clients,
            servers,
            _watchdog: Watchdog::start(),
        }
    }

    pub(crate) fn speaking(encoding: Encoding) -> Self {
        let mut sides = Self::new();
        sides.client = sides.client.encoding(encoding);
        sides
    }

    /// The same limits for both.
    pub(crate) fn limited(change: impl Fn(&mut Limits)) -> Self {
        let mut sides = Self::new();
        let mut limits = Limits::default();
        change(&mut limits);
        sides.client = sides.client.limits(limits.clone());
        sides.server = sides.server.limits(limits);
        sides
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor::new(self.server.clone())
    }

    /// A connection over frames.
    pub(crate) async fn pair(&self) -> (Sealed<End>, Sealed<End>) {
        let (here, there) = frames();
        let (client, server) = tokio::join!(self.connect(here), self.accept(there));
        (client.unwrap(), server.unwrap())
    }

    /// A connection whose every frame goes through the hands of the test.
    pub(crate) async fn through_hands(&self) -> (Sealed<End>, Sealed<End>, End, End) {
        let ((a, mut near_client), (b, mut near_server)) = (frames(), frames());
        let carry = async {
            for _ in 0..2 {
                near_server.send(near_client.next().await.unwrap().unwrap()).await.unwrap();
                near_client.send(near_server.next().await.unwrap().unwrap()).await.unwrap();
            }
        };
        let (client, server, ()) = tokio::join!(self.connect(a), self.accept(b), carry);
        (client.unwrap(), server.unwrap(), near_client, near_server)
    }

    pub(crate) async fn connect(&self, end: End) -> Result<Sealed<End>, Error> {
        duplex::connect(end, &self.client, Destination::default()).await
    }

    pub(crate) async fn accept(&self, end: End) -> Result<Sealed<End>, Error> {
        duplex::accept(end, &self.acceptor(), None).await
    }
}

/// Nothing here waits for real time, so a test that stands still has failed.
struct Watchdog {
    _alive: std_mpsc::Sender<()>,
}

impl Watchdog {
    fn start() -> Self {
        let (alive, end) = std_mpsc::channel();
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        std::thread::spawn(move || {
            if end.recv_timeout(Duration::from_secs(240)) == Err(std_mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test} stands still");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

// ---- a transport of frames ----

impl End {
    pub(crate) async fn get(&mut self) -> Frame {
        self.next().await.expect("the connection ended").unwrap()
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.get().await {
            Frame::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            Frame::Binary(_) => panic!("a binary frame"),
        }
    }

    pub(crate) async fn put(&mut self, frame: Frame) {
        self.send(frame).await.unwrap();
    }

    pub(crate) async fn say(&mut self, text: impl Into<Bytes>) {
        self.put(Frame::Text(text.into())).await;
    }

    /// The code of the error that comes, and the end after it.
    pub(crate) async fn last_words(mut self) -> String {
        let text = self.text().await;
        assert!(self.next().await.is_none());
        error_code(&text)
    }
}

pub(crate) fn error_code(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(value["type"], "error", "{text}");
    assert!(value.get("signature").is_none());
    value["code"].as_str().unwrap().to_owned()
}

// ---- a peer by hand ----

/// One side, by the core alone.
pub(crate) struct Hand {
    pub(crate) end: End,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    pub(crate) encoding: Encoding,
}

impl Hand {
    fn new(end: End, session: Session, encoding: Encoding) -> Self {
        let (mut sealer, opener) = session.into_duplex(false, now()).unwrap();
        sealer.speak(encoding);
        Hand { end, sealer, opener, encoding }
    }

    /// Has got the reply, and has sent nothing yet.
    pub(crate) async fn initiator(config: &Config, mut end: End, encoding: Encoding) -> Self {
        let (hello, initiator) = Initiator::start(config, Destination::default(), &mut rng()).unwrap();
        end.say(hello).await;
        let session = initiator.finish(end.text().await.as_bytes(), now()).unwrap();
        Hand::new(end, session, encoding)
    }

    /// Has sent the reply, and has read nothing after the hello.
    pub(crate) async fn responder(config: &Config, mut end: End, encoding: Encoding) -> Self {
        let hello = end.text().await;
        let responder = Responder::new(config.clone());
        let (reply, session) =
            responder.accept(hello.as_bytes(), |_| true, || true, &mut rng(), now()).unwrap();
        end.say(reply).await;
        Hand::new(end, session, encoding)
    }

    pub(crate) fn seal(&mut self, message: &str, last: Final) -> Frame {
        let record = self.sealer.seal(message.as_bytes(), last, now()).unwrap();
        match self.encoding {
            Encoding::Binary => Frame::Binary(record),
            Encoding::Json => Frame::Text(record),
        }
    }

    pub(crate) async fn send(&mut self, message: &str, last: Final) {
        let frame = self.seal(message, last);
        self.end.put(frame).await;
    }

    pub(crate) async fn open(&mut self) -> Opened {
        let frame = self.end.get().await;
        let encoding = encoding(&frame);
        let record = Record::parse(BytesMut::from(&frame.into_bytes()[..]), encoding, MIB).unwrap();
        self.opener.open(record, now()).unwrap()
    }
}

pub(crate) fn encoding(frame: &Frame) -> Encoding {
    match frame {
        Frame::Text(_) => Encoding::Json,
        Frame::Binary(_) => Encoding::Binary,
    }
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

// ---- outcomes ----

#[track_caller]
pub(crate) fn code<T>(result: Result<T, Error>) -> Code {
    match result {
        Ok(_) => panic!("went well"),
        Err(error) => {
            recorder::look_at_error(&error);
            error.code().unwrap_or_else(|| panic!("an error without a code: {error:?}"))
        }
    }
}

/// Both halves return the same error, again and again.
pub(crate) async fn assert_failed<T: duplex::Transport>(sealed: &mut Sealed<T>, expected: Code) {
    for _ in 0..2 {
        assert_eq!(code(sealed.next().await.unwrap()), expected);
        assert_eq!(code(sealed.send("late".into()).await), expected);
        assert_eq!(code(sealed.flush().await), expected);
        assert_eq!(code(sealed.close().await), expected);
    }
}

/// One message each way.
pub(crate) async fn converse<A, B>(client: &mut Sealed<A>, server: &mut Sealed<B>)
where
    A: duplex::Transport,
    B: duplex::Transport,
{
    for text in ["ping", ""] {
        let (sent, got) = tokio::join!(client.send(text.into()), server.next());
        sent.unwrap();
        assert_eq!(got.unwrap().unwrap(), text);
        let (sent, got) = tokio::join!(server.send("pong".into()), client.next());
        sent.unwrap();
        assert_eq!(got.unwrap().unwrap(), "pong");
    }
}

/// Both directions end, and the transport with them.
pub(crate) async fn part<A, B>(client: &mut Sealed<A>, server: &mut Sealed<B>)
where
    A: duplex::Transport,
    B: duplex::Transport,
{
    let (closed, end) = tokio::join!(client.close(), server.next());
    closed.unwrap();
    assert!(end.is_none());
    let (closed, end) = tokio::join!(server.close(), client.next());
    closed.unwrap();
    assert!(end.is_none());
}
