//! Floods: what each costs and where it ends, and that an honest client is served among so many hostile messages.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use tower_seal::{
    Config, Identity,
    config::{Backend, Encoding, Hybrid, Limits},
    error::Code,
    protocol::{Destination, Final, Initiator},
    telemetry::Metric,
    trust::{AnyIdentity, Pinned, Trust},
};

use crate::{
    hand::{Answer, Hand, message, rng, sealed, send},
    support::*,
};

pub(crate) const MANY: usize = 300;

/// Most of these tests stop the clock, which then goes on only where somebody waits for time to pass.
const SOON: Duration = Duration::from_secs(5);

/// Public-key operations that a responder spends on a hello it answers: it verifies, makes a key pair, agrees, signs.
const HANDSHAKE_COSTS: u64 = 4;

/// Answers with the content, and whatever becomes of the request does not mind it.
fn careless() -> Wire {
    app(|request| async move { Response::new(full(content(request.into_body()).await.unwrap_or_default())) })
}

/// A server under a flood, and a client with which it has had a session from before.
pub(crate) struct Flood {
    server: Config,
    pub(crate) wire: Wire,
    honest: Http,
    hellos: Traffic,
    _sides: Sides,
}

fn config(identity: Identity, trust: impl Trust, change: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = Limits::default();
    (limits.handshakes_per_second, limits.signed_errors_per_second) = (u32::MAX, u32::MAX);
    change(&mut limits);
    Config::new(identity, trust).hybrid(Hybrid::Off).backend(*Backend::ALL.last().unwrap()).limits(limits)
}

impl Flood {
    pub(crate) async fn over(
        app: Wire,
        trust: Option<Arc<dyn Trust>>,
        change: impl FnOnce(&mut Limits),
    ) -> Self {
        let mut sides = Sides::new();
        let (server, client) = (Identity::generate(), Identity::generate());
        sides.client = config(client, Pinned::new([server.node_id()]), |_| ());
        let pinned = || Arc::new(Pinned::new([sides.client.node_id()])) as Arc<dyn Trust>;
        sides.server = config(server, trust.unwrap_or_else(pinned), change);
        let wire = sides.serve(app);
        let (counted, hellos) = Traffic::through(wire.clone());
        let flood =
            Flood { server: sides.server.clone(), honest: sides.seal(counted), wire, hellos, _sides: sides };
        flood.serves().await;
        flood
    }

    /// To whom anybody may talk.
    pub(crate) async fn open(change: impl FnOnce(&mut Limits)) -> Self {
        Self::over(careless(), Some(Arc::new(AnyIdentity)), change).await
    }

    /// The honest client is served, in the session that it had from the beginning.
    pub(crate) async fn serves(&self) {
        let began = tokio::time::Instant::now();
        assert_eq!(ask(&self.honest, post("http://example.com/", "honest")).await.unwrap().1, "honest");
        assert!(began.elapsed() < SOON);
        assert_eq!(self.hellos.hellos.value(), 1);
    }

    /// Among the hostile messages.
    pub(crate) async fn serves_between(&self, number: usize) {
        if number.is_multiple_of(50) {
            self.serves().await;
        }
    }

    pub(crate) fn value(&self, metric: Metric) -> u64 {
        self.server.telemetry().value(metric)
    }

    pub(crate) fn refused(&self, code: Code) -> usize {
        self.server.telemetry().rejections(code) as usize
    }

    /// One more who talks to the server.
    pub(crate) fn peer(&self) -> Config {
        config(Identity::generate(), Pinned::new([self.server.node_id()]), |_| ())
    }

    pub(crate) async fn greet(&self, hello: impl Into<Bytes>) -> Answer {
        send(&self.wire, sealed("/", HANDSHAKE, full(hello))).await
    }
}

pub(crate) fn hello(config: &Config) -> Bytes {
    Initiator::start(config, Destination::default(), &mut rng()).unwrap().0
}

// ---- hellos ----

