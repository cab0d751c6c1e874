//! The routing table, compiled: what the router reads for every call, swapped as a whole.

use std::sync::Arc;
use std::time::Duration;

use super::pattern::Pattern;
use super::slot::Slot;
use crate::call::CallName;
use crate::metrics::CallMetrics;
use crate::protocol::INGRESSES;

/// The label of the implicit last row, and of what never reached the table.
pub const NO_ROUTE: &str = "none";
/// The upstream that the implicit last row sends to.
pub const HUB: &str = "hub";

/// One row as an operator means it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which calls it is for.
    pub pattern: Pattern,
    /// The upstream's name.
    pub upstream: String,
    /// The service to ask for instead of the caller's.
    pub service: Option<String>,
    /// The method to ask for instead of the caller's.
    pub method: Option<String>,
    /// Names for positional params.
    pub params: Vec<String>,
    /// How long a call may take.
    pub timeout: Duration,
}

/// One compiled row.
pub struct Row {
    /// What the operator wrote.
    pub rule: Rule,
    /// The upstream; `None` for the hub, which no module has joined.
    pub slot: Option<Arc<Slot>>,
    metrics: Vec<CallMetrics>,
}

impl Row {
    /// Compiles a row. `label` is its name in metrics.
    pub fn new(rule: Rule, label: &str, slot: Option<Arc<Slot>>) -> Self {
        let metrics = INGRESSES
            .iter()
            .map(|ingress| CallMetrics::new(ingress, label, &rule.upstream))
            .collect();
        Self { rule, slot, metrics }
    }

    /// The service to ask for when `name` is called.
    pub fn service<'a>(&'a self, name: &'a CallName) -> &'a str {
        self.rule.service.as_deref().unwrap_or(name.service())
    }

    /// The method to ask for when `name` is called.
    pub fn method<'a>(&'a self, name: &'a CallName) -> &'a str {
        self.rule.method.as_deref().unwrap_or(name.method())
    }

    /// The metrics of calls that came in by an ingress.
    pub fn metrics(&self, ingress: Ingress) -> &CallMetrics {
        &self.metrics[ingress.0]
    }
}

/// The way a call came in, as an index into the protocols' list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress(usize);

impl Ingress {
    /// The ingress of that name; the first one for a name that is not in the list.
    pub fn named(name: &str) -> Self {
        let index = INGRESSES.iter().position(|ingress| *ingress == name);
        debug_assert!(index.is_some(), "an ingress is listed in protocol/mod.rs");
        Self(index.unwrap_or_default())
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        INGRESSES[self.0]
    }
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

    /// The row that decides a call: the first that matches.
    pub fn find(&self, name: &CallName) -> &Arc<Row> {
        let text = name.as_str();
        self.rows.iter().find(|row| row.rule.pattern.matches(text)).unwrap_or(&self.last)
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
