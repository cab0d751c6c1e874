//! The one ending of a call: the only place where calls are counted and their faults logged.
//!
//! Whoever wants to watch calls end watches here. An ending that is dropped unwritten is that of
//! a call whose caller went away.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{Level, Span, enabled};

use super::call_span;
use super::fault_log::FaultLine;
use super::ledger::IngressLabel;
use super::policy::Arrival;
use super::table::Row;
use crate::caller::Caller;
use crate::fault::Fault;
use crate::metrics::CallOutcome;
use crate::trace::TraceParent;

/// The end of a call, to be written.
pub struct Ending {
    row: Arc<Row>,
    ingress: IngressLabel,
    received: Instant,
    trace: Option<TraceParent>,
    /// For the log.
    caller: Caller,
    span: Span,
    written: bool,
}

impl Ending {
    /// Opens the call's span.
    pub(super) fn of(row: Arc<Row>, arrival: &Arrival<'_>) -> Self {
        let &Arrival { ingress, received, .. } = arrival;
        let trace = arrival.trace.or_else(|| enabled!(Level::DEBUG).then(TraceParent::generate));
        let trace_id = trace.as_ref().map_or("", TraceParent::trace_id);
        let span = call_span::open(&row, arrival, trace_id);
        row.ledger().begun(ingress);
        let caller = arrival.caller.clone();
        Self { row, ingress, received, trace, caller, span, written: false }
    }

    /// The row that decides about the call.
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// The trace that the call belongs to.
    pub fn trace(&mut self) -> TraceParent {
        *self.trace.get_or_insert_with(TraceParent::generate)
    }

    /// An ending that counts nothing: of a call that is made for others, who have endings of their own.
    pub(super) fn untold(&self) -> Self {
        let (row, span) = (Arc::clone(&self.row), self.span.clone());
        let &Self { ingress, received, trace, .. } = self;
        row.ledger().begun(ingress);
        Self { row, ingress, received, trace, caller: Caller::NOBODY, span, written: true }
    }

    /// The call's span.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Counts the end of the call `name`, and logs its fault.
    pub fn write(self, name: &str, result: Result<(), &Fault>) {
        self.write_at(Instant::now(), name, result);
    }

    pub(super) fn write_at(mut self, now: Instant, name: &str, result: Result<(), &Fault>) {
        let fault = result.err();
        let outcome = fault.map_or(CallOutcome::Ok, |fault| CallOutcome::Fault(fault.kind()));
        self.count(outcome, fault, now);
        let Some(fault) = fault else { return };
        let trace = &self.trace();
        let (ingress, row, caller) = (self.ingress, &self.row, &self.caller);
        let (route, upstream) = (row.label(Some(fault)), row.rule.upstream.as_str());
        let line = FaultLine { ingress, route, upstream, call: name, caller, trace, fault };
        row.ledger().faults.write(line);
    }

    fn count(&mut self, outcome: CallOutcome, fault: Option<&Fault>, now: Instant) {
        self.written = true;
        let took = now - self.received;
        self.row.count(self.ingress, outcome, fault, took);
        call_span::close(&self.span, outcome, took);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.written {
            self.count(CallOutcome::Cancelled, None, Instant::now());
        }
        self.row.ledger().ended(self.ingress);
    }
}
