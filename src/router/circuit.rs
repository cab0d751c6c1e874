//! One service as a breaker sees it: closed (calls pass, and are counted), open (they are refused until a
//! time), or half-open (one of them is out to try it). One atomic word; whoever changes it first tells.
//!
//! ```text
//! closed ─ too many have failed → open ─ its time has passed, and a call comes → half-open
//!    ↑                             ↑ └──── the call tells nothing: the next one is tried ─┤
//!    └──────── it is answered ─────┴──────────────────── it fails ────────────────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::tally::{Tally, millis};
use crate::route::breaker::BreakerRule;

/// How soon somebody may ask again while a call is out to try the service.
const TRYING: Duration = Duration::from_secs(1);

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
/// The bits of the state; above them stand milliseconds.
const BITS: u32 = 2;

/// A service.
pub(super) struct Circuit {
    pub(super) service: String,
    began: Instant,
    /// Open: until when. Half-open: since when.
    word: AtomicU64,
    tally: Tally,
}

/// What a call meets.
pub(super) enum Met {
    Closed,
    /// It is the one that is to try the service.
    Probe(Probe),
    /// For how long not.
    Open(Duration),
}

/// What an operator is told of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// They are refused, for so long yet; then the next one is tried.
    Open(Duration),
    /// One is being tried, and the others are refused.
    HalfOpen,
}

impl CircuitState {
    /// Whether a call that comes now is refused.
    pub fn refuses(self) -> bool {
        match self {
            CircuitState::Closed => false,
            CircuitState::Open(left) => !left.is_zero(),
            CircuitState::HalfOpen => true,
        }
    }
}

/// A call that is out to try a service that did not answer. Dropped before it has told anything, it
/// leaves the place to the next one.
pub(super) struct Probe {
    circuit: Arc<Circuit>,
    has_told: bool,
}

impl Circuit {
    pub(super) fn new(service: &str, rule: &BreakerRule) -> Self {
        let tally = Tally::new(rule.window);
        let (began, word) = (Instant::now(), AtomicU64::new(CLOSED));
        Self { service: service.to_owned(), began, word, tally }
    }

    /// What a call meets that comes now.
    pub(super) fn meet(self: &Arc<Self>, now: Instant) -> Met {
        let word = self.word.load(Ordering::Acquire);
        if word == CLOSED {
            return Met::Closed;
        }
        let now = self.at(now);
        let (state, until) = (word & ((1 << BITS) - 1), word >> BITS);
        if state == HALF_OPEN {
            return Met::Open(TRYING);
        }
        if now < until {
            return Met::Open(Duration::from_millis(until - now));
        }
        if self.turn(word, (now << BITS) | HALF_OPEN) {
            Met::Probe(Probe { circuit: Arc::clone(self), has_told: false })
        } else {
            Met::Open(TRYING)
        }
    }

    /// A call has been answered.
    pub(super) fn answered(&self, now: Instant) {
        if self.is_closed() {
            self.tally.add(now, false);
        }
    }

    /// A call has failed. True where that opens it.
    pub(super) fn failed(&self, rule: &BreakerRule, now: Instant) -> bool {
        if !self.is_closed() {
            // One that was sent before it opened.
            return false;
        }
        self.tally.add(now, true);
        let counts = self.tally.counts(now);
        // Far below 2^53.
        let too_many = counts.marked as f64 >= rule.failures * counts.all as f64;
        let opens = counts.all >= rule.least as u64 && too_many;
        opens && self.turn(CLOSED, self.open_until(rule, now))
    }

    /// How it is now.
    pub(super) fn state(&self, now: Instant) -> CircuitState {
        let word = self.word.load(Ordering::Acquire);
        match word & ((1 << BITS) - 1) {
            CLOSED => CircuitState::Closed,
            OPEN => {
                let left = (word >> BITS).saturating_sub(self.at(now));
                CircuitState::Open(Duration::from_millis(left))
            }
            _ => CircuitState::HalfOpen,
        }
    }

    /// Whether nothing is lost with it: nobody has called in the window.
    pub(super) fn is_idle(&self, rule: &BreakerRule, now: Instant) -> bool {
        let word = self.word.load(Ordering::Acquire);
        match word & ((1 << BITS) - 1) {
            CLOSED => self.tally.counts(now).all == 0,
            OPEN => self.at(now) > (word >> BITS).saturating_add(millis(rule.window)),
            _ => false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) == CLOSED
    }

