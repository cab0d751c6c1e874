//! What the ends of calls are written into: the fault log, and the names of the ways in, by which
//! calls are counted. The composition root makes it; the routing table's rows hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::fault_log::{FaultLine, FaultLog};
use super::table::NO_ROUTE;
use crate::caller::Caller;
use crate::fault::Fault;
use crate::metrics::{CallLabels, CallMetrics, CallOutcome};
use crate::trace::TraceParent;

/// The way a call came in, as the label `ingress` says it. Given out by [`Ledger::ingress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressLabel {
    index: usize,
    name: &'static str,
}

impl IngressLabel {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.name
    }
}

/// The counters of a route by the ways in: next to nothing until a call has come by one.
pub(super) struct Counters(Box<[CallMetrics]>);

impl Counters {
    /// Counts a call of `route` to `upstream`, always the same ones, that came in so and has ended.
    pub(super) fn count(
        &self,
        ingress: IngressLabel,
        (route, upstream): (&str, &str),
        outcome: CallOutcome,
        took: Duration,
    ) {
        if let Some(metrics) = self.0.get(ingress.index) {
            metrics.ended(CallLabels { ingress: ingress.name, route, upstream }, outcome, took);
        }
    }
}

/// Where ends are written.
pub struct Ledger {
    ingresses: Vec<&'static str>,
    /// Calls that came in by them and have not ended.
    under_way: Box<[AtomicUsize]>,
    /// For what never became a call.
    unrouted: Counters,
    pub(super) faults: FaultLog,
}

impl Ledger {
    /// A ledger for calls that come in by these ways.
    pub fn new(ingresses: impl IntoIterator<Item = &'static str>) -> Arc<Self> {
        let ingresses: Vec<_> = ingresses.into_iter().collect();
        let unrouted = counters(&ingresses);
        let under_way = ingresses.iter().map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self { ingresses, under_way, unrouted, faults: FaultLog::default() })
    }

    /// The label of an ingress; the first one's for a name that the ledger was not made with.
    pub fn ingress(&self, name: &'static str) -> IngressLabel {
        let index = self.ingresses.iter().position(|known| *known == name);
        debug_assert!(index.is_some(), "the ledger is made with all ingresses");
        IngressLabel { index: index.unwrap_or_default(), name }
    }

    /// A call has come in.
    pub(super) fn begun(&self, ingress: IngressLabel) {
        if let Some(calls) = self.under_way.get(ingress.index) {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It has ended.
    pub(super) fn ended(&self, ingress: IngressLabel) {
        if let Some(calls) = self.under_way.get(ingress.index) {
            calls.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many calls that came in so have not ended.
    pub(super) fn under_way(&self, ingress: IngressLabel) -> usize {
        self.under_way.get(ingress.index).map_or(0, |calls| calls.load(Ordering::Relaxed))
    }

    /// Counters for a row.
    pub(super) fn counters(&self) -> Counters {
        counters(&self.ingresses)
    }

    /// Counts and logs a fault that was found before there was a call to route, and that no row has to do
    /// with, called so and by whom as far as is known.
    pub(super) fn refuse(
        &self,
        ingress: IngressLabel,
        called: (&str, &Caller, &TraceParent),
        since: Instant,
        fault: &Fault,
    ) {
        let outcome = CallOutcome::Fault(fault.kind());
        self.unrouted.count(ingress, (NO_ROUTE, NO_ROUTE), outcome, since.elapsed());
        self.tell(ingress, called, fault);
    }

    /// Logs a fault that no row has to do with.
    pub(super) fn tell(
        &self,
        ingress: IngressLabel,
        (call, caller, trace): (&str, &Caller, &TraceParent),
        fault: &Fault,
    ) {
        let (route, upstream) = (NO_ROUTE, NO_ROUTE);
        self.faults.write(FaultLine { ingress, route, upstream, call, caller, trace, fault });
    }
}

fn counters(ingresses: &[&'static str]) -> Counters {
    Counters(ingresses.iter().map(|_| CallMetrics::default()).collect())
}
