//! How busy and how slow an instance is, and how often it fails. No clock: whoever asks brings the time.
//!
//! The latency is an average in which the past fades. One that fails counts as a slow one, however
//! fast it does so: else it would look better than those that work, and attract their calls. What is
//! not asked for a while is forgiven, so that one that has recovered is found out.
//!
//! An error may be the caller's fault, which all instances tell alike, or the only way in which a
//! service says that it does not work. So errors as such say nothing; but where one of two instances
//! gives a larger share of them, its excess is taken to last as long as calls do that get results.
//! That alone does not do: with many calls in flight the one that is done at once is idle whenever
//! somebody looks. So what fails fast also keeps its place among the calls in flight, for the time
//! that a call takes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// In what time a sample's weight falls to a third.
const FADING: Duration = Duration::from_secs(1);
/// In what time the latency and the failures of one that is not asked fall to a third.
const FORGIVING: Duration = Duration::from_secs(3);
/// In what time the share of failures that was known weighs a third.
const FORGETTING: Duration = Duration::from_secs(30);
/// What a failure counts as, at least; in seconds, and in usual latencies.
const FAILURE: f64 = 1.0;
const FAILURES: f64 = 10.0;
/// Faster is not told apart, and one that was never asked is taken to be so fast.
const FASTEST: f64 = 50e-6;

/// What an error in excess counts as, at least, in usual latencies.
const ERROR: f64 = 2.0;
/// Two instances whose shares of failures differ by less fail alike: a share is a sample.
const ALIKE: f64 = 0.25;
/// What an answer adds to an average, at least.
const SHARE: f64 = 0.05;
/// What is usual as long as nobody has given a result, in seconds.
const UNKNOWN: f64 = 0.1;
/// What one result adds to the usual latency, at most.
const LARGEST_SHARE: f64 = 0.25;

/// How long calls take that get results, whichever instance gives them. Updates that meet may lose
/// one of both.
///
/// A result has the weight of its time. So it is the length of the calls that are under way at a
/// moment, and an instance that answers the short ones and fails at the long ones does not lower it.
#[derive(Debug, Default)]
pub(super) struct Usual(AtomicU64);

impl Usual {
    /// An instance gave a result.
    pub(super) fn result(&self, took: Duration) {
        let took = took.as_secs_f64().max(FASTEST);
        let next = self.known().map_or(took, |known| {
            known + (SHARE * took / known).min(LARGEST_SHARE) * (took - known)
        });
        self.0.store(next.to_bits(), Ordering::Relaxed);
    }

    fn seconds(&self) -> f64 {
        self.known().unwrap_or(UNKNOWN)
    }

    fn known(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|known| *known > 0.0)
    }
}

