//! Bounds on handshakes that are not finished.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use crate::{config::Limits, identity::NodeId};

/// How long a connection that is too many may take to say hello, so that it can be told so.
const COURTESY: Duration = Duration::from_secs(1);

/// How many are told at once; further ones are just dropped.
const COURTESIES: usize = 64;

/// No handshake takes longer, whatever its limit.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Handshakes of one node that wait for its confirmation (PROTOCOL section 2.3).
const PROVISIONAL_PER_NODE: usize = 8;

/// How long one of them may take before another one may take its place.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Places {
    places: Arc<Semaphore>,
    courtesies: Arc<Semaphore>,
    limit: Duration,
}

/// One of the unfinished handshakes, or one too many that is going to be told.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    pub(super) is_one_too_many: bool,
    pub(super) until: Instant,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Self {
        Places {
            places: Arc::new(Semaphore::new(limits.unfinished.clamp(1, Semaphore::MAX_PERMITS))),
            courtesies: Arc::new(Semaphore::new(COURTESIES)),
            limit: limits.handshake.min(LONGEST),
        }
    }

    /// From here on time counts. `None` where there is not even time to say so.
    pub(super) fn take(&self) -> Option<Place> {
        let (permit, is_one_too_many) = match self.places.clone().try_acquire_owned() {
            Ok(permit) => (permit, false),
            Err(_) => (self.courtesies.clone().try_acquire_owned().ok()?, true),
        };
        let limit = if is_one_too_many { self.limit.min(COURTESY) } else { self.limit };
        Some(Place { _permit: permit, is_one_too_many, until: Instant::now() + limit })
    }
}

/// The nodes that have said hello and have not confirmed yet.
#[derive(Default)]
pub(super) struct Provisional {
    nodes: Mutex<HashMap<NodeId, OfNode>>,
}

/// The handshakes of one node.
struct OfNode {
    turns: Arc<Semaphore>,
    /// Those that are answered, the oldest first.
    answered: VecDeque<(Instant, oneshot::Sender<()>)>,
    /// Those that wait for their turn, too.
    present: usize,
}

/// One handshake of a node, which ends when it is dropped.
pub(super) struct Turn<'a> {
    provisional: &'a Provisional,
    node: NodeId,
    displaced: Option<oneshot::Receiver<()>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Provisional {
    /// Waits until the node's hello may be answered: until one of its others is done, or the oldest has had time
    /// enough to be, and goes. So an honest node may connect as often at once as it likes, and one that never
    /// confirms, or whose hellos somebody else sends, keeps it out for no longer than that.
    pub(super) async fn enter(&self, node: NodeId) -> Turn<'_> {
        let mut turn = Turn { provisional: self, node, displaced: None, _permit: None };
        let turns = {
            let mut nodes = self.nodes();
            let of_node = nodes.entry(node).or_insert_with(OfNode::new);
            of_node.present += 1;
            of_node.turns.clone()
        };
        let mut acquire = pin!(turns.acquire_owned());
        turn._permit = loop {
            let until = self.oldest(node).unwrap_or_else(Instant::now) + PATIENCE;
            match timeout_at(until, &mut acquire).await {
                Ok(permit) => break permit.ok(),
                // Its place becomes free, for this one or for who has waited longer.
                Err(_) if self.displace(node) => break acquire.await.ok(),
                Err(_) => {}
            }
        };
        let (answered, displaced) = oneshot::channel();
        turn.displaced = Some(displaced);
        if let Some(of_node) = self.nodes().get_mut(&node) {
            of_node.answered.push_back((Instant::now(), answered));
        }
        turn
    }

    fn oldest(&self, node: NodeId) -> Option<Instant> {
        self.nodes().get(&node)?.answered.front().map(|(since, _)| *since)
    }

    /// Whether the oldest has had its time, and goes.
    fn displace(&self, node: NodeId) -> bool {
        let mut nodes = self.nodes();
        let Some(of_node) = nodes.get_mut(&node) else { return false };
        let is_due = |(since, _): &(Instant, _)| since.elapsed() >= PATIENCE;
        of_node.answered.front().is_some_and(is_due) && of_node.answered.pop_front().is_some()
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<NodeId, OfNode>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfNode {
    fn new() -> Self {
        let turns = Arc::new(Semaphore::new(PROVISIONAL_PER_NODE));
        OfNode { turns, answered: VecDeque::new(), present: 0 }
    }
}

impl Turn<'_> {
    /// Waits until another takes its place.
    pub(super) async fn displaced(&mut self) {
        if let Some(displaced) = &mut self.displaced {
            let _ = displaced.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(displaced) = &mut self.displaced {
            displaced.close();
        }
        let mut nodes = self.provisional.nodes();
        if let Some(of_node) = nodes.get_mut(&self.node) {
            of_node.answered.retain(|(_, turn)| !turn.is_closed());
            of_node.present -= 1;
            if of_node.present == 0 {
                nodes.remove(&self.node);
            }
        }
    }
}
