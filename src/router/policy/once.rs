//! What may have run already does not run again, unless its row says that it may: `idempotent`.

use crate::fault::{Fault, FaultKind, Outcome};
use crate::router::table::Row;

/// Whether a call of that name may run, which may have run already or not.
pub(in crate::router) fn check(row: &Row, (name, may_have_run): (&str, bool)) -> Result<(), Fault> {
    if !may_have_run || row.rule.idempotent {
        return Ok(());
    }
    let message = format!(
        "`{name}` was delivered before, and may have run then: it is not run again, because its [[routes]] \
         row does not say `idempotent = true`"
    );
    Err(Fault::new(FaultKind::Unavailable, Outcome::Unknown, message))
}
