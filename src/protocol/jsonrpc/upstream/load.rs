//! How busy and how slow an instance is. No clock: whoever asks brings the time.
//!
//! The latency is an average in which the past fades. One that fails counts as a slow one, however
//! fast it does so: else it would look better than those that work, and attract their calls. An error
//! may be the caller's fault, or the only way in which a service says that it does not work: it counts
//! as no faster than twice what results take. What is not asked for a while is forgiven, so that one
//! that has recovered is found out.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// In what time a sample's weight falls to a third.
const FADING: Duration = Duration::from_secs(1);
/// In what time the latency of one that is not asked falls to a third.
const FORGIVING: Duration = Duration::from_secs(3);
/// What a failure counts as, at least.
const FAILURE: f64 = 1.0;
/// Faster is not told apart, and one that was never asked is taken to be so fast.
const FASTEST: f64 = 50e-6;

/// What an error counts as, at least, in usual latencies.
const ERROR: f64 = 2.0;
/// What a result adds to the usual latency.
const SHARE: f64 = 0.05;

/// How long results take, whichever instance gives them. Updates that meet may lose one of both.
#[derive(Debug, Default)]
pub(super) struct Usual(AtomicU64);

impl Usual {
    /// An instance gave a result.
    pub(super) fn result(&self, took: Duration) {
        let known = self.seconds();
        let took = took.as_secs_f64();
        let next = if known > 0.0 { known + SHARE * (took - known) } else { took };
        self.0.store(next.to_bits(), Ordering::Relaxed);
    }

    fn seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// What is known of one instance. Updates that meet may lose one of both: they are estimates.
#[derive(Debug)]
pub(super) struct Load {
    in_flight: AtomicUsize,
    /// The average in seconds, as bits.
    latency: AtomicU64,
    /// When it was learnt, in microseconds since `born`.
    learnt: AtomicU64,
    born: Instant,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        let (latency, learnt) = (AtomicU64::new(FASTEST.to_bits()), AtomicU64::new(0));
        Self { in_flight: AtomicUsize::new(0), latency, learnt, born: now }
    }

    /// A call begins.
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A call got its answer.
    pub(super) fn answered(&self, now: Instant, took: Duration) {
        let (known, age) = self.known(now);
        let kept = (-age / FADING.as_secs_f64()).exp();
        self.learn(now, known * kept + took.as_secs_f64() * (1.0 - kept));
    }

    /// A call got an error for its answer.
    pub(super) fn erred(&self, now: Instant, took: Duration, usual: &Usual) {
        let least = Duration::try_from_secs_f64(ERROR * usual.seconds()).unwrap_or_default();
        self.answered(now, took.max(least));
    }

    /// A call failed.
    pub(super) fn failed(&self, now: Instant, took: Duration) {
        self.learn(now, self.latency(now).max(took.as_secs_f64()).max(FAILURE));
    }

    /// A call was given up after that time: it would have taken longer.
    pub(super) fn given_up(&self, now: Instant, took: Duration) {
        if took.as_secs_f64() > self.latency(now) {
            self.learn(now, took.as_secs_f64());
        }
    }

    /// What one call more would cost: the smaller, the better.
    pub(super) fn score(&self, now: Instant) -> f64 {
        let calls = self.in_flight.load(Ordering::Relaxed) + 1;
        // No count of calls comes near to 2^52.
        calls as f64 * self.latency(now).max(FASTEST)
    }

    fn latency(&self, now: Instant) -> f64 {
        let (known, age) = self.known(now);
        known * (-age / FORGIVING.as_secs_f64()).exp()
    }

    /// The average, and its age in seconds.
    fn known(&self, now: Instant) -> (f64, f64) {
        let learnt = Duration::from_micros(self.learnt.load(Ordering::Relaxed));
        let age = now.saturating_duration_since(self.born).saturating_sub(learnt);
        (f64::from_bits(self.latency.load(Ordering::Relaxed)), age.as_secs_f64())
    }

    fn learn(&self, now: Instant, latency: f64) {
        let since = now.saturating_duration_since(self.born).as_micros();
        self.latency.store(latency.to_bits(), Ordering::Relaxed);
        self.learnt.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One that answers a call each ten milliseconds, each in `took`, for a while.
    fn steady(born: Instant, took: Duration) -> (Load, Instant) {
        let load = Load::new(born);
        let end = (1..=500).map(|turn| born + 10 * MS * turn).inspect(|now| {
            load.answered(*now, took);
        });
        let end = end.last().expect("turns");
        (load, end)
    }

    #[test]
    fn the_slower_and_the_busier_costs_more() {
        let born = Instant::now();
        let ((fast, now), (slow, _)) = (steady(born, MS), steady(born, 5 * MS));
        assert!(fast.score(now) < slow.score(now));
        (0..9).for_each(|_| fast.enter());
        assert!(fast.score(now) > slow.score(now), "ten calls at one against one at five");
        (0..9).for_each(|_| fast.leave());
        assert!(fast.score(now) < slow.score(now));
    }

    #[test]
    fn one_that_fails_fast_costs_more_than_a_slow_one() {
        let born = Instant::now();
        let ((failing, now), (slow, _)) = (steady(born, MS), steady(born, 200 * MS));
        failing.failed(now, Duration::ZERO);
        assert!(failing.score(now) > slow.score(now));
        let later = now + Duration::from_secs(20);
        slow.answered(later, 200 * MS);
        assert!(failing.score(later) < slow.score(later), "it is forgiven");
        failing.answered(later, MS);
        assert!(failing.score(later) < 2.0 * MS.as_secs_f64(), "and what it was is forgotten");
    }

    #[test]
    fn one_that_errs_fast_costs_more_than_those_that_give_results() {
        let (born, usual) = (Instant::now(), Usual::default());
        let (working, now) = steady(born, 30 * MS);
        (0..100).for_each(|_| usual.result(30 * MS));
        let erring = Load::new(born);
        (1..=500).for_each(|turn| erring.erred(born + 10 * MS * turn, MS, &usual));
        assert!(erring.score(now) > working.score(now));
        assert!(erring.score(now) < 3.0 * working.score(now), "it may be the caller's fault");
    }

    #[test]
    fn a_call_that_was_given_up_tells_that_it_is_slow_and_never_that_it_is_fast() {
        let (load, now) = steady(Instant::now(), 5 * MS);
        let before = load.score(now);
        load.given_up(now, MS);
        assert!((load.score(now) - before).abs() < f64::EPSILON);
        load.given_up(now, 300 * MS);
        assert!(load.score(now) >= 0.3);
    }
}
