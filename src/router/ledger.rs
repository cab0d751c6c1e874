//! What the ends of calls are written into: the fault log, and the names of the ways in, by which
//! calls are counted. The composition root makes it; the routing table's rows hold it.

use std::sync::Arc;

use tokio::time::Instant;

use super::fault_log::{FaultLine, FaultLog};
use super::table::NO_ROUTE;
use crate::call::TraceParent;
use crate::fault::Fault;
use crate::metrics::{CallMetrics, CallOutcome};

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

    /// Its place among the metrics that [`Ledger::metrics`] made.
    pub(super) fn index(self) -> usize {
        self.index
    }
}

/// Where ends are written.
pub struct Ledger {
    ingresses: Vec<&'static str>,
    /// For what never became a call, by ingress.
    unrouted: Vec<CallMetrics>,
    pub(super) faults: FaultLog,
}

impl Ledger {
    /// A ledger for calls that come in by these ways.
    pub fn new(ingresses: impl IntoIterator<Item = &'static str>) -> Arc<Self> {
        let ingresses: Vec<_> = ingresses.into_iter().collect();
        let unrouted = metrics(&ingresses, NO_ROUTE, NO_ROUTE);
        Arc::new(Self { ingresses, unrouted, faults: FaultLog::default() })
    }

    /// The label of an ingress; the first one's for a name that the ledger was not made with.
    pub fn ingress(&self, name: &'static str) -> IngressLabel {
        let index = self.ingresses.iter().position(|known| *known == name);
        debug_assert!(index.is_some(), "the ledger is made with all ingresses");
        IngressLabel { index: index.unwrap_or_default(), name }
    }

    /// The metrics of a row, by ingress.
    pub(super) fn metrics(&self, route: &str, upstream: &str) -> Vec<CallMetrics> {
        metrics(&self.ingresses, route, upstream)
    }

    /// Counts and logs a fault that was found before there was a call to route.
    pub(super) fn refuse(
        &self,
        ingress: IngressLabel,
        trace: &TraceParent,
        since: Instant,
        fault: &Fault,
    ) {
        if let Some(metrics) = self.unrouted.get(ingress.index) {
            metrics.ended(CallOutcome::Fault(fault.kind()), since.elapsed());
        }
        let (route, upstream) = (NO_ROUTE, NO_ROUTE);
        self.faults.write(FaultLine { ingress, route, upstream, call: "", trace, fault });
    }
}

fn metrics(ingresses: &[&'static str], route: &str, upstream: &str) -> Vec<CallMetrics> {
    ingresses.iter().map(|ingress| CallMetrics::new(ingress, route, upstream)).collect()
}
