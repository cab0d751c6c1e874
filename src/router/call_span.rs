//! The one span of a call, and the line that ends it, for `level = "debug"`. At other levels both
//! cost a look at a flag.
//!
//! Must not: hold a payload, a header or anything else that a caller or a service sent, but for
//! the name that was called, the trace id, and as whom somebody has verified the caller.

use std::time::Duration;

use tracing::{Span, debug, debug_span, field};

use super::policy::Arrival;
use super::table::Row;
use crate::metrics::CallOutcome;

/// Opens the span. What is logged on the way to the answer belongs to it.
pub(super) fn open(row: &Row, arrival: &Arrival<'_>, trace_id: &str) -> Span {
    let &Arrival { ingress, caller, name, .. } = arrival;
    debug_span!(
        "call",
        call = name,
        address = caller.address().map(field::display),
        caller = caller.name(),
        ingress = ingress.as_str(),
        route = row.rule.pattern.as_str(),
        upstream = row.rule.upstream,
        trace_id,
        outcome = field::Empty,
        duration_ms = field::Empty,
    )
}

/// Completes the span, and writes its line.
pub(super) fn close(span: &Span, outcome: CallOutcome, took: Duration) {
    if span.is_disabled() {
        return;
    }
    span.record("outcome", outcome.as_str());
    span.record("duration_ms", (took.as_secs_f64() * 1e6).round() / 1e3);
    span.in_scope(|| debug!("call ended"));
}
