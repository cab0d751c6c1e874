//! Decides where each call goes, and holds it to its deadline and limits on the way.
//!
//! Two steps, for whoever makes a call: [`Router::admit`] finds its row and applies the policies,
//! and gives a [`Ticket`]; the ticket's end counts it and logs its fault. [`Router::dispatch`]
//! does both, and what is between. The router knows no protocol and does no I/O.

pub mod answers;
pub mod breaker;
mod call_span;
pub mod circuit;
mod ending;
pub mod entrance;
pub mod fault_log;
mod fingerprint;
mod keyed;
pub mod ledger;
pub mod limits;
mod places;
mod policy;
pub mod retries;
mod sweep;
pub mod table;
mod tally;
pub mod target;
#[cfg(test)]
mod tests;
mod ticket;
mod usual;
mod who;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use crate::budget::Budget;
use crate::call::Call;
use crate::caller::Caller;
use crate::exposer::Fits;
use crate::fault::Fault;
use crate::metrics::CallOutcome;
use crate::route::Dialect;
use crate::trace::TraceParent;
pub use ending::Ending;
use fault_log::FaultLine;
use ledger::{IngressLabel, Ledger};
use places::Places;
pub use policy::Arrival;
pub use policy::rate::Allowance;
use policy::{Admitted, Declined};
use table::{NO_ROUTE, Table};
pub use ticket::{Dispatched, Ticket, Unadmitted};

