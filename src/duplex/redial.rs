//! Connecting anew.

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use rand_core::Rng as _;
use tokio::time::sleep;

use super::{now, rng};
use crate::{
    error::{Code, Error, Result},
    telemetry::TARGET,
};

/// Connects again and again, each time with a new handshake, and after a rest that doubles from one failure to the
/// next and is drawn at random, so that the clients of a server that was down do not all come at once.
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
    failures: u32,
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
            connected: None,
        }
    }

    /// The rest after the first failure, and the longest one. 250 ms and 30 s.
    #[must_use]
    pub fn rests(self, first: Duration, most: Duration) -> Self {
        Redial { first, most: most.max(first), ..self }
    }

    /// After how many failures in a row to give up. Never, by default.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Redial { attempts: attempts.max(1), ..self }
    }

    /// A new connection.
    ///
    /// One that lasted no longer than the longest rest counts as a failure. Dropping this future loses nothing.
    ///
    /// Errors: those that trying again does not help, such as `untrusted_peer`; any, after the last attempt.
    pub async fn connect<C, R>(&mut self) -> Result<C>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<C>>,
    {
        if let Some(connected) = self.connected.take() {
            let lasted = now().saturating_duration_since(connected) > self.most;
            self.failures = if lasted { 0 } else { self.failures.saturating_add(1) };
        }
        let before = self.failures;
        loop {
            if self.failures > 0 {
                sleep(rest(self.first, self.most, self.failures, rng().next_u32())).await;
            }
            match (self.dial)().await {
                Ok(connection) => {
                    self.connected = Some(now());
                    return Ok(connection);
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    if !may_pass(&error) || self.failures - before >= self.attempts {
                        return Err(error);
                    }
                    tracing::debug!(target: TARGET, reason = %error, "not connected: trying again");
                }
            }
        }
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
        Error::Transport(_) | Error::TimedOut { .. } | Error::Unavailable { .. } => true,
        Error::Misbehaved { code, .. } | Error::Refused { code, .. } => {
            matches!(code, Code::Truncated | Code::Busy | Code::Timeout)
        }
        // A gateway whose server is away.
        Error::Unsealed { status } => *status >= 500,
        _ => false,
    }
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
