//! So many calls may be under way at once, and no more: `max_in_flight` of the upstream, of the row and
//! of the whole gateway.

use std::sync::Arc;
use std::time::Duration;

use super::Arrival;
use crate::fault::{Fault, FaultKind};
use crate::metrics;
use crate::router::limits::Place;
use crate::router::table::Row;
use crate::router::target::{Permit, Target};

/// How soon a caller that met the limit should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The places of a call that is under way, given back when dropped.
pub(in crate::router) struct Seats {
    permit: Permit,
    _row: Option<Place>,
    _gateway: Option<Place>,
}

impl Seats {
    /// The upstream that it goes to.
    pub(in crate::router) fn target(&self) -> &Target {
        self.permit.target()
    }
}

pub(super) fn enter(
    row: &Row,
    target: &Arc<Target>,
    arrival: &Arrival<'_>,
) -> Result<Seats, Fault> {
    let mut places = [None, None];
    for ((limits, whose), place) in row.limits().into_iter().zip(&mut places) {
        let Some(in_flight) = &limits.in_flight else { continue };
        match in_flight.enter() {
            Ok(entered) => *place = Some(entered),
            Err(most) => return Err(full(row, arrival, most, &whose.said(row))),
        }
    }
    let [row_place, gateway] = places;
    let permit = target.enter().ok_or_else(|| {
        let to = format!("the upstream `{}`", target.name);
        full(row, arrival, target.max_in_flight(), &to)
    })?;
    Ok(Seats { permit, _row: row_place, _gateway: gateway })
}

fn full(row: &Row, arrival: &Arrival<'_>, limit: usize, of: &str) -> Fault {
    metrics::limited(row.label(None), "max_in_flight");
    let name = arrival.name;
    let message = format!(
        "`{name}` was not sent: {limit} calls wait for {of} already, its limit (max_in_flight): try \
         again in a moment"
    );
    Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(RETRY_AFTER)
}
