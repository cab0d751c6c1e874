//! What a call passes before it is sent, whoever makes it: a file for each policy, in the one
//! order that [`admit`] shows.
//!
//! Must not: wait, allocate on the way through, or take a lock: the hub admits under its own.

pub(super) mod in_flight;
pub(super) mod served;
pub(super) mod timeout;

use std::time::Duration;

use tokio::time::Instant;

use super::ledger::IngressLabel;
use super::table::Row;
use super::target::Permit;
use crate::call::TraceParent;
use crate::fault::Fault;

/// What admission has to know of a call.
pub struct Arrival<'a> {
    /// The way it came in.
    pub ingress: IngressLabel,
    /// What is called: `service.method`.
    pub name: &'a str,
    /// When it came in: its deadline counts from here.
    pub received: Instant,
    /// The caller's own limit, which can shorten the row's timeout and never lengthen it.
    pub timeout: Option<Duration>,
    /// The trace that it belongs to. Where it has none, one is made if somebody gets to see it.
    pub trace: Option<TraceParent>,
}

/// The policies, in their order.
pub(super) fn admit(row: &Row, arrival: &Arrival<'_>) -> Result<Permit, Fault> {
    let target = served::target(row, arrival)?;
    in_flight::enter(target, arrival)
}
