//! What the tasks tell: answers, what the server says unasked, and how exchanges end.

use http::HeaderValue;

use super::{Http, Place, Purpose, exchange::Event};
use crate::connect::{
    fault::Fault,
    message::{Id, Line},
    stdio::{Gone, Host},
};

impl Http {
    /// A task told something.
    pub(super) async fn event(&mut self, number: u64, event: Event, host: &Host) -> Result<(), Gone> {
        let unasked = self.unasked.as_ref().is_some_and(|(unasked, _)| *unasked == number);
        let Some(exchange) = self.exchanges.get(&number) else {
            return match event {
                Event::Said(line) if unasked => self.said(number, line, host).await,
                _ => Ok(()),
            };
        };
        let purpose = exchange.purpose;
        match event {
            Event::Began(session) => {
                if matches!(purpose, Purpose::Greet | Purpose::GreetAgain) && self.barrier == Some(number) {
                    self.session.id = session;
                }
                Ok(())
            }
            Event::Said(line) if purpose == Purpose::GreetAgain && self.greeting.is_answer(&line) => {
                self.exchanges.remove(&number);
                self.greeted_again(&line, host).await
            }
            Event::Said(line) => self.said(number, line, host).await,
            Event::Expired => self.expired(number, host).await,
            // The answer comes unasked.
            Event::Accepted if self.unasked.is_some() && self.is_waited_for(number) => Ok(()),
            Event::Accepted | Event::Done => self.ended(number, None, host).await,
            Event::Failed(fault) => self.ended(number, Some(fault), host).await,
        }
    }

    fn is_waited_for(&self, number: u64) -> bool {
        let asks = self.exchanges.get(&number).map_or(&[][..], |exchange| exchange.line.asks());
        asks.iter().any(|id| self.waiting.get(id) == Some(&Place::Posted(number)))
    }

    /// The server said something that is the host's.
    async fn said(&mut self, by: u64, line: Line, host: &Host) -> Result<(), Gone> {
        for id in line.answers() {
            let Some(Place::Posted(number)) = self.waiting.answered(id) else { continue };
            if self.exchanges.get(&number).and_then(|exchange| exchange.line.method()) == Some("tools/list") {
                self.tools.learn(&line);
            }
            if self.barrier == Some(number) {
                self.barrier = None;
            }
            if number != by {
                self.abort(number);
            }
        }
        if self.greeting.heard(&line) {
            self.session.version = self.greeting.version().and_then(|text| HeaderValue::from_str(text).ok());
        }
        if !self.asked.ask(&line) {
            tracing::warn!("the server asks more than the host answers; a request was not passed on");
            return Ok(());
        }
        host.say(line.bytes).await
    }

    /// An exchange is over.
    pub(super) async fn ended(&mut self, number: u64, fault: Option<Fault>, host: &Host) -> Result<(), Gone> {
        let Some(exchange) = self.exchanges.remove(&number) else { return Ok(()) };
        if self.barrier == Some(number) {
            self.barrier = None;
        }
        if self.control == Some(number) {
            self.control = None;
            // Whatever still comes of what was cancelled is for nobody.
            if let Some(id) = exchange.line.cancels() {
                let cancelled = self.exchanges.iter().find(|(_, other)| other.line.asks() == [id.clone()]);
                if let Some(number) = cancelled.map(|(number, _)| *number) {
                    self.abort(number);
                }
            }
        }
        if exchange.purpose == Purpose::GreetAgain {
            let fault =
                fault.unwrap_or_else(|| self.far.own("begun_anew", "the server does not answer initialize."));
            return self.not_greeted(&fault, host).await;
        }
        if exchange.purpose == Purpose::Greeted && fault.is_none() && exchange.epoch == self.epoch {
            self.listen();
        }
        match fault {
            Some(fault) if exchange.line.asks().is_empty() => {
                tracing::warn!(reason = %fault, "a message of the host was not taken");
            }
            fault => {
                let fault = fault.unwrap_or_else(|| self.far.own("unexpected_answer", "there is no answer."));
                self.fail(exchange.line.asks(), Place::Posted(number), &fault, host).await?;
            }
        }
        Ok(())
    }

    /// Answers those requests that are waited for, and are where they are thought to be.
    pub(super) async fn fail(
        &mut self,
        ids: &[Id],
        place: Place,
        fault: &Fault,
        host: &Host,
    ) -> Result<(), Gone> {
        for id in ids {
            if self.waiting.get(id) == Some(&place) {
                self.waiting.answered(id);
                host.say(fault.answer(id)).await?;
            }
        }
        Ok(())
    }

    pub(super) fn abort(&mut self, number: u64) {
        if let Some(exchange) = self.exchanges.remove(&number) {
            exchange.task.abort();
        }
        if self.barrier == Some(number) {
            self.barrier = None;
        }
    }
}
