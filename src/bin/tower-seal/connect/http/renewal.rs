//! Sessions that the server has lost, and begins anew.

use http::HeaderValue;

use super::{Held, Http, Place, Purpose, exchange::LOST_SESSION, far::Session};
use crate::connect::{
    fault::Fault,
    message::Line,
    stdio::{Gone, Host},
};

pub(super) const ENDED_SESSION: &str = "the session has ended before the answer came";

impl Http {
    /// The server does not know the session. What it has not served for that reason is sent again in a new one.
    pub(super) async fn expired(&mut self, number: u64, host: &Host) -> Result<(), Gone> {
        let Some(exchange) = self.exchanges.get(&number) else { return Ok(()) };
        let (is_present, is_again) = (exchange.epoch == self.epoch, exchange.is_again);
        if self.greeting.again().is_none() || is_again || exchange.purpose == Purpose::GreetAgain {
            let fault = self
                .far
                .own("begun_anew", "the server has lost the session. Restart this server in its host.");
            return self.ended(number, Some(fault), host).await;
        }
        let purpose = exchange.purpose;
        if is_present {
            self.lose(host).await?;
        }
        let line = self.exchanges.remove(&number).map(|exchange| exchange.line);
        if self.barrier == Some(number) {
            self.barrier = None;
        }
        if self.control == Some(number) {
            self.control = None;
        }
        // What is about the old session is of no use in the new one.
        if let Some(line) = line.filter(|_| purpose == Purpose::Message) {
            self.waiting.mark(&line, &Place::Held);
            self.held.push_front(Held { line, is_again: true });
        }
        Ok(())
    }

    /// Leaves a session that is lost, and those who wait for answers on its streams.
    pub(super) async fn lose(&mut self, host: &Host) -> Result<(), Gone> {
        tracing::info!("the server has lost the session: a new one is begun");
        self.is_lost = true;
        self.epoch += 1;
        self.session = Session::default();
        self.controls.clear();
        self.listen_no_more();
        self.end_accepted(LOST_SESSION, host).await?;
        for cancelled in self.asked.cancel() {
            host.say(cancelled).await?;
        }
        Ok(())
    }

    pub(super) async fn greeted_again(&mut self, answer: &Line, host: &Host) -> Result<(), Gone> {
        if let Err(fault) = self.greeting.fits(answer) {
            return self.not_greeted(&fault, host).await;
        }
        self.barrier = None;
        self.is_lost = false;
        self.session.version = self.greeting.version().and_then(|text| HeaderValue::from_str(text).ok());
        if let Some(line) = self.greeting.then().cloned() {
            self.held.retain(|held| !held.line.is_notification("notifications/initialized"));
            // Again, so that a server which loses each session at once is not asked for ever.
            self.post(line, Purpose::Greeted, true);
        }
        // Whatever has not come until now on the old session's streams cannot come any more.
        let old: Vec<u64> = self
            .exchanges
            .iter()
            .filter(|(_, other)| other.epoch < self.epoch)
            .map(|(number, _)| *number)
            .collect();
        for number in old {
            self.give_up(number, LOST_SESSION, host).await?;
        }
        Ok(())
    }

    /// The server does not let the host in again: what waits for that is answered, and the next message tries again.
    pub(super) async fn not_greeted(&mut self, fault: &Fault, host: &Host) -> Result<(), Gone> {
        self.barrier = None;
        self.is_lost = true;
        self.session = Session::default();
        for held in std::mem::take(&mut self.held) {
            self.fail(held.line.asks(), Place::Held, fault, host).await?;
        }
        Ok(())
    }

    /// The host begins anew by itself.
    pub(super) async fn leave(&mut self, host: &Host) -> Result<(), Gone> {
        self.is_lost = false;
        self.epoch += 1;
        self.listen_no_more();
        self.end_accepted(ENDED_SESSION, host).await?;
        let session = std::mem::take(&mut self.session);
        if session.id.is_some() {
            let far = self.far.clone();
            tokio::spawn(async move { far.delete(&session).await });
        }
        Ok(())
    }

    /// Answers those whose answers were to come on the stream of what the server says unasked, which is no more.
    async fn end_accepted(&mut self, why: &str, host: &Host) -> Result<(), Gone> {
        let accepted = self.exchanges.iter().filter(|(_, exchange)| exchange.is_accepted);
        for number in accepted.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.give_up(number, why, host).await?;
        }
        Ok(())
    }

    async fn give_up(&mut self, number: u64, why: &str, host: &Host) -> Result<(), Gone> {
        if let Some(line) = self.exchanges.get(&number).map(|exchange| exchange.line.clone()) {
            let fault = self.far.unanswered(why, line.is_harmless());
            self.fail(line.asks(), Place::Posted(number), &fault, host).await?;
        }
        self.abort(number);
        Ok(())
    }
}
