//! The routing table, compiled: what the router reads for every call, swapped as a whole.

use std::sync::Arc;

use super::ledger::{IngressLabel, Ledger};
use super::target::Target;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::CallMetrics;
use crate::route::Rule;

/// The label of the implicit last row, and of what never reached the table.
pub const NO_ROUTE: &str = "none";

/// One compiled row.
pub struct Row {
    /// What the operator wrote.
    pub rule: Rule,
    /// The upstream; `None` where there is none by that name.
    pub target: Option<Arc<Target>>,
    label: String,
    metrics: Vec<CallMetrics>,
    /// For the implicit row: what nobody serves has no route.
    unserved: Option<Vec<CallMetrics>>,
    ledger: Arc<Ledger>,
}

impl Row {
    /// Compiles a row. `label` is its name in metrics.
    pub fn new(rule: Rule, label: &str, target: Option<Arc<Target>>, ledger: &Arc<Ledger>) -> Self {
        let (label, ledger) = (label.to_owned(), Arc::clone(ledger));
        let metrics = ledger.metrics(&label, &rule.upstream);
        Self { rule, target, label, metrics, unserved: None, ledger }
    }

    /// Compiles the implicit last row, to the hub. It is labelled with its pattern, and what no
    /// module serves with [`NO_ROUTE`].
    pub fn implicit(rule: Rule, target: Arc<Target>, ledger: &Arc<Ledger>) -> Self {
        let unserved = Some(ledger.metrics(NO_ROUTE, &rule.upstream));
        let label = rule.pattern.as_str().to_owned();
        Self { unserved, ..Self::new(rule, &label, Some(target), ledger) }
    }

    /// The metrics of calls that came in by an ingress and ended so.
    pub(super) fn metrics(&self, ingress: IngressLabel, fault: Option<&Fault>) -> &CallMetrics {
        let unserved = self.unserved.as_ref().filter(|_| fault.is_some_and(is_unserved));
        &unserved.unwrap_or(&self.metrics)[ingress.index()]
    }

    /// The row's name in metrics and logs for a call that ended so.
    pub(super) fn label(&self, fault: Option<&Fault>) -> &str {
        let unserved = self.unserved.is_some() && fault.is_some_and(is_unserved);
        if unserved { NO_ROUTE } else { &self.label }
    }

    /// Where ends of its calls are written.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// Nobody had the call: only the hub knows that before it sends anything.
fn is_unserved(fault: &Fault) -> bool {
    fault.kind() == FaultKind::UnknownService && fault.outcome() == Outcome::NotSent
}

/// All rows, in the order of the file, and the implicit last one.
pub struct Table {
    rows: Vec<Arc<Row>>,
    last: Arc<Row>,
}

impl Table {
    /// Makes a table.
    pub fn new(rows: Vec<Row>, last: Row) -> Self {
        Self { rows: rows.into_iter().map(Arc::new).collect(), last: Arc::new(last) }
    }

    /// The row that decides about calls of `service.method`: the first that matches.
    pub fn find(&self, name: &str) -> &Arc<Row> {
        self.rows.iter().find(|row| row.rule.matches(name)).unwrap_or(&self.last)
    }

    /// The rows in the order of the file, without the implicit last one.
    pub fn rows(&self) -> &[Arc<Row>] {
        &self.rows
    }

    /// The implicit last row.
    pub fn last(&self) -> &Arc<Row> {
        &self.last
    }
}
