//! Decides where each call goes, and holds it to its deadline and limits on the way.
//!
//! Every ingress hands its calls to [`Router::dispatch`]; it is the only place where a call's
//! end is counted and its fault is logged. It knows no protocol and does no I/O.

mod call_span;
pub mod fault_log;
pub mod pattern;
pub mod table;
pub mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span};

use crate::call::{Call, CallKind, Deadline, Payload, Reply, Request, TraceParent};
use crate::config::units::format_duration;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::{CallMetrics, CallOutcome};
use fault_log::{FaultLine, FaultLog};
use table::{Ingress, NO_ROUTE, Row, Table};

/// How soon a caller that met a limit should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a call ended, and how much of the time was the service's.
pub struct Dispatched {
    /// The result or the fault.
    pub result: Result<Reply, Fault>,
    /// The time between handing the call to the upstream and its answer; `None` where it was
    /// never sent.
    pub service_time: Option<Duration>,
}

/// The routing table at work.
pub struct Router {
    table: ArcSwap<Table>,
    faults: FaultLog,
    /// For what never became a call, by ingress.
    unrouted: Vec<CallMetrics>,
}

impl Router {
    /// A router over a table.
    pub fn new(table: Table) -> Self {
        let ingresses = crate::protocol::INGRESSES.iter();
        Self {
            table: ArcSwap::from_pointee(table),
            faults: FaultLog::default(),
            unrouted: ingresses
                .map(|kind| CallMetrics::new(kind.name, NO_ROUTE, NO_ROUTE))
                .collect(),
        }
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Puts a new table in force. Calls under way keep the row that they were found by.
    pub fn replace(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// Writes what the log of faults has summed up.
    pub fn sum_up_faults(&self, all: bool) {
        self.faults.sum_up(all);
    }

    /// Counts and logs a fault that was found before there was a call to route.
    pub fn refuse(&self, ingress: Ingress, trace: &TraceParent, since: Instant, fault: &Fault) {
        let index =
            crate::protocol::INGRESSES.iter().position(|kind| kind.name == ingress.as_str());
        if let Some(metrics) = index.and_then(|index| self.unrouted.get(index)) {
            metrics.ended(CallOutcome::Fault(fault.kind()), since.elapsed());
        }
        let (route, upstream) = (NO_ROUTE, NO_ROUTE);
        self.faults.write(FaultLine { ingress, route, upstream, call: "", trace, fault });
    }

    /// Sends a call to the upstream that its row names, and waits for the end. A notification's
    /// result is `null`, as soon as the upstream has taken it over.
    pub async fn dispatch(&self, ingress: Ingress, call: Call) -> Dispatched {
        let row = Arc::clone(self.table.load().find(&call.name));
        let span =
            call_span::open(&row, ingress, call.name.as_str(), call.context.trace.trace_id());
        let mut ending =
            Ending { row: &row, ingress, received: call.received, span, counted: false };
        let span = ending.span.clone();
        let sent = Instant::now();
        let result = send(&row, &call).instrument(span).await;
        let now = Instant::now();
        let was_sent = !matches!(&result, Err(fault) if fault.outcome() == Outcome::NotSent);
        let service_time = was_sent.then(|| now - sent);
        ending.count(&result, now);
        if let Err(fault) = &result {
            let (route, upstream) = (row.label(Some(fault)), row.rule.upstream.as_str());
            let (trace, call) = (&call.context.trace, call.name.as_str());
            self.faults.write(FaultLine { ingress, route, upstream, call, trace, fault });
        }
        Dispatched { result, service_time }
    }

    /// The row that decides a call, for an ingress that carries the call out itself: the hub,
    /// where caller and callee are both modules. [`Router::ended`] must follow.
    pub fn find(&self, name: &str) -> Arc<Row> {
        Arc::clone(self.table.load().find_text(name))
    }

    /// Counts the end of such a call, and logs its fault. `None`: its caller went away.
    pub fn ended(
        &self,
        ingress: Ingress,
        row: &Row,
        (call, received): (&str, Instant),
        end: Option<Result<(), &Fault>>,
    ) {
        let fault = end.and_then(Result::err);
        let outcome = match (end, fault) {
            (None, _) => CallOutcome::Cancelled,
            (_, Some(fault)) => CallOutcome::Fault(fault.kind()),
            (_, None) => CallOutcome::Ok,
        };
        let took = received.elapsed();
        row.metrics(ingress, fault).ended(outcome, took);
        if fault.is_none() && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let trace = &TraceParent::generate();
        call_span::close(&call_span::open(row, ingress, call, trace.trace_id()), outcome, took);
        if let Some(fault) = fault {
            let (route, upstream) = (row.label(Some(fault)), row.rule.upstream.as_str());
            self.faults.write(FaultLine { ingress, route, upstream, call, trace, fault });
        }
    }
}

async fn send(row: &Row, call: &Call) -> Result<Reply, Fault> {
    let Some(target) = &row.target else { return Err(nobody_serves(call)) };
    let Some(_permit) = target.enter() else {
        return Err(overloaded(call, target.max_in_flight()));
    };
    let timeout = call.timeout.map_or(row.rule.timeout, |asked| asked.min(row.rule.timeout));
    let request = Request {
        service: row.service(&call.name),
        method: row.method(&call.name),
        params: &call.params,
        param_names: &row.rule.params,
        context: &call.context,
        deadline: Deadline::after(call.received, timeout),
    };
    let ended = match call.kind {
        CallKind::Call => timeout_at(request.deadline.at(), target.upstream.call(&request)).await,
        CallKind::Notification => {
            let notified =
                timeout_at(request.deadline.at(), target.upstream.notify(&request)).await;
            notified.map(|handed| handed.map(|()| Reply::new(Payload::NULL)))
        }
    };
    ended.unwrap_or_else(|_| Err(timed_out(call, timeout)))
}

fn nobody_serves(call: &Call) -> Fault {
    let name = call.name.as_str();
    let message = format!(
        "nobody serves `{name}`: no [[routes]] row matches it, and no module `{}` is connected",
        call.name.service()
    );
    Fault::not_sent(FaultKind::UnknownService, message)
}

fn overloaded(call: &Call, limit: usize) -> Fault {
    let service = call.name.service();
    let message = format!(
        "{limit} calls already wait for the upstream of `{service}`: try again in a moment"
    );
    Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(RETRY_AFTER)
}

fn timed_out(call: &Call, timeout: Duration) -> Fault {
    let (name, timeout) = (call.name.as_str(), format_duration(timeout));
    let message = format!("no answer from `{name}` within {timeout}: it may still have run");
    Fault::new(FaultKind::Timeout, Outcome::Unknown, message)
}

/// Counts the end of a call, whichever way it ends: a future that is dropped was cancelled.
struct Ending<'a> {
    row: &'a Row,
    ingress: Ingress,
    received: Instant,
    span: Span,
    counted: bool,
}

impl Ending<'_> {
    fn count(&mut self, result: &Result<Reply, Fault>, now: Instant) {
        let outcome = match result {
            Ok(_) => CallOutcome::Ok,
            Err(fault) => CallOutcome::Fault(fault.kind()),
        };
        self.counted = true;
        self.ended(outcome, result.as_ref().err(), now);
    }

    fn ended(&self, outcome: CallOutcome, fault: Option<&Fault>, now: Instant) {
        let took = now - self.received;
        self.row.metrics(self.ingress, fault).ended(outcome, took);
        call_span::close(&self.span, outcome, took);
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.counted {
            self.ended(CallOutcome::Cancelled, None, Instant::now());
        }
    }
}
