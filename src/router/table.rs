//! The routing table, compiled: what the router reads for every call, swapped as a whole.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::answers::Answers;
use super::breaker::Breaker;
use super::ledger::{Counters, IngressLabel, Ledger};
use super::limits::{KeyLimits, LimitsInForce, LimitsOfKeys, Whose};
use super::places::Places;
use super::retries::RetryBudget;
use super::target::Target;
use super::usual::Usual;
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::CallOutcome;
use crate::route::access::Access;
use crate::route::expose::{Expose, Ways};
use crate::route::first_words::FirstWords;
use crate::route::index::RowIndex;
use crate::route::pattern::Pattern;
use crate::route::{HUB, Rule};

/// The label of the implicit last row, and of what never reached the table.
pub const NO_ROUTE: &str = "none";

/// One compiled row.
pub struct Row {
    /// What the operator wrote.
    pub rule: Rule,
    /// The upstream; `None` where there is none by that name.
    pub target: Option<Arc<Target>>,
    label: String,
    counters: Counters,
    /// For the implicit row: what nobody serves has no route.
    unserved: Option<Counters>,
    ledger: Arc<Ledger>,
    limits: Arc<LimitsInForce>,
    gateway: Arc<LimitsInForce>,
    breaker: Option<Arc<Breaker>>,
    retry_budget: Option<Arc<RetryBudget>>,
    answers: Option<Arc<Answers>>,
    usual: Usual,
}

impl Row {
    /// Compiles a row. `label` is its name in metrics.
    pub fn new(rule: Rule, label: &str, target: Option<Arc<Target>>, ledger: &Arc<Ledger>) -> Self {
        let (label, ledger) = (label.to_owned(), Arc::clone(ledger));
        let counters = ledger.counters();
        let (limits, gateway) = Default::default();
        Self {
            rule,
            target,
            label,
            counters,
            unserved: None,
            ledger,
            limits,
            gateway,
            breaker: None,
            retry_budget: None,
            answers: None,
            usual: Usual::default(),
        }
    }

    /// The same with limits: its own, and the whole gateway's.
    #[must_use]
    pub fn limited(self, limits: Arc<LimitsInForce>, gateway: Arc<LimitsInForce>) -> Self {
        Self { limits, gateway, ..self }
    }

    /// The same over an upstream that has a breaker.
    #[must_use]
    pub fn guarded(self, breaker: Option<Arc<Breaker>>) -> Self {
        Self { breaker, ..self }
    }