/// What is known of one instance. Updates that meet may lose one of both: they are estimates.
#[derive(Debug)]
pub(super) struct Load {
    in_flight: AtomicUsize,
    /// The average in seconds, as bits.
    latency: AtomicU64,
    /// The share of the answers that were errors, or none at all, as bits.
    failing: AtomicU64,
    /// When both were learnt, in microseconds since `born`.
    learnt: AtomicU64,
    /// How many that failed fast keep their places, as bits.
    kept: AtomicU64,
    /// When so many did, in microseconds since `born`.
    kept_at: AtomicU64,
    born: Instant,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            latency: AtomicU64::new(FASTEST.to_bits()),
            failing: AtomicU64::new(0.0_f64.to_bits()),
            learnt: AtomicU64::new(0),
            kept: AtomicU64::new(0.0_f64.to_bits()),
            kept_at: AtomicU64::new(0),
            born: now,
        }
    }

    /// A call begins.
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A call got its result.
    pub(super) fn answered(&self, now: Instant, took: Duration) {
        let age = self.age(now);
        self.learn(now, self.averaged(age, took), self.failing_with(age, 0.0));
    }

    /// A call got an error for its answer.
    pub(super) fn erred(&self, now: Instant, took: Duration, usual: &Usual) {
        let age = self.age(now);
        self.learn(now, self.averaged(age, took), self.failing_with(age, 1.0));
        self.keep_place(now, took, usual);
    }

    /// A call failed.
    pub(super) fn failed(&self, now: Instant, took: Duration, usual: &Usual) {
        let age = self.age(now);
        let least = FAILURE.max(FAILURES * usual.seconds()).max(took.as_secs_f64());
        self.learn(now, self.latency(age).max(least), self.failing_with(age, 1.0));
        self.keep_place(now, took, usual);
    }

    /// A call was given up after that time: it would have taken longer.
    pub(super) fn given_up(&self, now: Instant, took: Duration) {
        let age = self.age(now);
        if took.as_secs_f64() > self.latency(age) {
            self.learn(now, took.as_secs_f64(), self.failing());
        }
    }

    /// Whether one call more costs less here than there.
    pub(super) fn is_better_than(&self, other: &Self, now: Instant, usual: &Usual) -> bool {
        self.cost(now, other, usual) < other.cost(now, self, usual)
    }

    /// What one call more would cost beside another instance: the smaller, the better.
    fn cost(&self, now: Instant, other: &Self, usual: &Usual) -> f64 {
        let age = self.age(now);
        // No count of calls comes near to 2^52.
        let calls = (self.in_flight.load(Ordering::Relaxed) + 1) as f64;
        let latency = self.latency(age).max(FASTEST);
        if self.failing() - other.failing() <= ALIKE {
            return calls * latency;
        }
        let failing = self.failing() * forgiven(age);
        let excess = failing - other.failing();
        if excess <= ALIKE {
            return calls * latency;
        }
        let would = (1.0 - excess) * latency + excess * ERROR * usual.seconds();
        // Of those that failed, so many would have taken their time elsewhere.
        let kept = self.kept(now, usual) * excess / failing;
        (calls + kept) * latency.max(would)
    }

    fn latency(&self, age: f64) -> f64 {
        f64::from_bits(self.latency.load(Ordering::Relaxed)) * forgiven(age)
    }

    /// The average latency with an answer more.
    fn averaged(&self, age: f64, took: Duration) -> f64 {
        let known = f64::from_bits(self.latency.load(Ordering::Relaxed));
        let kept = (-age / FADING.as_secs_f64()).exp();
        known * kept + took.as_secs_f64() * (1.0 - kept)
    }

    fn failing(&self) -> f64 {
        f64::from_bits(self.failing.load(Ordering::Relaxed))
    }

    /// The share of failures with an answer more: 0 is a result, and 1 is none. It is one of answers
    /// and not of time: a burst tells as much as as many calls one by one.
    fn failing_with(&self, age: f64, answer: f64) -> f64 {
        let known = self.failing();
        let weight = SHARE.max(1.0 - (-age / FORGETTING.as_secs_f64()).exp());
        known + weight * (answer - known)
    }

    /// A call that was over sooner than usual keeps its place for the rest of the time.
    fn keep_place(&self, now: Instant, took: Duration, usual: &Usual) {
        let rest = 1.0 - took.as_secs_f64() / usual.seconds();
        if rest > 0.0 {
            let kept = self.kept(now, usual) + rest;
            self.kept.store(kept.to_bits(), Ordering::Relaxed);
            self.kept_at.store(self.micros(now), Ordering::Relaxed);
        }
    }

    /// How many places are kept still. They are given back by and by and not each at its end: there
    /// are as many on the average, and nothing has to be remembered of each.
    fn kept(&self, now: Instant, usual: &Usual) -> f64 {
        let kept = f64::from_bits(self.kept.load(Ordering::Relaxed));
        if kept > 0.0 {
            kept * (-self.since(&self.kept_at, now) / usual.seconds()).exp()
        } else {
            0.0
        }
    }

    /// How old what is known is, in seconds.
    fn age(&self, now: Instant) -> f64 {
        self.since(&self.learnt, now)
    }

    fn since(&self, then: &AtomicU64, now: Instant) -> f64 {
        let then = Duration::from_micros(then.load(Ordering::Relaxed));
        now.saturating_duration_since(self.born).saturating_sub(then).as_secs_f64()
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.born).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn learn(&self, now: Instant, latency: f64, failing: f64) {
        self.latency.store(latency.to_bits(), Ordering::Relaxed);
        self.failing.store(failing.to_bits(), Ordering::Relaxed);
        self.learnt.store(self.micros(now), Ordering::Relaxed);
    }
}

