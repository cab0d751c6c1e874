//! Tries a call again that its row lets run twice (`retries`), where it did not get to its service or the
//! way to it failed: with pauses that grow, inside the one deadline, and not so often that a service which
//! is down for load gets more of it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::policy::breaker;
use super::tally::Tally;
use super::ticket::Ticket;
use crate::backoff::Backoff;
use crate::call::{Call, Reply};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics;

/// The time over which a budget is kept.
const WINDOW: Duration = Duration::from_secs(10);
/// One retry to so many calls,
const CALLS: u64 = 5;
/// and so many in a window however few there are.
const FLOOR: u64 = 10;
/// The first pause.
const PAUSE: Duration = Duration::from_millis(50);

/// How often calls to an upstream may be tried again: a fifth more load, over ten seconds.
pub struct RetryBudget(Tally);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Tally::new(WINDOW))
    }
}

impl RetryBudget {
    /// A call is sent for the first time.
    pub(super) fn earn(&self, now: Instant) {
        self.0.add(now, false);
    }

    /// Whether one may be tried again now.
    fn spend(&self, now: Instant) -> bool {
        let counts = self.0.counts(now);
        let first = counts.all.saturating_sub(counts.marked);
        let may = counts.marked < (first / CALLS).max(FLOOR);
        if may {
            self.0.add(now, true);
        }
        may
    }
}

/// Tries a call again that has failed so.
pub(super) async fn try_again(
    ticket: &mut Ticket,
    call: &Call,
    first: Fault,
) -> Result<Reply, Fault> {
    let mut pauses = Backoff::new(PAUSE, Duration::MAX);
    let (mut told, mut last) = (first.clone(), first);
    for _ in 0..ticket.row().rule.retries {
        let pause = pauses.failed().max(last.retry_after().unwrap_or_default());
        if !may_run_again(&last) || pause >= ticket.deadline().remaining() {
            break;
        }
        let row = ticket.row();
        let Some(budget) = row.retry_budget() else { break };
        if !budget.spend(Instant::now()) {
            metrics::retried(row.label(None), "no_budget");
            break;
        }
        debug!(?pause, kind = last.kind().as_str(), "trying again");
        sleep(pause).await;
        let Ok(probe) = breaker::check(ticket.row(), (call.name.as_str(), call.name.service()))
        else {
            break;
        };
        ticket.probe = probe;
        let result = ticket.attempt(call).await;
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        metrics::retried(ticket.row().label(None), outcome);
        let Err(fault) = result else { return result };
        // What may have run once may have run, whatever becomes of the call now.
        if fault.outcome().may_have_run() || !told.outcome().may_have_run() {
            told = fault.clone();
        }
        last = fault;
    }
    Err(told)
}

/// Whether another attempt may fare better. What a service says is the answer.
fn may_run_again(fault: &Fault) -> bool {
    let way_failed = fault.kind() == FaultKind::Unavailable
        && fault.outcome() == Outcome::Unknown
        && fault.remote().is_none();
    fault.retryable() || way_failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_more_load_and_no_more() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        let spend = |now| (0..1_000).filter(|_| budget.spend(now)).count();
        assert_eq!(spend(now), 10, "few calls may be tried again too");
        let later = now + Duration::from_secs(60);
        for _ in 0..500 {
            budget.earn(later);
        }
        assert_eq!(spend(later), 100);
        assert_eq!(spend(later + Duration::from_secs(5)), 0);
        assert_eq!(spend(later + Duration::from_secs(60)), 10);
    }
}