    /// The breaker of its upstream.
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_deref()
    }

    /// The same, with what its retries are taken from.
    #[must_use]
    pub fn retrying(self, retry_budget: Option<Arc<RetryBudget>>) -> Self {
        Self { retry_budget, ..self }
    }

    /// The same, with what is known of calls that have keys.
    #[must_use]
    pub fn remembering(self, answers: Option<Arc<Answers>>) -> Self {
        Self { answers, ..self }
    }

    /// What is known of calls that have keys; `None` where keys mean nothing to it.
    pub(super) fn answers(&self) -> Option<&Arc<Answers>> {
        self.answers.as_ref()
    }

    /// How long its calls run, where some may have to wait.
    pub(super) fn usual(&self) -> &Usual {
        &self.usual
    }

    /// What its retries are taken from; `None` where it has none.
    pub(super) fn retry_budget(&self) -> Option<&RetryBudget> {
        self.retry_budget.as_deref()
    }

    /// Its own limits, and the whole gateway's.
    pub(super) fn limits(&self) -> [(&LimitsInForce, Whose<'static>); 2] {
        [(&self.limits, Whose::Row), (&self.gateway, Whose::Gateway)]
    }

    /// Compiles the implicit last row, to the hub. It is labelled with its pattern, and what no
    /// module serves with [`NO_ROUTE`].
    pub fn implicit(rule: Rule, target: Arc<Target>, ledger: &Arc<Ledger>) -> Self {
        let unserved = Some(ledger.counters());
        let label = rule.pattern.as_str().to_owned();
        Self { unserved, ..Self::new(rule, &label, Some(target), ledger) }
    }

    /// Counts a call that came in by an ingress and ended so.
    pub(super) fn count(
        &self,
        ingress: IngressLabel,
        outcome: CallOutcome,
        fault: Option<&Fault>,
        took: Duration,
    ) {
        let (route, counters) = self.counted_as(fault);
        counters.count(ingress, (route, &self.rule.upstream), outcome, took);
    }

    /// The row's name in metrics and logs for a call that ended so.
    pub(super) fn label(&self, fault: Option<&Fault>) -> &str {
        self.counted_as(fault).0
    }

    fn counted_as(&self, fault: Option<&Fault>) -> (&str, &Counters) {
        let unserved = self.unserved.as_ref().filter(|_| fault.is_some_and(is_unserved));
        unserved.map_or((&self.label, &self.counters), |counters| (NO_ROUTE, counters))
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
    index: RowIndex,
    /// The numbers of the rows that send to the hub.
    to_hub: Vec<usize>,
    /// Where calls go to, and where services are exposed; each once.
    targets: Vec<Arc<Target>>,
    /// Of callers, whichever row their calls take.
    key_limits: Arc<LimitsOfKeys>,
}

impl Table {
    /// Makes a table.
    pub fn new(rows: Vec<Row>, last: Row) -> Self {
        let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
        let index = RowIndex::new(rows.iter().map(|row| &row.rule.pattern));
        let to_hub = rows.iter().enumerate().filter(|(_, row)| row.rule.upstream == HUB);
        let to_hub = to_hub.map(|(row, _)| row).collect();
        let mut seen = HashSet::new();
        let targets = rows.iter().filter_map(|row| row.target.as_ref());
        let targets = targets.filter(|target| seen.insert(Arc::as_ptr(target))).cloned().collect();
        Self { rows, last: Arc::new(last), index, to_hub, targets, key_limits: Arc::default() }
    }

    /// The same, with the upstreams that services are exposed on.
    #[must_use]
    pub fn with_places(mut self, places: Vec<Arc<Target>>) -> Self {
        for place in places {
            if !self.targets.iter().any(|known| Arc::ptr_eq(known, &place)) {
                self.targets.push(place);
            }
        }
        self
    }

    /// The same, with the limits of API keys.
    #[must_use]
    pub fn limiting(self, key_limits: Arc<LimitsOfKeys>) -> Self {
        Self { key_limits, ..self }
    }

    /// The places that its calls take, with the lines in front of them: of rows, of the gateway and of keys.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Arc<Places>> {
        let rows = self.rows.iter().chain([&self.last]);
        let limits = rows.flat_map(|row| [&row.limits, &row.gateway]);
        limits.filter_map(|limits| limits.in_flight.as_ref()).chain(self.key_limits.places())
    }

    /// The limits of the API key with which somebody calls, where it has some.
    pub(super) fn limits_of(&self, caller: &Caller) -> Option<&Arc<KeyLimits>> {
        self.key_limits.of(caller)
    }

    /// The row that decides about calls of `service.method`: the first that matches.
    pub fn find(&self, name: &str) -> &Arc<Row> {
        self.position(name).map_or(&self.last, |row| &self.rows[row])
    }

    /// The row of what a call's name may be taken for over there, where that is another one and sends to the
    /// same upstream: whom it lets in decides too.
    pub fn shorter(&self, row: &Row, name: &str) -> Option<&Arc<Row>> {
        let other = self.find(&row.rule.shorter(name)?);
        let is_other = other.rule.upstream == row.rule.upstream && !std::ptr::eq(&**other, row);
        is_other.then_some(other)
    }

    /// Whether a row takes calls of that name that names it to the letter.
    pub fn names(&self, name: &str) -> bool {
        self.position(name).is_some_and(|row| self.rows[row].rule.pattern.is_literal())
    }

    /// The number of that row, from 0; `None` for the implicit last one.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.first(name, |row| self.rows[row].rule.matches(name))
    }

    /// The number of the first row that matches whatever `pattern` does.
    pub fn covering(&self, pattern: &Pattern) -> Option<usize> {
        self.index.first(pattern.as_str(), |row| self.rows[row].rule.pattern.covers(pattern))
    }

    /// The patterns of all rows, for [`Table::ways`].
    pub(crate) fn words(&self) -> FirstWords<'_> {
        FirstWords::of(self.rows.iter().map(|row| row.rule.pattern.as_str()))
    }

    /// The rows that decide about calls of an exposed service, the implicit last one among them.
    pub(crate) fn ways(&self, expose: &Expose, words: &FirstWords<'_>) -> Vec<Arc<Row>> {
        let may_be = words.may_meet(&expose.service).into_iter();
        let Ways { rows, leave_some } = expose.ways(may_be.map(|row| (row, &self.rows[row].rule)));
        let rows = rows.into_iter().map(|row| &self.rows[row]);
        rows.chain(leave_some.then_some(&self.last)).map(Arc::clone).collect()
    }

    /// The numbers of the rows that send to the hub, in their order.
    pub fn rows_to_hub(&self) -> &[usize] {
        &self.to_hub
    }

    /// Whether callers are known, and rows say who may call: then nobody is whom it says it is unless
    /// that is verified.
    pub fn is_guarded(&self) -> bool {
        self.last.rule.access != Access::Open
    }

    /// The upstreams that rows send to, each once, in the order of the rows.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
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
