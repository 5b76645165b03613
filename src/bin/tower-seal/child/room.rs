//! How many children may run: in all, and for each node, so that one does not take the places of the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_seal::NodeId;

const FULL: &str = "busy: there are as many servers as --max-children allows; try again later";
const FULL_FOR_NODE: &str = "busy: there are as many servers for this node as --max-children-per-node allows; end another, or try again later";

#[derive(Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    most: usize,
    most_per_node: usize,
    nodes: Arc<Nodes>,
}

/// The places that each node has.
type Nodes = Mutex<HashMap<NodeId, usize>>;

/// A place for a child, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _of_node: Option<OfNode>,
}

#[derive(Debug)]
struct OfNode {
    node: NodeId,
    nodes: Arc<Nodes>,
}

impl Room {
    pub(super) fn new(most: usize, most_per_node: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Room { places: Arc::new(Semaphore::new(most)), most, most_per_node, nodes: Arc::default() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    pub(super) fn taken(&self) -> usize {
        self.most - self.places.available_permits().min(self.most)
    }

    /// A place, or what to tell `node`. Who is not known, since nothing is sealed, is counted in all only.
    pub(super) fn place(&self, node: Option<NodeId>) -> Result<Place, &'static str> {
        let of_node = node.map(|node| self.of(node).ok_or(FULL_FOR_NODE)).transpose()?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| FULL)?;
        Ok(Place { _place: place, _of_node: of_node })
    }

    fn of(&self, node: NodeId) -> Option<OfNode> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = nodes.entry(node).or_default();
        // At least one may be taken, so no entry is left empty.
        (*taken < self.most_per_node).then(|| {
            *taken += 1;
            OfNode { node, nodes: self.nodes.clone() }
        })
    }
}

impl Drop for OfNode {
    fn drop(&mut self) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = nodes.get_mut(&self.node) {
            *taken -= 1;
            if *taken == 0 {
                nodes.remove(&self.node);
            }
        }
    }
}
