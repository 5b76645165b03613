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
    /// Those that were answered, and have been told to go.
    leaving: usize,
    /// All of them, and those that wait for their turn.
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
            // A place that becomes free may be for who has waited longer, so this one goes on looking.
            if let Ok(permit) = timeout_at(self.displace(node), &mut acquire).await {
                break permit.ok();
            }
        };
        let (answered, displaced) = oneshot::channel();
        turn.displaced = Some(displaced);
        if let Some(of_node) = self.nodes().get_mut(&node) {
            of_node.answered.push_back((Instant::now(), answered));
        }
        turn
    }

    /// Tells those to go that have had their time, the oldest first, and no more of them than others wait. Returns
    /// when to look again.
    fn displace(&self, node: NodeId) -> Instant {
        let now = Instant::now();
        let mut nodes = self.nodes();
        let Some(of_node) = nodes.get_mut(&node) else { return now + PATIENCE };
        while of_node.turns.available_permits() == 0
            && of_node.waiting() > of_node.leaving
            && let Some((since, _)) = of_node.answered.front()
        {
            let due = *since + PATIENCE;
            if due > now {
                return due;
            }
            of_node.answered.pop_front();
            of_node.leaving += 1;
        }
        now + PATIENCE
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<NodeId, OfNode>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfNode {
    fn new() -> Self {
        let turns = Arc::new(Semaphore::new(PROVISIONAL_PER_NODE));
        OfNode { turns, answered: VecDeque::new(), leaving: 0, present: 0 }
    }

    fn waiting(&self) -> usize {
        self.present.saturating_sub(self.answered.len() + self.leaving)
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
        let mut nodes = self.provisional.nodes();
        let Some(of_node) = nodes.get_mut(&self.node) else { return };
        if let Some(displaced) = &mut self.displaced {
            displaced.close();
            let before = of_node.answered.len();
            of_node.answered.retain(|(_, turn)| !turn.is_closed());
            if of_node.answered.len() == before {
                of_node.leaving = of_node.leaving.saturating_sub(1);
            }
        }
        of_node.present -= 1;
        if of_node.present == 0 {
            nodes.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::join};
    use tokio::time::sleep;

    use super::*;

    const NODE: NodeId = NodeId::from_bytes([7; 32]);

    #[tokio::test(start_paused = true)]
    async fn who_displaces_for_another_displaces_again() {
        let provisional = Provisional::default();
        let mut oldest = provisional.enter(NODE).await;
        sleep(PATIENCE / 2).await;
        let mut others = Vec::new();
        for _ in 1..PROVISIONAL_PER_NODE {
            others.push(provisional.enter(NODE).await);
        }
        let (mut first, mut second) = (pin!(provisional.enter(NODE)), pin!(provisional.enter(NODE)));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        // The second one looks before the first one does, when one place is due; which the first one gets.
        let began = Instant::now();
        let waiting = join(second, first);
        let leaving = async {
            oldest.displaced().await;
            drop(oldest);
            let mut next = others.remove(0);
            next.displaced().await;
            assert_eq!(began.elapsed(), PATIENCE);
        };
        join(waiting, leaving).await;
        assert_eq!(others.len(), PROVISIONAL_PER_NODE - 2);
        assert!(
            others.iter_mut().all(|other| other.displaced().now_or_never().is_none()),
            "nobody else has to go"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_while_there_is_room() {
        let provisional = Provisional::default();
        let mut slow = provisional.enter(NODE).await;
        sleep(PATIENCE * 2).await;
        let _second = provisional.enter(NODE).await;
        assert!(slow.displaced().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_for_one_who_has_gone() {
        let provisional = Provisional::default();
        let mut turns = Vec::new();
        for _ in 0..PROVISIONAL_PER_NODE {
            turns.push(provisional.enter(NODE).await);
        }
        let waits = tokio::time::timeout(PATIENCE / 2, provisional.enter(NODE)).await;
        assert!(waits.is_err());
        sleep(PATIENCE).await;
        assert!(turns.iter_mut().all(|turn| turn.displaced().now_or_never().is_none()));
        drop(turns);
        assert!(provisional.nodes().is_empty());
    }
}
