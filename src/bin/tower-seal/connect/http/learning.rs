//! Tools that the host knew before this program was started, whose arguments go into header fields.
//!
//! Which these are, `tools/list` says, and a host need not ask for that again. A server refuses a call without them
//! (HeaderMismatch, -32020), and so has not served it: then the tools are listed once, and the call is repeated.

use serde::Deserialize;

use super::{Held, Http, Place, Purpose, fields};
use crate::connect::message::Line;

const MISMATCH: i64 = -32020;
/// Pages of a list that are read.
const PAGES: u32 = 64;

/// Whether an answer is that header fields do not mirror the message.
pub(super) fn is_mismatch(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: i64,
    }
    serde_json::from_slice(body).is_ok_and(|refusal: Refusal| refusal.error.code == MISMATCH)
}

impl Http {
    /// A call was refused for want of fields: it waits for the list.
    pub(super) fn unmirrored(&mut self, number: u64) {
        let Some(exchange) = self.exchanges.remove(&number) else { return };
        self.waiting.mark(&exchange.line, &Place::Held);
        self.unlisted.push(Held { line: exchange.line, is_again: true });
        if let [held] = &self.unlisted[..] {
            let list = fields::list(&held.line, self.last, None);
            self.list(list, 1);
        }
    }

    fn list(&mut self, list: Option<Line>, page: u32) {
        match list {
            Some(list) if page <= PAGES => drop(self.post(list, Purpose::List { page }, true)),
            _ => self.listed(),
        }
    }

    /// A page has come.
    pub(super) fn page(&mut self, answer: &Line, page: u32) {
        let next = self.tools.learn(answer);
        let list = self.unlisted.first().zip(next);
        let list = list.and_then(|(held, next)| fields::list(&held.line, self.last, Some(&next)));
        self.list(list, page + 1);
    }

    /// What can be known is: what waited for that is asked again.
    pub(super) fn listed(&mut self) {
        self.tools.is_listed = true;
        for held in self.unlisted.drain(..).rev() {
            self.held.push_front(held);
        }
    }
}