#[tokio::test(start_paused = true)]
async fn hellos_of_strangers_cost_no_public_key_operation() {
    let flood = Flood::over(careless(), None, |_| ()).await;
    let (operations, signed) = (flood.value(Metric::HandshakeOperations), flood.value(Metric::ErrorsSigned));
    for number in 0..MANY {
        let stranger = serde_json::json!({
            "type": "key_exchange", "version": 1, "public_key": "09".repeat(32),
            "node_id": format!("{number:064x}"), "suites": ["x25519-aes256gcm-sha256"],
            "signatures": "every", "signature": "00".repeat(64),
        });
        assert_eq!(flood.greet(stranger.to_string()).await.code(), (403, Code::UntrustedPeer));
        flood.serves_between(number).await;
    }
    assert_eq!(flood.refused(Code::UntrustedPeer), MANY);
    assert_eq!(flood.value(Metric::HandshakeOperations), operations);
    assert_eq!(flood.value(Metric::ErrorsSigned), signed);
    assert_eq!(flood.value(Metric::SessionsLive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_is_replayed_costs_no_public_key_operation() {
    let flood = Flood::open(|_| ()).await;
    let hello = hello(&flood.peer());
    assert_eq!(flood.greet(hello.clone()).await.status, 200);
    let operations = flood.value(Metric::HandshakeOperations);
    for number in 0..MANY {
        assert_eq!(flood.greet(hello.clone()).await.code(), (409, Code::Replayed));
        flood.serves_between(number).await;
    }
    assert_eq!(flood.refused(Code::Replayed), MANY);
    assert_eq!(flood.value(Metric::HandshakeOperations), operations);
    assert_eq!(flood.value(Metric::SessionsLive), 1 + 1);
}

#[tokio::test(start_paused = true)]
async fn hellos_of_one_node_fill_its_own_places_and_no_others() {
    let flood = Flood::open(|_| ()).await;
    let attacker = flood.peer();
    for number in 0..MANY {
        assert_eq!(flood.greet(hello(&attacker)).await.status, 200);
        assert!(flood.value(Metric::SessionsLive) <= 1 + 8);
        flood.serves_between(number).await;
    }
    // And are over after a minute, as nobody confirmed them.
    tokio::time::sleep(130 * SECOND).await;
    assert_eq!(flood.value(Metric::SessionsLive), 1);
    flood.serves().await;
}

#[tokio::test(start_paused = true)]
async fn hellos_of_many_nodes_fill_the_places_of_those_who_have_not_confirmed() {
    let flood = Flood::open(|limits| limits.provisional = 16).await;
    for number in 0..MANY {
        assert_eq!(flood.greet(hello(&flood.peer())).await.status, 200);
        assert!(flood.value(Metric::SessionsLive) <= 1 + 16);
        flood.serves_between(number).await;
    }
    // Somebody new has a place as soon as he comes.
    let hand = Hand::new(&flood.peer(), Encoding::Binary, &flood.wire).await;
    assert_eq!(hand.ask("/", "new").await.1, b"new");
}

#[tokio::test(start_paused = true)]
async fn hellos_beyond_the_rate_cost_no_public_key_operation() {
    let flood = Flood::open(|limits| limits.handshakes_per_second = 20).await;
    let attacker = flood.peer();
    let hellos: Vec<_> = (0..MANY).map(|_| hello(&attacker)).collect();
    let (before, mut answered) = (flood.value(Metric::HandshakeOperations), 0);
    for (number, hello) in hellos.into_iter().enumerate() {
        let answer = flood.greet(hello).await;
        match answer.status {
            200 => answered += 1,
            _ => assert_eq!(answer.code(), (503, Code::Busy)),
        }
        flood.serves_between(number).await;
    }
    // The rate is counted by a real clock, so nobody knows how many there are.
    assert_eq!(flood.refused(Code::Busy) + answered, MANY);
    assert!(flood.refused(Code::Busy) > 0);
    assert_eq!(flood.value(Metric::HandshakeOperations) - before, HANDSHAKE_COSTS * answered as u64);
}

#[tokio::test(start_paused = true)]
async fn hellos_that_are_puzzles_are_refused_before_any_public_key_operation() {
    let flood = Flood::open(|_| ()).await;
    let operations = flood.value(Metric::HandshakeOperations);
    let room = 15 << 10;
    let plain = |field: &str| {
        let text = format!(
            r#"{{"type":"key_exchange","version":1,"public_key":"{0}","node_id":"{0}","suites":["none"],"signatures":"every","signature":"{0}{0}"{field}}}"#,
            "09".repeat(32)
        );
        assert!(text.len() <= 16 << 10, "{}", text.len());
        text
    };
    let names = |count: usize| (0..count).map(|i| format!(r#","{i:x}":0"#)).collect::<String>();
    let puzzles = [
        (plain(&format!(r#","x":{}{}"#, "[".repeat(room / 2), "]".repeat(room / 2))), Code::Malformed),
        (plain(&format!(r#","x":"{}""#, r"\u0041".repeat(room / 6))), Code::UnsupportedSuite),
        (plain(&format!(r#","extensions":{{"a":"b"{}}}"#, names(room / 12))), Code::Malformed),
        (plain(&names(room / 12)), Code::UnsupportedSuite),
        (plain(&format!(r#","x":[0{}]"#, ",0".repeat(room / 2))), Code::UnsupportedSuite),
        ("{".repeat(16 << 10), Code::Malformed),
        ("[".repeat(16 << 10), Code::Malformed),
        ("{".repeat((16 << 10) + 1), Code::TooLarge),
    ];
    for (number, (puzzle, code)) in puzzles.iter().cycle().take(puzzles.len() * 10).enumerate() {
        assert_eq!(flood.greet(puzzle.clone()).await.code().1, *code, "{}", &puzzle[..puzzle.len().min(400)]);
        flood.serves_between(number).await;
    }
    assert_eq!(flood.value(Metric::HandshakeOperations), operations);
}

// ---- the table of sessions ----

#[tokio::test(start_paused = true)]
async fn the_confirmed_sessions_of_one_peer_push_out_only_its_own() {
    let flood = Flood::open(|limits| (limits.sessions, limits.sessions_per_peer) = (100, 4)).await;
    let attacker = flood.peer();
    let mut first = None;
    for number in 0..MANY / 3 {
        let hand = Hand::new(&attacker, Encoding::Binary, &flood.wire).await;
        assert_eq!(hand.ask("/", "mine").await.0, 200);
        first.get_or_insert(hand);
        // That of the honest client, and one that the attacker has just made and not used.
        assert!(flood.value(Metric::SessionsLive) <= 1 + 4 + 1);
        flood.serves_between(number).await;
    }
    let hand = first.unwrap();
    let request = hand.begin(&message("POST", "/", "old"), Final::Yes);
    let answer = hand.post("/", full(request.bytes)).await;
    assert_eq!(answer.refusal(&request.response), (409, Code::UnknownSession, true));
    flood.serves().await;
}

#[tokio::test(start_paused = true)]
async fn the_confirmed_sessions_of_many_peers_push_out_those_that_rest_longest() {
    let flood = Flood::open(|limits| limits.sessions = 8).await;
    for _ in 0..MANY / 3 {
        let hand = Hand::new(&flood.peer(), Encoding::Binary, &flood.wire).await;
        assert_eq!(hand.ask("/", "one more").await.0, 200);
        drop(hand);
        flood.serves().await;
        assert!(flood.value(Metric::SessionsLive) <= 8 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_no_session_get_so_many_signed_errors_and_the_rest_unsigned() {
    let flood = Flood::open(|limits| limits.signed_errors_per_second = 5).await;
    // Of a session with another server.
    let elsewhere = Flood::open(|_| ()).await;
    let peer = config(Identity::generate(), AnyIdentity, |_| ());
    let mut hand = Hand::new(&peer, Encoding::Binary, &elsewhere.wire).await;
    hand.wire = flood.wire.clone();
    let request = hand.begin(&message("POST", "/", "hi"), Final::Yes);
    let mut signed = 0;
    for number in 0..MANY {
        let answer = hand.post("/", full(request.bytes.clone())).await;
        assert_eq!((answer.status, answer.rejection), (409, Some(Code::UnknownSession)));
        let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        signed += u64::from(error.get("signature").is_some());
        flood.serves_between(number).await;
    }
    assert_eq!(flood.value(Metric::ErrorsSigned), signed);
    assert!(signed < MANY as u64, "the rate is counted by a real clock");
    assert_eq!(flood.refused(Code::UnknownSession), MANY);
}