    fn open_until(&self, rule: &BreakerRule, now: Instant) -> u64 {
        ((self.at(now) + millis(rule.open_for)) << BITS) | OPEN
    }

    fn at(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.began))
    }

    fn turn(&self, from: u64, to: u64) -> bool {
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends the trial, which is out: nobody else changes the word meanwhile.
    fn end_trial(&self, to: u64) {
        if to == CLOSED {
            self.tally.clear();
        }
        self.word.store(to, Ordering::Release);
    }
}

impl Probe {
    /// The service has answered it: gives the service, which is closed again.
    pub(super) fn answered(self) -> Arc<Circuit> {
        self.end(CLOSED)
    }

    /// It has failed, so that the service is left alone again.
    pub(super) fn failed(self, rule: &BreakerRule, now: Instant) {
        let until = self.circuit.open_until(rule, now);
        drop(self.end(until));
    }

    fn end(mut self, to: u64) -> Arc<Circuit> {
        self.has_told = true;
        self.circuit.end_trial(to);
        Arc::clone(&self.circuit)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.has_told {
            // Open until it was begun: the next one may try.
            let began = self.circuit.word.load(Ordering::Acquire) >> BITS;
            self.circuit.end_trial((began << BITS) | OPEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: BreakerRule = BreakerRule {
        failures: 0.5,
        least: 4,
        window: Duration::from_secs(10),
        open_for: Duration::from_secs(5),
        slow: None,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened(now: Instant) -> Arc<Circuit> {
        let circuit = Arc::new(Circuit::new("orders", &RULE));
        let opened = (0..4).filter(|_| circuit.failed(&RULE, now)).count();
        assert_eq!(opened, 1, "one of them tells");
        circuit
    }

    fn probe(circuit: &Arc<Circuit>, now: Instant) -> Probe {
        match circuit.meet(now) {
            Met::Probe(probe) => probe,
            _ => panic!("it is to be tried: {:?}", circuit.state(now)),
        }
    }

    fn refused(circuit: &Arc<Circuit>, now: Instant) -> Option<Duration> {
        match circuit.meet(now) {
            Met::Open(wait) => Some(wait),
            _ => None,
        }
    }

    #[test]
    fn it_opens_on_a_part_of_enough_calls() {
        let (circuit, now) = (Circuit::new("orders", &RULE), Instant::now());
        assert!(![(); 3].iter().any(|()| circuit.failed(&RULE, now)), "too few to say");
        let later = now + seconds(60);
        for _ in 0..5 {
            circuit.answered(later);
        }
        assert!(![(); 4].iter().any(|()| circuit.failed(&RULE, later)), "4 of 9");
        assert!(circuit.failed(&RULE, later), "5 of 10");
    }

    #[test]
    fn one_call_tries_it_and_closes_it() {
        let now = Instant::now();
        let circuit = opened(now);
        let wait = refused(&circuit, now + seconds(1)).expect("open");
        assert!(wait > seconds(3) && wait < seconds(5), "{wait:?}");
        let trial = probe(&circuit, now + seconds(6));
        assert_eq!(refused(&circuit, now + seconds(6)), Some(TRYING), "one alone");
        assert_eq!(circuit.state(now + seconds(6)), CircuitState::HalfOpen);
        assert!(trial.answered().is_closed());
        assert!(!circuit.failed(&RULE, now + seconds(6)), "what was before is forgotten");
    }

    #[test]
    fn a_trial_that_fails_opens_it_again_and_one_that_is_dropped_leaves_its_place() {
        let now = Instant::now();
        let circuit = opened(now);
        drop(probe(&circuit, now + seconds(6)));
        probe(&circuit, now + seconds(6)).failed(&RULE, now + seconds(6));
        assert!(refused(&circuit, now + seconds(10)).is_some());
        drop(probe(&circuit, now + seconds(12)));
    }

    #[test]
    fn what_is_answered_late_changes_nothing_while_it_is_open() {
        let now = Instant::now();
        let circuit = opened(now);
        circuit.answered(now);
        assert!(!circuit.failed(&RULE, now), "it is open already");
        assert!(refused(&circuit, now).is_some());
        assert!(!circuit.is_idle(&RULE, now) && circuit.is_idle(&RULE, now + seconds(60)));
    }
}
