//! What a call passes before it is sent, whoever makes it: a file for each policy, in the one
//! order that [`admit`] shows.
//!
//! Must not: wait, allocate on the way through of a call that has no limits, or hold a lock for longer
//! than it takes to look something up: the hub admits under its own. A call that has to wait is admitted
//! with its turn in the line; whoever carries it out waits.

pub(super) mod access;
pub(super) mod breaker;
pub(super) mod hops;
pub(super) mod idempotency;
pub(super) mod in_flight;
pub(super) mod once;
pub(super) mod rate;
pub(super) mod served;
pub(super) mod timeout;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::circuit::Probe;
use super::ledger::IngressLabel;
use super::limits::KeyLimits;
use super::table::Row;
use super::target::Target;
use crate::call::Deadline;
use crate::caller::Caller;
use crate::fault::Fault;
use crate::idempotency_key::IdempotencyKey;
use crate::trace::TraceParent;

/// What admission has to know of a call.
pub struct Arrival<'a> {
    /// The way it came in.
    pub ingress: IngressLabel,
    /// Who calls.
    pub caller: &'a Caller,
    /// What is called: `service.method`.
    pub name: &'a str,
    /// What of the name is the service; empty where it names none.
    pub service: &'a str,
    /// When it came in: its deadline counts from here.
    pub received: Instant,
    /// The caller's own limit, which can shorten the row's timeout and never lengthen it.
    pub timeout: Option<Duration>,
    /// The trace that it belongs to. Where it has none, one is made if somebody gets to see it.
    pub trace: Option<TraceParent>,
    /// How many gateways it has come through.
    pub hops: u8,
    /// By what its caller knows it again.
    pub idempotency_key: Option<&'a IdempotencyKey>,
    /// It was delivered before, and may have run then.
    pub may_have_run: bool,
}

/// What a call that may be made has got.
pub(super) struct Admitted {
    /// It is to try a service that did not answer.
    pub(super) probe: Option<Probe>,
    pub(super) standing: in_flight::Standing,
    /// What its caller has left of its rate, where there is one.
    pub(super) allowance: Option<rate::Allowance>,
}

/// Why a call may not be made.
pub(super) struct Declined {
    pub(super) fault: Fault,
    pub(super) allowance: Option<rate::Allowance>,
}

impl From<Fault> for Declined {
    fn from(fault: Fault) -> Self {
        Self { fault, allowance: None }
    }
}

/// A call that its caller may make, and that somebody may serve.
struct Entry<'a> {
    target: &'a Arc<Target>,
    is_keyed: bool,
}

/// Whether it may be made at all, however often.
fn may_be_made<'a>(
    row: &'a Row,
    shorter: Option<&Row>,
    arrival: &Arrival<'_>,
) -> Result<Entry<'a>, Fault> {
    hops::check(arrival)?;
    access::check(row, arrival)?;
    if let Some(shorter) = shorter {
        access::check(shorter, arrival)?;
    }
    let target = served::target(row, (arrival.name, arrival.service))?;
    let is_keyed = idempotency::check(row, arrival)?;
    if !is_keyed {
        once::check(row, (arrival.name, arrival.may_have_run))?;
    }
    Ok(Entry { target, is_keyed })
}

/// The policies, in their order. Beside the call's row there may be that of what its name may be taken for, and
/// limits of its caller's key.
pub(super) fn admit(
    (row, shorter): (&Row, Option<&Row>),
    key: Option<&Arc<KeyLimits>>,
    arrival: &Arrival<'_>,
    deadline: Deadline,
) -> Result<Admitted, Declined> {
    let may = may_be_made(row, shorter, arrival);
    let Entry { target, is_keyed } = match may {
        Ok(entry) => entry,
        Err(fault) => {
            // Whoever guesses keys, or names, is held to a limit too.
            let label = row.label(Some(&fault));
            let whose = (arrival.caller, arrival.name);
            let allowance = rate::charge((row, label), key.map(|key| &**key), whose)?;
            return Err(Declined { fault, allowance });
        }
    };
    let allowance = rate::check(row, key.map(|key| &**key), arrival)?;
    if is_keyed {
        let standing = in_flight::Standing::Keyed(key.cloned());
        return Ok(Admitted { probe: None, standing, allowance });
    }
    let declined = |fault| Declined { fault, allowance };
    let called = (arrival.name, arrival.service);
    let entered = enter((row, key), (target, arrival.received), called, deadline);
    let (probe, standing) = entered.map_err(declined)?;
    Ok(Admitted { probe, standing, allowance })
}

/// The last of them, of a call that is to be sent: the breaker, and how many are under way.
pub(super) fn enter(
    (row, key): (&Row, Option<&Arc<KeyLimits>>),
    (target, came): (&Arc<Target>, Instant),
    (name, service): (&str, &str),
    deadline: Deadline,
) -> Result<(Option<Probe>, in_flight::Standing), Fault> {
    let probe = breaker::check(row, (name, service))?;
    let standing = in_flight::enter((row, key), target, (name, came), deadline)?;
    // While one waits for its turn another may try the service: who comes to it is asked again.
    let probe = probe.filter(|_| !matches!(standing, in_flight::Standing::Waiting(_)));
    Ok((probe, standing))
}
