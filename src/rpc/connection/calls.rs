//! The calls that wait for an answer, by the ids of their requests.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    rpc::id::Id,
};

#[derive(Default)]
pub(super) struct Calls {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<Id, Waiting>,
    last_serial: u64,
    /// Why there will be no further answer.
    ended: Option<Error>,
}

/// What stands under an id: the call, or, for a further request of a batch, the id where the call stands.
enum Waiting {
    Call(Call),
    PartOf(Id),
}

struct Call {
    serial: u64,
    answer: oneshot::Sender<Result<Bytes>>,
    further: Vec<Id>,
    is_batch: bool,
}

/// Names a call: by the first of its ids, and by a number of its own, since an id may be used again.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    first: Id,
    serial: u64,
}

impl Calls {
    /// Begins to wait for the answer to a request, or to a batch of them.
    ///
    /// Errors: `Misuse` for an id that another waiting request has, or that stands twice in a batch; that of
    /// the end, after it.
    pub(super) fn wait(
        &self,
        ids: Vec<Id>,
        is_batch: bool,
    ) -> Result<(Ticket, oneshot::Receiver<Result<Bytes>>)> {
        let mut table = self.lock();
        if let Some(error) = &table.ended {
            return Err(error.clone());
        }
        let mut own = HashSet::new();
        if ids.iter().any(|id| table.waiting.contains_key(id) || !own.insert(id)) {
            return Err(Error::Misuse {
                reason: "a request with the id of another that waits for its answer",
            });
        }
        let mut further = ids;
        let Some(first) = further.pop() else {
            return Err(Error::Misuse { reason: "a call without a request" });
        };
        table.last_serial += 1;
        let ticket = Ticket { first: first.clone(), serial: table.last_serial };
        let (answer, answered) = oneshot::channel();
        for id in &further {
            table.waiting.insert(id.clone(), Waiting::PartOf(first.clone()));
        }
        let call = Call { serial: ticket.serial, answer, further, is_batch };
        table.waiting.insert(first, Waiting::Call(call));
        Ok((ticket, answered))
    }

    /// Hands an answer to the call that waits for `id`, if one does.
    pub(super) fn answer(&self, id: &Id, is_batch: bool, message: Bytes) -> bool {
        let mut table = self.lock();
        let first = match table.waiting.get(id) {
            Some(Waiting::PartOf(first)) => first.clone(),
            Some(Waiting::Call(_)) => id.clone(),
            None => return false,
        };
        let call = table.take(&first, |call| call.is_batch == is_batch);
        drop(table);
        call.is_some_and(|call| call.answer.send(Ok(message)).is_ok())
    }

    /// The call cannot be sent.
    pub(super) fn fail(&self, ticket: &Ticket, error: Error) {
        let call = self.lock().take(&ticket.first, |call| call.serial == ticket.serial);
        if let Some(call) = call {
            // Its caller may be gone.
            let _ = call.answer.send(Err(error));
        }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget(&self, ticket: &Ticket) {
        let call = self.lock().take(&ticket.first, |call| call.serial == ticket.serial);
        drop(call);
    }

    pub(super) fn is_waiting(&self, ticket: &Ticket) -> bool {
        let table = self.lock();
        matches!(table.waiting.get(&ticket.first), Some(Waiting::Call(call)) if call.serial == ticket.serial)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Ends every call, now and to come, with the first error that was given.
    pub(super) fn end(&self, error: Error) {
        let waiting = {
            let mut table = self.lock();
            table.ended.get_or_insert(error);
            std::mem::take(&mut table.waiting)
        };
        // Wakes their callers.
        drop(waiting);
    }

    pub(super) fn ended(&self) -> Option<Error> {
        self.lock().ended.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Removes the call that stands under `first` with all its ids, if it `is_it`.
    fn take(&mut self, first: &Id, is_it: impl FnOnce(&Call) -> bool) -> Option<Call> {
        match self.waiting.remove(first)? {
            Waiting::Call(call) if is_it(&call) => {
                for id in &call.further {
                    self.waiting.remove(id);
                }
                Some(call)
            }
            another => {
                self.waiting.insert(first.clone(), another);
                None
            }
        }
    }
}
