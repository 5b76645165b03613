//! Connecting anew.

use std::{
    fmt,
    future::Future,
    io,
    time::{Duration, Instant},
};

use rand_core::Rng as _;
use tokio::time::sleep_until;

use super::{now, rng};
use crate::{
    error::{Code, Error, Result},
    telemetry::TARGET,
};

/// Connects again and again, each time with a new handshake, and after a rest that doubles from one failure to the
/// next and is drawn at random, so that the clients of a server that was down do not all come at once.
///
/// A rest counts from the last failure, whether anybody waits meanwhile or not. That of a connection is when it was
/// [`lost`](Self::lost), which `connect` takes to be the moment of its call.
///
/// It carries no message and so repeats none: what was under way when a connection failed is the application's
/// to judge, as it may have arrived.
///
/// ```no_run
/// # async fn f(config: tower_seal::Config) -> Result<(), tower_seal::Error> {
/// use futures_util::StreamExt as _;
/// use tower_seal::duplex::{Redial, websocket::{self, Options}};
///
/// let options = Options::new();
/// let mut redial = Redial::new(|| websocket::connect("wss://example.com/mcp", &config, &options));
/// loop {
///     let mut connection = redial.connect().await?;
///     while let Some(Ok(message)) = connection.next().await {
///         println!("{message:?}");
///     }
/// }
/// # }
/// ```
pub struct Redial<F> {
    dial: F,
    first: Duration,
    most: Duration,
    attempts: u32,
    /// In a row, for the rests.
    failures: u32,
    /// In a row, and since the last time that it gave up.
    tried: u32,
    /// The end of the rest.
    next: Option<Instant>,
    connected: Option<Instant>,
}

impl<F> Redial<F> {
    /// Connects by `dial`: at most 30 s pass between two of its calls, and no number of them is too many.
    #[must_use]
    pub fn new(dial: F) -> Self {
        Redial {
            dial,
            first: Duration::from_millis(250),
            most: Duration::from_secs(30),
            attempts: u32::MAX,
            failures: 0,
            tried: 0,
            next: None,
            connected: None,
        }
    }

    /// The rest after the first failure, and the longest one. 250 ms and 30 s.
    #[must_use]
    pub fn rests(self, first: Duration, most: Duration) -> Self {
        Redial { first, most: most.max(first), ..self }
    }

    /// After how many failures in a row to give up, those of earlier calls and connections that did not last counted.
    /// Never, by default. Whoever calls again then begins a new row.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Redial { attempts: attempts.max(1), ..self }
    }

    /// Notes that the connection is lost, for who does not call `connect` at once.
    ///
    /// One that lasted no longer than the longest rest counts as a failure.
    pub fn lost(&mut self) {
        let Some(connected) = self.connected.take() else { return };
        if now().saturating_duration_since(connected) > self.most {
            (self.failures, self.tried) = (0, 0);
        } else {
            self.fail();
        }
    }

    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.tried = self.tried.saturating_add(1);
        self.next = now().checked_add(rest(self.first, self.most, self.failures, rng().next_u32()));
    }

    /// A new connection. Dropping this future loses nothing but an attempt that is under way.
    ///
    /// Errors: those that trying again does not help, such as `untrusted_peer`; any, after the last attempt; and
    /// `truncated`, when that many connections did not last. A refusal within a handshake is not signed: somebody on
    /// the way may have said it, so whoever is there for long calls again, later.
    pub async fn connect<C, R>(&mut self) -> Result<C>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<C>>,
    {
        const LOST: Error = Error::new(Code::Truncated, "connections are lost as soon as they are made");
        self.lost();
        let mut outcome = Err(LOST);
        while self.tried < self.attempts {
            outcome = self.attempt().await;
            match &outcome {
                Err(error) if may_pass(error) => {
                    tracing::debug!(target: TARGET, reason = %error, "not connected");
                }
                _ => break,
            }
        }
        if outcome.is_err() {
            self.tried = 0;
        }
        outcome
    }

    /// One attempt, after what is left of the rest: for who answers for each failure.
    ///
    /// Errors: whatever `dial` says.
    pub async fn attempt<C, R>(&mut self) -> Result<C>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<C>>,
    {
        self.lost();
        if let Some(next) = self.next {
            sleep_until(next.into()).await;
        }
        let outcome = (self.dial)().await;
        match &outcome {
            Ok(_) => (self.next, self.connected) = (None, Some(now())),
            Err(_) => self.fail(),
        }
        outcome
    }
}

/// Between a half and the whole of `first`, doubled for each failure after the first one.
fn rest(first: Duration, most: Duration, failures: u32, random: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let whole = doubled.min(most);
    let half = whole / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Whether the same attempt may go better later.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Transport(error) => !is_final(&**error),
        Error::TimedOut { .. } | Error::Unavailable { .. } => true,
        Error::Misbehaved { code, .. } | Error::Refused { code, .. } => {
            matches!(code, Code::Truncated | Code::Busy | Code::Timeout)
        }
        // A gateway that is busy, or whose server is away.
        Error::Unsealed { status } => *status >= 500 || [408, 425, 429].contains(status),
        _ => false,
    }
}

/// TLS, which reports a bad certificate as invalid data; or an address that is none.
fn is_final(error: &(dyn std::error::Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}

impl<F> fmt::Debug for Redial<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redial").field("failures", &self.failures).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_the_longest_and_are_spread() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(1));
        let spread = |failures| [0, u32::MAX].map(|random| rest(first, most, failures, random).as_millis());
        assert_eq!(spread(1), [50, 100]);
        assert_eq!(spread(2), [100, 200]);
        assert_eq!(spread(4), [400, 800]);
        assert_eq!(spread(5), [500, 1000]);
        assert_eq!(spread(u32::MAX), [500, 1000]);
        assert!(rest(Duration::MAX, Duration::MAX, 9, u32::MAX) > Duration::from_secs(1));
    }
}
