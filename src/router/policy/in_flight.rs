//! So many calls may wait for an upstream at once, and no more: `max_in_flight`.

use std::sync::Arc;
use std::time::Duration;

use super::Arrival;
use crate::fault::{Fault, FaultKind};
use crate::router::target::{Permit, Target};

/// How soon a caller that met the limit should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) fn enter(target: &Arc<Target>, arrival: &Arrival<'_>) -> Result<Permit, Fault> {
    target.enter().ok_or_else(|| {
        let (name, limit, upstream) = (arrival.name, target.max_in_flight(), &target.name);
        let message = format!(
            "`{name}` was not sent: {limit} calls wait for the upstream `{upstream}` already, its \
             limit (max_in_flight): try again in a moment"
        );
        Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(RETRY_AFTER)
    })
}
