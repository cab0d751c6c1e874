//! The breaker of an upstream: which of its services do not answer, so that calls of them are refused
//! for a while instead of waiting. A circuit for each service that has failed.
//!
//! Services are named by callers, so that the table is bounded: one that nobody has called lately makes
//! room, and where there is none, calls of further ones pass unwatched.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::circuit::{Circuit, CircuitState, Met, Probe};
use super::sweep::Sweep;
use crate::call::{CallKind, Deadline};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::BreakerMetrics;
use crate::route::breaker::BreakerRule;
use crate::units::format_duration;

/// How many services an upstream's breaker knows.
const SERVICES: usize = 1_000;

/// The breaker of an upstream.
pub struct Breaker {
    upstream: String,
    rule: BreakerRule,
    circuits: RwLock<HashMap<String, Arc<Circuit>>>,
    sweep: Sweep,
    metrics: BreakerMetrics,
    /// How many services the metric shows as left alone.
    shown: AtomicUsize,
}

/// What the end of a call tells of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Answers,
    Fails,
    /// Nothing: it never came there, its caller gave it too little time, or nobody waits for its answer.
    Nothing,
}

impl Breaker {
    /// A breaker that has seen no calls.
    pub fn new(upstream: &str, rule: BreakerRule) -> Self {
        let (circuits, sweep) = (RwLock::default(), Sweep::default());
        let metrics = BreakerMetrics::new(upstream);
        let shown = AtomicUsize::new(0);
        Self { upstream: upstream.to_owned(), rule, circuits, sweep, metrics, shown }
    }

    /// Its settings.
    pub fn rule(&self) -> &BreakerRule {
        &self.rule
    }

    /// What a call of the service meets now.
    pub(super) fn meet(&self, service: &str, now: Instant) -> Met {
        // One that is not known has not failed lately.
        let met = self.read().get(service).map_or(Met::Closed, |circuit| circuit.meet(now));
        if let Met::Probe(_) = &met {
            // As long as it is out, others are refused.
            self.show_at(now);
        }
        met
    }

    /// Takes into account how a call of the service has ended. `probe`: it was the one to try it.
    pub(super) fn judge<T>(
        &self,
        service: &str,
        probe: Option<Probe>,
        ended: &Ended<'_, T>,
        now: Instant,
    ) {
        let verdict = ended.verdict(&self.rule);
        let Some(probe) = probe else {
            // Whoever is told of an event waits for nothing that a service does.
            if ended.kind == CallKind::Call {
                self.count(service, verdict, now);
            }
            return;
        };
        match verdict {
            Verdict::Answers => self.closed(&probe.answered()),
            Verdict::Fails => probe.failed(&self.rule, now),
            Verdict::Nothing => drop(probe),
        }
        self.show_at(now);
    }

    fn count(&self, service: &str, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Answers => {
                if let Some(circuit) = self.read().get(service) {
                    circuit.answered(now);
                }
            }
            Verdict::Fails => {
                let Some(circuit) = self.known(service, now) else { return };
                if circuit.failed(&self.rule, now) {
                    self.opened(&circuit);
                    self.show_at(now);
                }
            }
        }
    }

    /// Shows how many services are left alone: the time of one ends without a call. To be called every second or so.
    pub fn show(&self) {
        self.show_at(Instant::now());
    }

    fn show_at(&self, now: Instant) {
        let refuses = |circuit: &&Arc<Circuit>| circuit.state(now).refuses();
        self.show_as(self.read().values().filter(refuses).count());
    }

    /// Whoever else shows at the same time moves it from what this one has made of it.
    fn show_as(&self, open: usize) {
        let before = self.shown.swap(open, Ordering::Relaxed);
        if open != before {
            // Both are far below 2^53.
            self.metrics.move_open(open as f64 - before as f64);
        }
    }

    /// The services that did not answer when they were called last, in the order of their names.
    pub fn open(&self) -> Vec<(String, CircuitState)> {
        let now = Instant::now();
        let states = |circuit: &Arc<Circuit>| (circuit.service.clone(), circuit.state(now));
        let mut open: Vec<_> = self.read().values().map(states).collect();
        open.retain(|(_, state)| *state != CircuitState::Closed);
        open.sort_by(|(one, _), (other, _)| one.cmp(other));
        open
    }

    /// The circuit of a service; `None` where there is no room for a new one.
    fn known(&self, service: &str, now: Instant) -> Option<Arc<Circuit>> {
        if let Some(circuit) = self.read().get(service) {
            return Some(Arc::clone(circuit));
        }
        let mut circuits = self.circuits.write().unwrap_or_else(PoisonError::into_inner);
        if circuits.len() >= SERVICES && self.sweep.is_due(now) {
            // One that goes has been left alone by nobody for a while.
            circuits.retain(|_, circuit| !circuit.is_idle(&self.rule, now));
        }
        if circuits.len() >= SERVICES && !circuits.contains_key(service) {
            return None;
        }
        let new = || Arc::new(Circuit::new(service, &self.rule));
        Some(Arc::clone(circuits.entry(service.to_owned()).or_insert_with(new)))
    }

    fn opened(&self, circuit: &Circuit) {
        self.metrics.opened();
        let (upstream, service) = (&self.upstream, &circuit.service);
        let open_for = format_duration(self.rule.open_for);
        warn!(upstream, service, open_for, "the breaker has opened: the service does not answer");
    }

    fn closed(&self, circuit: &Circuit) {
        let (upstream, service) = (&self.upstream, &circuit.service);
        info!(upstream, service, "the breaker has closed: the service answers");
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Circuit>>> {
        self.circuits.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.show_as(0);
    }
}

