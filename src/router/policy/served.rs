//! There must be an upstream by the name that the row says.

use std::sync::Arc;

use super::Arrival;
use crate::fault::{Fault, FaultKind};
use crate::router::table::Row;
use crate::router::target::Target;

pub(super) fn target<'a>(row: &'a Row, arrival: &Arrival<'_>) -> Result<&'a Arc<Target>, Fault> {
    row.target.as_ref().ok_or_else(|| {
        let name = arrival.name;
        let service = name.rsplit_once('.').map_or(name, |(service, _)| service);
        let message = format!(
            "nobody serves `{name}`: no [[routes]] row matches it, and no module `{service}` is \
             connected"
        );
        Fault::not_sent(FaultKind::UnknownService, message)
    })
}