/// What is left of a latency, or of a share of failures, that is so old.
fn forgiven(age: f64) -> f64 {
    (-age / FORGIVING.as_secs_f64()).exp()
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

    /// What a call would cost beside one of which nothing is known.
    fn cost(load: &Load, now: Instant) -> f64 {
        load.cost(now, &Load::new(now), &Usual::default())
    }

    #[test]
    fn the_slower_and_the_busier_costs_more() {
        let born = Instant::now();
        let ((fast, now), (slow, _)) = (steady(born, MS), steady(born, 5 * MS));
        assert!(cost(&fast, now) < cost(&slow, now));
        (0..9).for_each(|_| fast.enter());
        assert!(cost(&fast, now) > cost(&slow, now), "ten calls at one against one at five");
        (0..9).for_each(|_| fast.leave());
        assert!(cost(&fast, now) < cost(&slow, now));
    }

    #[test]
    fn one_that_fails_fast_costs_more_than_a_slow_one() {
        let (born, usual) = (Instant::now(), Usual::default());
        let ((failing, now), (slow, _)) = (steady(born, MS), steady(born, 200 * MS));
        failing.failed(now, Duration::ZERO, &usual);
        assert!(slow.is_better_than(&failing, now, &usual));
        let later = now + Duration::from_secs(20);
        slow.answered(later, 200 * MS);
        assert!(failing.is_better_than(&slow, later, &usual), "it is forgiven");
        failing.answered(later, MS);
        assert!(cost(&failing, later) < 2.0 * MS.as_secs_f64(), "and what it was is forgotten");
    }

    #[test]
    fn a_call_that_was_given_up_tells_that_it_is_slow_and_never_that_it_is_fast() {
        let (load, now) = steady(Instant::now(), 5 * MS);
        let before = cost(&load, now);
        load.given_up(now, MS);
        assert!((cost(&load, now) - before).abs() < f64::EPSILON);
        load.given_up(now, 300 * MS);
        assert!(cost(&load, now) >= 0.3);
    }

    #[test]
    fn the_usual_time_is_that_of_the_calls_that_are_under_way() {
        let usual = Usual::default();
        for _ in 0..100 {
            (0..100).for_each(|_| usual.result(MS));
            usual.result(100 * MS);
        }
        assert!(usual.seconds() > 20.0 * MS.as_secs_f64(), "{}", usual.seconds());
    }

    /// What a call comes to.
    #[derive(Clone, Copy, PartialEq)]
    enum End {
        Result,
        Error,
        Failure,
    }

    /// How many of 2,000 calls each of two instances gets, from so many callers who call again as
    /// soon as they have their answers. `serve` tells of an instance and a call what it comes to.
    fn shares(callers: usize, serve: impl Fn(usize, usize) -> (End, Duration)) -> [usize; 2] {
        let (born, usual) = (Instant::now(), Usual::default());
        let loads = [Load::new(born), Load::new(born)];
        let mut counts = [0; 2];
        // By when they end: a caller each.
        let mut under_way = std::collections::BTreeMap::new();
        let mut start = |call: usize, now: Instant, usual: &Usual| {
            let second = loads[1].is_better_than(&loads[0], now, usual);
            let first = loads[0].is_better_than(&loads[1], now, usual);
            let to = if first == second { call % 2 } else { usize::from(second) };
            loads[to].enter();
            counts[to] += 1;
            let (end, took) = serve(to, call);
            (to, end, now, took)
        };
        for caller in 0..callers {
            let flight = start(caller, born + 10 * MS, &usual);
            under_way.insert((flight.2 + flight.3, caller), flight);
        }
        for call in callers..2_000 {
            let ((now, _), (at, end, _, took)) = under_way.pop_first().expect("a call");
            loads[at].leave();
            match end {
                End::Result => {
                    usual.result(took);
                    loads[at].answered(now, took);
                }
                End::Error => loads[at].erred(now, took, &usual),
                End::Failure => loads[at].failed(now, took, &usual),
            }
            let flight = start(call, now, &usual);
            under_way.insert((flight.2 + flight.3, call), flight);
        }
        counts
    }

    #[test]
    fn one_that_errs_at_once_gets_less_than_its_share_however_many_call() {
        for callers in [1, 2, 4, 16, 64] {
            for works in [2 * MS, 10 * MS, 500 * MS] {
                for (end, most) in [(End::Error, 800), (End::Failure, 300)] {
                    let [_, bad] = shares(callers, |to, _| match to {
                        0 => (End::Result, works),
                        _ => (end, MS / 5),
                    });
                    assert!(bad < most, "{callers} callers, {works:?}: {bad}");
                }
            }
        }
    }

    #[test]
    fn one_that_errs_at_the_long_calls_and_answers_the_short_ones_gets_no_more_either() {
        let [_, bad] = shares(8, |to, call| match (to, call % 2) {
            (_, 0) => (End::Result, MS),
            (0, _) => (End::Result, 100 * MS),
            _ => (End::Error, MS),
        });
        assert!(bad < 1_000, "{bad}");
    }

    #[test]
    fn errors_that_all_give_alike_change_nothing() {
        for callers in [1, 4, 16] {
            for of in [2, 10] {
                let all = |to, call: usize| match call % of {
                    0 => (End::Error, MS / 5),
                    _ => (End::Result, [5 * MS, 10 * MS][to]),
                };
                let none = |to: usize, _| (End::Result, [5 * MS, 10 * MS][to]);
                let [with, without] = [shares(callers, all)[0], shares(callers, none)[0]];
                // Until it is known of the slower one too, a part goes there.
                assert!(with.abs_diff(without) < 500, "{callers}, 1 of {of}: {with} {without}");
            }
        }
    }
}
