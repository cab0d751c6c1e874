//! How long to wait before something that failed is tried again.
//!
//! Pauses double from one failure to the next, up to a bound, each a little different from
//! everybody else's, so that many gateways do not come back in step. What has lived for long
//! enough before it failed starts over. No clock, no I/O: whoever waits does that himself.

use std::time::Duration;

/// The longest pause, whatever the first one is.
const LONGEST: Duration = Duration::from_secs(3);

/// The pauses between attempts at one thing.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    stable: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses that begin at `first`, and begin again after a life of at least `stable`.
    pub const fn new(first: Duration, stable: Duration) -> Self {
        Self { first, stable, failures: 0 }
    }

    /// An attempt has failed: the pause before the next one.
    pub fn failed(&mut self) -> Duration {
        let grown = self.first.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        grown.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// An attempt has succeeded, and what it made has ended after `life`. One that lived for too
    /// short a time counts as a failure among the others.
    pub fn lived(&mut self, life: Duration) {
        if life >= self.stable {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const STABLE: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut backoff = Backoff::new(FIRST, STABLE);
        let mut bound = FIRST;
        for _ in 0..100 {
            let pause = backoff.failed();
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} of {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
    }

    #[test]
    fn pauses_differ() {
        let pauses: Vec<_> = (0..20).map(|_| Backoff::new(FIRST, STABLE).failed()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }

    #[test]
    fn a_life_that_was_long_enough_starts_over() {
        let mut backoff = Backoff::new(FIRST, STABLE);
        for _ in 0..20 {
            backoff.failed();
        }
        backoff.lived(STABLE - Duration::from_millis(1));
        assert!(backoff.failed() >= LONGEST / 2, "what dies at once is a failure");
        backoff.lived(STABLE);
        assert!(backoff.failed() <= FIRST);
    }
}
