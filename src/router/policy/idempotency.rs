//! A call that has a key is run once: `idempotency` of its row. Here is what is said of it; `keyed` carries it
//! out, for it takes the params, and a wait.

use std::time::Duration;

use super::Arrival;
use crate::call::Deadline;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics;
use crate::router::table::Row;
use crate::units::format_duration;

/// Whether the key decides if the call is sent. Every other policy that tells who may call, and how often,
/// holds for repetitions too.
pub(super) fn check(row: &Row, arrival: &Arrival<'_>) -> Result<bool, Fault> {
    let Some(rule) = &row.rule.idempotency else { return Ok(false) };
    if arrival.idempotency_key.is_none() && rule.required {
        metrics::keyed(row.label(None), "refused");
        let message = format!(
            "`{}` was not sent: its [[routes]] row takes calls with an idempotency key alone: send the \
             header Idempotency-Key, or `meta.idempotencyKey`, a text that is new for each call and the \
             same when it is repeated",
            arrival.name
        );
        return Err(Fault::not_sent(FaultKind::InvalidRequest, message));
    }
    Ok(arrival.idempotency_key.is_some())
}

/// Something else was asked under the key.
pub(in crate::router) fn other(name: &str) -> Fault {
    let message = format!(
        "`{name}` was not sent: its idempotency key is that of another call, with other params: take a new \
         key for it, or repeat the first one byte for byte"
    );
    Fault::not_sent(FaultKind::InvalidParams, message)
}

/// A call, where a notification had the key before.
pub(in crate::router) fn unanswered(name: &str) -> Fault {
    let message = format!(
        "`{name}` was not sent: a notification had its idempotency key and its params before, and a \
         notification has no answer: take a new key to make a call of it"
    );
    Fault::not_sent(FaultKind::InvalidParams, message)
}

/// As many calls are under way under keys as there is room for.
pub(in crate::router) fn full(name: &str, most: usize) -> Fault {
    let message = format!(
        "`{name}` was not sent: {most} calls with idempotency keys are under way, the limit \
         ([idempotency] max_keys): try again in a moment"
    );
    Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(Duration::from_secs(1))
}

/// Nobody knows what becomes of calls with keys here.
pub(in crate::router) fn unknown(name: &str) -> Fault {
    let message = format!("`{name}` was not sent: its row keeps no answers, and it has a key");
    Fault::not_sent(FaultKind::Internal, message)
}

/// The call has ended, and its answer was not kept.
pub(in crate::router) fn forgotten(name: &str, outcome: Outcome) -> Fault {
    let ran = match outcome {
        Outcome::Executed => "it has run under its idempotency key",
        Outcome::NotSent | Outcome::Rejected | Outcome::Unknown => {
            "it may have run under its idempotency key"
        }
    };
    let message = format!(
        "`{name}` was not sent again: {ran}, and there was no room for the answer ([idempotency] \
         max_bytes)"
    );
    Fault::new(FaultKind::TooLarge, outcome, message)
}

/// The caller's own deadline has passed, and the call goes on.
pub(in crate::router) fn goes_on(name: &str, deadline: Deadline) -> Fault {
    let message = format!(
        "no answer from `{name}` within {}: it goes on, and whoever repeats it under its idempotency key \
         gets its answer",
        format_duration(deadline.timeout())
    );
    Fault::new(FaultKind::Timeout, Outcome::Unknown, message)
}
