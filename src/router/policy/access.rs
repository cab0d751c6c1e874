//! Who may call, as the row says: `allow`. Before everything else that the row tells: whoever may not
//! call learns nothing of who serves it.

use super::Arrival;
use crate::fault::Fault;
use crate::router::table::Row;

pub(super) fn check(row: &Row, arrival: &Arrival<'_>) -> Result<(), Fault> {
    let &Arrival { caller, name, .. } = arrival;
    let admitted = row.rule.access.lets_call(caller, name);
    admitted.map_err(|refusal| refusal.fault("call", name, caller))
}
