//! A call that goes round between gateways ends: routes and exposes of several of them may lead in a
//! circle that no one of their configurations shows.

use super::Arrival;
use crate::fault::{Fault, FaultKind};

/// More than any chain of services that call each other through gateways takes.
const MOST: u8 = 16;

pub(super) fn check(arrival: &Arrival<'_>) -> Result<(), Fault> {
    if arrival.hops < MOST {
        return Ok(());
    }
    let message = format!(
        "`{}` has come through gateways {} times: routes and exposes lead in a circle: look where each \
         gateway sends it",
        arrival.name, arrival.hops
    );
    Err(Fault::not_sent(FaultKind::Internal, message))
}
