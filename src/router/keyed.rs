//! Carries out calls that have keys. The first under a key runs in a task of its own, within its row's
//! timeout: its caller may go, or have less time than others who join it. All of them wait for its end, each
//! until its own deadline; each has an ending of its own, and the call that runs for them has none.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::answers::{Answers, Asked, Claim, Run, Told, Waiting};
use super::fingerprint::{of_key, of_request};
use super::policy::in_flight::Standing;
use super::policy::{idempotency, once};
use super::ticket::{Dispatched, Ran, Ticket};
use crate::call::{Call, Deadline, Reply};
use crate::exposer::Fits;
use crate::fault::{Fault, Outcome};
use crate::idempotency_key::IdempotencyKey;
use crate::metrics;
use crate::route::idempotency::Idempotency;

/// What a call that has a key is told.
struct Heard {
    told: Told,
    /// It is another call's answer.
    replayed: bool,
}

impl Heard {
    fn own(told: Told) -> Self {
        Self { told, replayed: false }
    }

    fn again(result: Result<Reply, Fault>) -> Self {
        Self { told: Told::of(result), replayed: true }
    }

    fn refused(fault: Fault) -> Self {
        Self::own(Told::of(Err(fault)))
    }
}

/// Carries a call out, or has it carried out, or tells how that went, where that can be its answer.
pub(super) async fn carry_out(ticket: Ticket, call: &Call, fits: Fits<'_>) -> Dispatched {
    let name = call.name.as_str();
    let row = ticket.row();
    let (answers, rule) = (row.answers(), row.rule.idempotency);
    let heard = match (answers, rule, &call.context.idempotency_key) {
        (Some(answers), Some(rule), Some(key)) => hear(&ticket, call, (answers, rule, key)).await,
        // Nobody admits such a call as one that has a key.
        _ => Heard::refused(idempotency::unknown(name)),
    };
    let Heard { told: Told { result, service_time }, replayed } = heard;
    let result = result.and_then(|reply| fits(&reply).map(|()| reply));
    let (dialect, allowance) = (Some(row.rule.dialect), ticket.allowance);
    ticket.end(name, result.as_ref().map(|_| ()));
    Dispatched { result, service_time, dialect, allowance, replayed }
}

async fn hear(
    ticket: &Ticket,
    call: &Call,
    (answers, rule, key): (&Arc<Answers>, Idempotency, &IdempotencyKey),
) -> Heard {
    let (name, own) = (call.name.as_str(), ticket.deadline);
    // It is run for all who may join it, whose limits nobody knows.
    let deadline = Deadline::after(call.received, ticket.row().rule.timeout);
    let asked = Asked { params: of_request(call), kind: call.kind };
    let key = of_key(&call.caller, name, key);
    let times = (Instant::now(), deadline.at());
    let claim = answers.claim(&call.caller, (key, asked), times, rule.ttl);
    metrics::keyed(ticket.row().label(None), claim.became());
    match claim {
        Claim::First(run, waiting) => {
            let ticket = Ticket {
                ending: ticket.ending.untold(),
                probe: None,
                standing: Some(Standing::Keyed(ticket.key_limits().cloned())),
                allowance: None,
                deadline,
            };
            answers.tasks.spawn_session(run_for_all(ticket, call.clone(), run));
            match wait(waiting, own).await {
                Some(told) => Heard::own(told),
                None => Heard::refused(idempotency::goes_on(name, own)),
            }
        }
        Claim::Joined(waiting) => match wait(waiting, own).await {
            // The service's time was another call's.
            Some(told) => Heard::again(told.result),
            None => Heard::refused(idempotency::goes_on(name, own)),
        },
        Claim::Ended(result) => Heard::again(result),
        Claim::Forgotten(outcome) => Heard::again(Err(idempotency::forgotten(name, outcome))),
        Claim::Other => Heard::refused(idempotency::other(name)),
        Claim::Unanswered => Heard::refused(idempotency::unanswered(name)),
        Claim::Full(most) => {
            metrics::limited(ticket.row().label(None), "max_keys");
            Heard::refused(idempotency::full(name, most))
        }
    }
}

/// Runs a call, and tells all who wait. What may have run is not run again under its key, unless the row says
/// that this does no harm.
async fn run_for_all(mut ticket: Ticket, call: Call, run: Run) {
    let ran = match once::check(ticket.row(), (call.name.as_str(), call.may_have_run)) {
        Ok(()) => ticket.run(&call).await,
        Err(fault) => Ran::not(fault),
    };
    let Ran { result, service_time, .. } = ran;
    let outcome = result.as_ref().err().map_or(Outcome::Executed, Fault::outcome);
    debug!(outcome = outcome.as_str(), "a call with an idempotency key has ended");
    let may_run_again = ticket.row().rule.idempotent && outcome == Outcome::Unknown;
    // Whoever is told may call again at once: by then its place is free.
    drop(ticket);
    run.end(Told { result, service_time }, may_run_again, Instant::now());
}

/// Waits for the end of a call that is under way; none where the caller's own deadline comes first.
async fn wait(waiting: Waiting, own: Deadline) -> Option<Told> {
    // It ends by itself before, and knows better how.
    if own.at() >= waiting.until {
        return Some(waiting.end().await);
    }
    timeout_at(own.at(), waiting.end()).await.ok()
}
