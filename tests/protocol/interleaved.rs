//! Sections 2.3 and 7 against a model of them: many sessions of several nodes, whose requests come in any order, late,
//! again, or forged, while the clock is turned.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use tower_seal::{
    Identity,
    config::{Hybrid, Limits},
    error::Code,
    protocol::Responder,
    telemetry::Metric,
    trust::AnyIdentity,
};

use crate::support::{MILLI, Pair, SECOND, config, hand::Peer, wire::Draft};

#[derive(Clone, Debug)]
enum Event {
    Handshake {
        node: u8,
    },
    /// A new request, with an id near the others or far from them, and its deadline in seconds.
    Request {
        session: Index,
        id: u64,
        deadline: u64,
    },
    Again {
        request: Index,
    },
    Forged {
        request: Index,
    },
    Turn {
        seconds: u64,
    },
    Sweep,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let any_id = prop_oneof![4 => 1..8_u64, 2 => 4096..4104_u64, 1 => Just((1 << 53) - 1)];
    let request = (any::<Index>(), any_id, 1..200_u64);
    let event = prop_oneof![
        3 => (0..4_u8).prop_map(|node| Event::Handshake { node }),
        8 => request.prop_map(|(session, id, deadline)| Event::Request { session, id, deadline }),
        3 => any::<Index>().prop_map(|request| Event::Again { request }),
        2 => any::<Index>().prop_map(|request| Event::Forged { request }),
        2 => (0..50_u64).prop_map(|seconds| Event::Turn { seconds }),
        1 => Just(Event::Sweep),
    ];
    proptest::collection::vec(event, 1..120)
}

const MOST: usize = 5;
const MOST_OF_NODE: usize = 3;
const MOST_PROVISIONAL: usize = 6;
const LIFETIME: Duration = Duration::from_secs(150);
const IDLE: Duration = Duration::from_secs(70);

/// A session that the responder should have.
struct Known {
    node: u8,
    began: Instant,
    used: Instant,
    confirmed: bool,
    served: HashSet<u64>,
}

impl Known {
    fn is_over(&self, now: Instant) -> bool {
        let age = now - self.began;
        age > LIFETIME || !self.confirmed && age > 60 * SECOND || now - self.used > IDLE
    }
}

/// By number, in the order of their making.
#[derive(Default)]
struct Model(BTreeMap<usize, Known>);

impl Model {
    fn admit(&mut self, number: usize, node: u8, now: Instant) {
        let provisional: Vec<_> = self.0.iter().filter(|(_, known)| !known.confirmed).collect();
        // Of one node at most 8: more than there may be of all.
        let oldest = (provisional.len() >= MOST_PROVISIONAL).then(|| *provisional[0].0);
        oldest.inspect(|oldest| drop(self.0.remove(oldest)));
        let known = Known { node, began: now, used: now, confirmed: false, served: HashSet::new() };
        self.0.insert(number, known);
    }

    /// A request comes, which may be forged: that is found out later.
    fn find(&mut self, request: &Sent, now: Instant) -> Result<&mut Known, Code> {
        if self.0.get(&request.session).is_some_and(|known| known.is_over(now)) {
            self.0.remove(&request.session);
        }
        let known = self.0.get_mut(&request.session).ok_or(Code::UnknownSession)?;
        let is_late = now - known.began > Duration::from_secs(request.deadline);
        if is_late { Err(Code::Expired) } else { Ok(known) }
    }

    fn forged(&mut self, request: &Sent, now: Instant) -> Code {
        self.find(request, now).map_or_else(|code| code, |_| Code::DecryptionFailed)
    }

    fn serve(&mut self, request: &Sent, now: Instant) -> Result<(), Code> {
        let known = self.find(request, now)?;
        let was_provisional = !std::mem::replace(&mut known.confirmed, true);
        known.used = now;
        let highest = known.served.iter().max().copied().unwrap_or_default();
        let fresh = request.id + 4096 > highest && known.served.insert(request.id);
        if was_provisional {
            self.make_room(request.session);
        }
        if fresh { Ok(()) } else { Err(Code::Replayed) }
    }

    /// For a session that has just been confirmed: the least recently used of the node goes, or of all.
    fn make_room(&mut self, newest: usize) {
        let node = self.0[&newest].node;
        let others = |of_node: bool| {
            let fits = move |(number, known): &(&usize, &Known)| {
                **number != newest && known.confirmed && (!of_node || known.node == node)
            };
            self.0.iter().filter(fits)
        };
        let of_node = others(true).count() >= MOST_OF_NODE;
        if of_node || others(false).count() >= MOST {
            let victim = others(of_node).min_by_key(|(_, known)| known.used).map(|(number, _)| *number);
            self.0.remove(&victim.unwrap());
        }
    }
}

struct Sent {
    session: usize,
    id: u64,
    deadline: u64,
    bytes: Vec<u8>,
}

fn said(pair: &mut Pair, bytes: &[u8]) -> Result<(), Code> {
    pair.serve(bytes).map(drop).map_err(|error| error.code().unwrap())
}

fn play(events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut pair = Pair::new();
    let mut limits = Limits::default();
    (limits.sessions, limits.sessions_per_peer, limits.provisional) = (MOST, MOST_OF_NODE, MOST_PROVISIONAL);
    (limits.session, limits.idle) = (LIFETIME, IDLE);
    let server = config(Identity::generate(), AnyIdentity).hybrid(Hybrid::Off).limits(limits);
    pair.server = Responder::new(server);
    let (mut model, mut peers, mut requests) = (Model::default(), Vec::<Peer>::new(), Vec::<Sent>::new());
    for event in events {
        // No two things happen at the same time.
        pair.turn(MILLI);
        match event {
            Event::Handshake { node } => {
                pair.hand = [node + 1; 32];
                model.admit(peers.len(), node, pair.now);
                let peer = pair.by_hand();
                peers.push(peer);
            }
            Event::Request { session, id, deadline } if !peers.is_empty() => {
                let session = session.index(peers.len());
                let opening = Some(([7; 16], deadline * 1000));
                let draft = Draft { opening, ..peers[session].request(id, b"x") };
                let request = Sent { session, id, deadline, bytes: draft.seal().binary() };
                prop_assert_eq!(said(&mut pair, &request.bytes), model.serve(&request, pair.now));
                requests.push(request);
            }
            Event::Again { request } if !requests.is_empty() => {
                let request = &requests[request.index(requests.len())];
                prop_assert_eq!(said(&mut pair, &request.bytes), model.serve(request, pair.now));
            }
            Event::Forged { request } if !requests.is_empty() => {
                let request = &requests[request.index(requests.len())];
                let mut bytes = request.bytes.clone();
                *bytes.last_mut().unwrap() ^= 1;
                prop_assert_eq!(said(&mut pair, &bytes), Err(model.forged(request, pair.now)));
            }
            Event::Turn { seconds } => pair.turn(Duration::from_secs(seconds)),
            Event::Sweep => {
                let now = pair.now;
                model.0.retain(|_, known| !known.is_over(now));
                prop_assert_eq!(pair.server.sweep(now), !model.0.is_empty());
                prop_assert_eq!(pair.server_metric(Metric::SessionsLive), model.0.len() as u64);
            }
            Event::Request { .. } | Event::Again { .. } | Event::Forged { .. } => {}
        }
    }
    Ok(())
}

#[test]
fn a_responder_does_what_a_simple_model_does() {
    let config = ProptestConfig { failure_persistence: None, cases: 60, ..Default::default() };
    TestRunner::new(config).run(&events(), play).unwrap();
}
