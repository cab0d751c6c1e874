//! Of what a limit refuses, delays or tries again.

use metrics::{Gauge, counter, gauge};

use super::{BREAKER_OPENED, BREAKERS_OPEN, CALLS_WAITING, LIMITED, RETRIES};

/// Counts a call that was refused for the limit that this key sets.
pub fn limited(route: &str, limit: &'static str) {
    counter!(LIMITED, "route" => route.to_owned(), "limit" => limit).increment(1);
}

/// A call that waits for its turn: counted until it is dropped.
pub struct WaitingCall(Gauge);

impl WaitingCall {
    /// One of a route. Its series is looked up: whoever waits has the time.
    pub fn new(route: &str) -> Self {
        let waiting = gauge!(CALLS_WAITING, "route" => route.to_owned());
        waiting.increment(1.0);
        Self(waiting)
    }
}

impl Drop for WaitingCall {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counts an attempt at a call after its first, or that there was no budget for one.
pub fn retried(route: &str, outcome: &'static str) {
    counter!(RETRIES, "route" => route.to_owned(), "outcome" => outcome).increment(1);
}

/// The metrics of an upstream's breaker. Their series are looked up when they change, which is seldom.
pub struct BreakerMetrics {
    upstream: String,
}

impl BreakerMetrics {
    /// Those of an upstream.
    pub fn new(upstream: &str) -> Self {
        Self { upstream: upstream.to_owned() }
    }

    /// Counts a service that is left alone from now on.
    pub fn opened(&self) {
        counter!(BREAKER_OPENED, "upstream" => self.upstream.clone()).increment(1);
    }

    /// So many more services are left alone than were, or fewer.
    pub fn move_open(&self, by: f64) {
        gauge!(BREAKERS_OPEN, "upstream" => self.upstream.clone()).increment(by);
    }
}
