//! What may have run already does not run again, unless its row says that it may: `idempotent`.

use super::Arrival;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::router::table::Row;

pub(super) fn check(row: &Row, arrival: &Arrival<'_>) -> Result<(), Fault> {
    if !arrival.may_have_run || row.rule.idempotent {
        return Ok(());
    }
    let message = format!(
        "`{}` was delivered before, and may have run then: it is not run again, because its [[routes]] \
         row does not say `idempotent = true`",
        arrival.name
    );
    Err(Fault::new(FaultKind::Unavailable, Outcome::Unknown, message))
}