/// What was called by a call that was refused before it was routed.
#[derive(Clone, Copy, Debug)]
pub enum Called<'a> {
    /// That cannot be told.
    Unknown,
    /// A method of Genkan's own, which no row decides about.
    Own(&'a str),
    /// One that a row decides about.
    Routed(&'a str),
}

/// The routing table at work.
pub struct Router {
    table: ArcSwap<Table>,
    /// The lines of tables before, where somebody waits or holds a place yet.
    left: Mutex<Vec<Weak<Places>>>,
    wanted_headers: ArcSwapOption<Vec<Arc<str>>>,
    ledger: Arc<Ledger>,
    budget: Budget,
}

impl Router {
    /// A router over a table, whose rows were made with that ledger.
    pub fn new(table: Table, ledger: Arc<Ledger>, budget: Budget) -> Self {
        let wanted_headers = ArcSwapOption::empty();
        let table = ArcSwap::from_pointee(table);
        Self { table, left: Mutex::default(), wanted_headers, ledger, budget }
    }

    /// The bytes that callers' messages may take: ingresses count there what they read.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The label of an ingress.
    pub fn ingress(&self, name: &'static str) -> IngressLabel {
        self.ledger.ingress(name)
    }

    /// How many calls that came in by one of these ways have not ended.
    pub fn under_way(&self, ingresses: &[IngressLabel]) -> usize {
        ingresses.iter().map(|ingress| self.ledger.under_way(*ingress)).sum()
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// The headers of callers that some service is to have; `None` where none is, as usual.
    pub fn wanted_headers(&self) -> Option<Arc<Vec<Arc<str>>>> {
        self.wanted_headers.load_full()
    }

    /// The same, whose services are to have these headers.
    #[must_use]
    pub fn wanting(self, names: Vec<Arc<str>>) -> Self {
        self.want_headers(names);
        self
    }

    /// Says which headers those are.
    pub fn want_headers(&self, names: Vec<Arc<str>>) {
        self.wanted_headers.store((!names.is_empty()).then(|| Arc::new(names)));
    }

    /// The form of a service's answers where they are not about one of its methods: its whole
    /// row's.
    pub fn dialect(&self, service: &str) -> Dialect {
        self.table.load().find(&format!("{service}.*")).rule.dialect
    }

    /// Puts a new table in force. Calls under way keep the row that they were found by, and its line.
    pub fn replace(&self, table: Table) {
        let table = Arc::new(table);
        let before = self.table.swap(Arc::clone(&table));
        let kept: HashSet<_> = table.lines().map(Arc::as_ptr).collect();
        let gone = before.lines().filter(|line| !kept.contains(&Arc::as_ptr(line)));
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.extend(gone.map(Arc::downgrade));
        drop(before);
        left.retain(|line| line.strong_count() > 0);
    }

    /// Finds the row of a call, and applies the policies. Does not wait: it can be asked under a
    /// lock. Writing the end of what was declined can take longer, and is left to who asked.
    pub fn admit(&self, arrival: &Arrival<'_>) -> Result<Ticket, Box<Unadmitted>> {
        let table = self.table.load();
        let row = table.find(arrival.name);
        let deadline = policy::timeout::deadline(row, arrival);
        let shorter = table.shorter(row, arrival.name);
        let key = table.limits_of(arrival.caller);
        let admitted = policy::admit((row, shorter.map(|row| &**row)), key, arrival, deadline);
        let row = Arc::clone(row);
        let ending = Ending::of(row, arrival);
        match admitted {
            Ok(Admitted { probe, standing, allowance }) => {
                Ok(Ticket { ending, probe, standing: Some(standing), allowance, deadline })
            }
            Err(Declined { fault, allowance }) => {
                Err(Box::new(Unadmitted { ending, fault, allowance }))
            }
        }
    }

    /// Counts a call that Genkan answers itself against the rate of its caller: what that has left, or that it
    /// has no more, and when it has.
    pub fn charge(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<Allowance>, (Fault, Option<Allowance>)> {
        let table = self.table.load();
        let (row, key) = (table.last(), table.limits_of(caller));
        let charged = policy::rate::charge((row, NO_ROUTE), key.map(|key| &**key), (caller, name));
        charged.map_err(|Declined { fault, allowance }| (fault, allowance))
    }

    /// Lets nobody wait for a turn any more: whoever does is told that the gateway shuts down.
    pub fn close_queues(&self) {
        self.table.load().lines().for_each(|line| line.close());
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().filter_map(Weak::upgrade).for_each(|line| line.close());
    }

    /// Counts and logs a fault that was found before there was a call to route: at the row that would have
    /// decided about it, where it is known what was called.
    pub fn refuse(
        &self,
        ingress: IngressLabel,
        (called, caller, trace): (Called<'_>, &Caller, &TraceParent),
        since: Instant,
        fault: &Fault,
    ) {
        match called {
            Called::Routed(call) => {
                let row = Arc::clone(self.table.load().find(call));
                row.count(ingress, CallOutcome::Fault(fault.kind()), Some(fault), since.elapsed());
                let (route, upstream) = (row.label(Some(fault)), row.rule.upstream.as_str());
                let line = FaultLine { ingress, route, upstream, call, caller, trace, fault };
                self.ledger.faults.write(line);
            }
            Called::Own(call) => self.ledger.refuse(ingress, (call, caller, trace), since, fault),
            Called::Unknown => self.ledger.refuse(ingress, ("", caller, trace), since, fault),
        }
    }

    /// Writes what the log of faults has summed up. To be called every second or so; at the end
    /// with `all`.
    pub fn sum_up_faults(&self, all: bool) {
        self.ledger.faults.sum_up(all);
    }

    /// Admits a call and carries it out.
    pub async fn dispatch(&self, ingress: IngressLabel, call: Call) -> Dispatched {
        self.dispatch_fitting(ingress, call, &|_| Ok(())).await
    }

    /// The same, where not every result can be an answer.
    async fn dispatch_fitting(
        &self,
        ingress: IngressLabel,
        call: Call,
        fits: Fits<'_>,
    ) -> Dispatched {
        let arrival = Arrival {
            ingress,
            caller: &call.caller,
            name: call.name.as_str(),
            service: call.name.service(),
            received: call.received,
            timeout: call.timeout,
            trace: Some(call.context.trace),
            hops: call.context.hops,
            idempotency_key: call.context.idempotency_key.as_ref(),
            may_have_run: call.may_have_run,
        };
        match self.admit(&arrival) {
            Ok(ticket) => ticket.carry_out_fitting(&call, fits).await,
            Err(unadmitted) => {
                let Unadmitted { ending, fault, allowance } = *unadmitted;
                let dialect = Some(ending.row().rule.dialect);
                ending.write(call.name.as_str(), Err(&fault));
                Dispatched { dialect, allowance, ..Dispatched::refused(fault) }
            }
        }
    }
}
