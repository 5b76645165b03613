//! What is posted, and when.

use std::time::Duration;

use http::HeaderValue;

use super::{Held, Http, MOST, Place, Purpose, Under, exchange::Exchange, far::Session, fields};
use crate::connect::{
    message::Line,
    stdio::{Gone, Host},
};

/// How long a page of the tools may take, for which a call waits.
const LISTING: Duration = Duration::from_secs(30);

impl Http {
    /// Starts what can start.
    pub(super) async fn start(&mut self, host: &Host) -> Result<(), Gone> {
        while self.control.is_none()
            && let Some(line) = self.controls.pop_front()
        {
            self.control = Some(self.post(line, Purpose::Control, false));
        }
        while self.barrier.is_none() && self.exchanges.len() < MOST {
            let is_greeting = self.held.front().is_some_and(|held| held.line.is_initialize());
            if self.is_lost && !self.held.is_empty() && !is_greeting {
                if let Some(line) = self.greeting.again().cloned() {
                    self.post(line, Purpose::GreetAgain, false);
                    return Ok(());
                }
                self.is_lost = false;
            }
            let Some(Held { line, is_again }) = self.held.pop_front() else { return Ok(()) };
            let purpose = if is_greeting {
                Purpose::Greet
            } else if line.is_notification("notifications/initialized") {
                Purpose::Greeted
            } else {
                Purpose::Message
            };
            if purpose == Purpose::Greet {
                self.leave(host).await?;
            }
            self.post(line, purpose, is_again);
        }
        Ok(())
    }

    pub(super) fn post(&mut self, line: Line, purpose: Purpose, is_again: bool) -> u64 {
        let own = fields::version(&line);
        let is_modern = own.is_some() || self.greeting.id().is_none();
        let session = if is_modern {
            let version = own.as_deref().unwrap_or(fields::FIRST);
            Session { id: None, version: HeaderValue::from_str(version).ok() }
        } else {
            self.session.clone()
        };
        let mut request = self.far.post(&session, line.bytes.clone());
        let version = session.version.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        if version >= fields::FIRST.as_bytes() {
            request.headers_mut().extend(fields::mirrored(&line, &self.tools));
        }
        let mut exchange = self.exchange(session, Some(&line), !is_modern);
        exchange.may_be_unmirrored =
            is_modern && !is_again && !self.tools.is_listed && line.method() == Some("tools/call");
        let number = exchange.number;
        let task = match purpose {
            Purpose::List { .. } => tokio::spawn(exchange.post_within(LISTING, request)),
            _ => tokio::spawn(exchange.post(request)),
        };
        let task = task.abort_handle();
        self.waiting.mark(&line, &Place::Posted(number));
        if matches!(purpose, Purpose::Greet | Purpose::GreetAgain | Purpose::Greeted) {
            self.barrier = Some(number);
        }
        let under = Under { line, purpose, is_again, is_modern, is_accepted: false, epoch: self.epoch, task };
        self.exchanges.insert(number, under);
        number
    }

    /// Opens the stream of what the server says unasked, which it need not have.
    pub(super) fn listen(&mut self) {
        if self.session.id.is_none() || self.unasked.is_some() {
            return;
        }
        let exchange = self.exchange(self.session.clone(), None, true);
        let number = exchange.number;
        self.unasked = Some((number, tokio::spawn(exchange.listen()).abort_handle()));
    }

    /// In this session.
    pub(super) fn listen_no_more(&mut self) {
        self.unheard = None;
        if let Some((_, task)) = self.unasked.take() {
            task.abort();
        }
    }

    fn exchange(&mut self, session: Session, line: Option<&Line>, may_resume: bool) -> Exchange {
        self.last += 1;
        let (far, events) = (self.far.clone(), self.tell.clone());
        let ids = line.map_or(&[][..], Line::asks).to_vec();
        let is_harmless = line.is_some_and(Line::is_harmless);
        let may_be_unmirrored = false;
        Exchange { far, number: self.last, events, ids, is_harmless, may_be_unmirrored, session, may_resume }
    }
}
