//! How long a call may take: as its row says, and less if its caller says so. One instant, made
//! here; no layer starts a timer of its own.

use super::Arrival;
use crate::call::Deadline;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::router::table::Row;
use crate::units::format_duration;

pub(in crate::router) fn deadline(row: &Row, arrival: &Arrival<'_>) -> Deadline {
    let longest = row.rule.timeout;
    let timeout = arrival.timeout.map_or(longest, |asked| asked.min(longest));
    Deadline::after(arrival.received, timeout)
}

/// The fault of a call whose deadline has passed. `held`: it had not left by then.
pub(in crate::router) fn timed_out(name: &str, deadline: Deadline, held: bool) -> Fault {
    let timeout = format_duration(deadline.timeout());
    if held {
        let message = format!("`{name}` could not be sent within {timeout}: it has not run");
        return Fault::not_sent(FaultKind::Timeout, message);
    }
    let message = format!("no answer from `{name}` within {timeout}: it may still have run");
    Fault::new(FaultKind::Timeout, Outcome::Unknown, message)
}

/// The fault of a call that has answered in part by its deadline.
pub(in crate::router) fn unended(name: &str, deadline: Deadline) -> Fault {
    let timeout = format_duration(deadline.timeout());
    let message = format!(
        "`{name}` has answered, and its answer did not end within {timeout}: it has run, and may go on"
    );
    Fault::new(FaultKind::Timeout, Outcome::Executed, message)
}
