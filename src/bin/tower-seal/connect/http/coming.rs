//! What the tasks tell: answers, what the server says unasked, and how exchanges end.

use std::time::Instant;

use http::HeaderValue;

use super::{Http, Place, Purpose, exchange::Event, renewal::ENDED_SESSION};
use crate::connect::{
    fault::Fault,
    message::{Id, Line},
    salvage::without_asks,
    stdio::{Gone, Host},
};

impl Http {
    /// A task told something.
    pub(super) async fn event(&mut self, number: u64, event: Event, host: &Host) -> Result<(), Gone> {
        let unasked = self.unasked.as_ref().is_some_and(|(unasked, _)| *unasked == number);
        let Some(exchange) = self.exchanges.get(&number) else {
            return match event {
                Event::Unheard(fault) if unasked => self.unheard(fault, host).await,
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
            Event::Said(line) => match purpose {
                Purpose::List { page } if line.answers() == exchange.line.asks() => {
                    self.exchanges.remove(&number);
                    self.page(&line, page);
                    Ok(())
                }
                _ => self.said(number, line, host).await,
            },
            Event::Unmirrored => {
                self.unmirrored(number);
                Ok(())
            }
            Event::Expired => self.expired(number, host).await,
            Event::Accepted
                if self.unasked.is_some() && exchange.epoch == self.epoch && self.is_waited_for(number) =>
            {
                if let Some(exchange) = self.exchanges.get_mut(&number) {
                    exchange.is_accepted = true;
                }
                Ok(())
            }
            Event::Accepted => {
                let fault = if exchange.epoch < self.epoch {
                    Some(self.far.unanswered(ENDED_SESSION, exchange.line.is_harmless()))
                } else {
                    self.unheard.clone()
                };
                let fault = fault.filter(|_| self.is_waited_for(number));
                self.ended(number, fault, host).await
            }
            Event::Done | Event::Unheard(_) => self.ended(number, None, host).await,
            Event::Failed(fault) => self.ended(number, Some(fault), host).await,
        }
    }

    /// There is no stream of what the server says unasked, or not any more: what was to come there does not.
    async fn unheard(&mut self, fault: Fault, host: &Host) -> Result<(), Gone> {
        self.unasked = None;
        self.unheard = Some(fault.clone());
        let accepted = self.exchanges.iter().filter(|(_, exchange)| exchange.is_accepted);
        for number in accepted.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.ended(number, Some(fault.clone()), host).await?;
        }
        Ok(())
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
        if let Some(id) = line.cancels() {
            self.asked.forget(&id);
        }
        if self.asked.ask(&line) {
            return host.say(line.bytes).await;
        }
        if self.bad.begins(Instant::now()) {
            tracing::warn!("the server asks more than the host answers; requests are answered with `busy`");
        }
        if self.has_room() {
            self.controls
                .extend(line.asks().iter().filter_map(|id| Line::read(Fault::busy().answer(id)).ok()));
        }
        match without_asks(&line) {
            Some(rest) => host.say(rest.bytes).await,
            None => Ok(()),
        }
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
        if let Purpose::List { .. } = exchange.purpose {
            self.listed();
            return Ok(());
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
        if self.control == Some(number) {
            self.control = None;
        }
    }
}