/// How an attempt at a call ended.
pub(super) struct Ended<'a, T> {
    pub(super) kind: CallKind,
    pub(super) result: Result<T, &'a Fault>,
    pub(super) deadline: Deadline,
    /// When it was sent: whoever waited for a turn has left its service less time.
    pub(super) sent: Instant,
    /// What its row gives a call.
    pub(super) timeout: Duration,
}

impl<T> Ended<'_, T> {
    fn verdict(&self, rule: &BreakerRule) -> Verdict {
        let fault = match &self.result {
            Ok(_) if self.kind == CallKind::Call => return Verdict::Answers,
            // It was taken over, and be it by a broker: the service has said nothing.
            Ok(_) => return Verdict::Nothing,
            Err(fault) => fault,
        };
        match fault.kind() {
            // What a service, or a gateway before it, says of itself is an answer.
            FaultKind::Unavailable if fault.remote().is_none() => Verdict::Fails,
            // A part of an answer is one.
            FaultKind::Timeout
                if fault.remote().is_none() && fault.outcome() != Outcome::Executed =>
            {
                let slow = rule.slow.unwrap_or(self.timeout).min(self.timeout);
                let had = self.deadline.at().saturating_duration_since(self.sent);
                // What passes in Genkan itself takes a little of it.
                let had_time = had >= slow - slow / 10;
                if had_time { Verdict::Fails } else { Verdict::Nothing }
            }
            FaultKind::UnknownMethod | FaultKind::UnknownService => Verdict::Answers,
            _ if matches!(fault.outcome(), Outcome::Executed | Outcome::Unknown) => {
                Verdict::Answers
            }
            _ => Verdict::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::RemoteError;

    const RULE: BreakerRule = BreakerRule {
        failures: 0.5,
        least: 2,
        window: Duration::from_secs(10),
        open_for: Duration::from_secs(5),
        slow: None,
    };
    const ROW: Duration = Duration::from_secs(30);

    fn verdict(rule: &BreakerRule, timeout: Duration, fault: &Fault) -> Verdict {
        verdict_after(Duration::ZERO, rule, timeout, fault)
    }

    fn verdict_after(
        waited: Duration,
        rule: &BreakerRule,
        timeout: Duration,
        fault: &Fault,
    ) -> Verdict {
        let now = Instant::now();
        let (deadline, sent) = (Deadline::after(now, timeout), now + waited);
        let result: Result<(), _> = Err(fault);
        Ended { kind: CallKind::Call, result, deadline, sent, timeout: ROW }.verdict(rule)
    }

    fn fail(breaker: &Breaker, service: &str, probe: Option<Probe>, now: Instant) {
        let fault = Fault::new(FaultKind::Unavailable, Outcome::Unknown, "cut");
        let result: Result<(), _> = Err(&fault);
        let deadline = Deadline::after(now, ROW);
        let ended = Ended { kind: CallKind::Call, result, deadline, sent: now, timeout: ROW };
        breaker.judge(service, probe, &ended, now);
    }

    #[test]
    fn a_services_own_errors_are_answers() {
        let remote = || RemoteError::default();
        let fault = |kind, outcome| Fault::new(kind, outcome, "");
        let cases = [
            (fault(FaultKind::Unavailable, Outcome::NotSent), Verdict::Fails),
            (fault(FaultKind::Unavailable, Outcome::Rejected), Verdict::Fails),
            (fault(FaultKind::Timeout, Outcome::Unknown), Verdict::Fails),
            (Fault::application("no", remote()), Verdict::Answers),
            (
                fault(FaultKind::Unavailable, Outcome::Unknown).with_remote(remote()),
                Verdict::Answers,
            ),
            (fault(FaultKind::Internal, Outcome::Unknown), Verdict::Answers),
            (fault(FaultKind::UnknownMethod, Outcome::Rejected), Verdict::Answers),
            (fault(FaultKind::TooLarge, Outcome::NotSent), Verdict::Nothing),
            (fault(FaultKind::Overloaded, Outcome::NotSent), Verdict::Nothing),
        ];
        for (fault, expected) in cases {
            assert_eq!(verdict(&RULE, ROW, &fault), expected, "{fault:?}");
        }
    }

    #[test]
    fn nobody_opens_it_with_a_deadline_that_is_too_short() {
        let fault = Fault::new(FaultKind::Timeout, Outcome::Unknown, "");
        let second = Duration::from_secs(1);
        assert_eq!(verdict(&RULE, second, &fault), Verdict::Nothing);
        let slow = BreakerRule { slow: Some(second), ..RULE };
        assert_eq!(verdict(&slow, second, &fault), Verdict::Fails);
        assert_eq!(verdict(&slow, second / 2, &fault), Verdict::Nothing);
    }

    #[test]
    fn what_a_call_waits_for_its_turn_is_not_its_services_time() {
        let fault = Fault::new(FaultKind::Timeout, Outcome::Unknown, "");
        assert_eq!(verdict_after(ROW / 20, &RULE, ROW, &fault), Verdict::Fails);
        assert_eq!(verdict_after(ROW / 2, &RULE, ROW, &fault), Verdict::Nothing);
        let slow = BreakerRule { slow: Some(ROW / 4), ..RULE };
        assert_eq!(verdict_after(ROW / 2, &slow, ROW, &fault), Verdict::Fails);
    }

    #[test]
    fn services_are_apart_and_their_table_is_bounded() {
        let (breaker, now) = (Breaker::new("nats", RULE), Instant::now());
        for service in 0..2 * SERVICES {
            fail(&breaker, &format!("s{service}"), None, now);
        }
        assert_eq!(breaker.read().len(), SERVICES);
        fail(&breaker, "s1", None, now);
        assert!(matches!(breaker.meet("s1", now), Met::Open(_)));
        assert!(matches!(breaker.meet("s2", now), Met::Closed));
        assert!(matches!(breaker.meet("nobody", now), Met::Closed));
        assert_eq!(breaker.open().len(), 1);
        // Those that nobody calls any more make room.
        fail(&breaker, "later", None, now + Duration::from_secs(60));
        assert_eq!(breaker.read().keys().collect::<Vec<_>>(), ["later"]);
    }

    #[test]
    fn notifications_neither_open_nor_close_it() {
        let (breaker, now) = (Breaker::new("nats", RULE), Instant::now());
        let (deadline, timeout, sent) = (Deadline::after(now, ROW), ROW, now);
        let fault = Fault::not_sent(FaultKind::Unavailable, "away");
        for _ in 0..10 {
            let result: Result<(), _> = Err(&fault);
            let ended = Ended { kind: CallKind::Notification, result, deadline, sent, timeout };
            breaker.judge("s", None, &ended, now);
        }
        assert!(breaker.read().is_empty());
        fail(&breaker, "s", None, now);
        fail(&breaker, "s", None, now);
        let later = now + 2 * RULE.open_for;
        let trial = || match breaker.meet("s", later) {
            Met::Probe(probe) => Some(probe),
            _ => panic!("its turn"),
        };
        let (kind, result) = (CallKind::Notification, Ok(()));
        let ended = Ended { kind, result, deadline, sent, timeout };
        breaker.judge("s", trial(), &ended, later);
        // That it was taken over is no word of the service: the next one tries it.
        assert_eq!(breaker.open().len(), 1);
        let kind = CallKind::Call;
        breaker.judge("s", trial(), &Ended { kind, result, deadline, sent, timeout }, later);
        assert_eq!(breaker.open(), []);
    }
}
