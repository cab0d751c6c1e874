//! The row must say an upstream that there is, and a service where the caller says none.

use std::sync::Arc;

use crate::fault::{Fault, FaultKind};
use crate::route::names_a_service;
use crate::router::table::Row;
use crate::router::target::Target;

/// Where calls of that name go: what is called, and what of that is the service.
pub(in crate::router) fn target<'a>(
    row: &'a Row,
    (name, service): (&str, &str),
) -> Result<&'a Arc<Target>, Fault> {
    if !names_a_service(name) && row.rule.service.is_none() {
        let message = format!(
            "nobody serves `{name}`: call it as `service.{name}`, or give it to a service with a \
             [[routes]] row: match = \"{name}\", service = \"…\""
        );
        return Err(Fault::not_sent(FaultKind::UnknownService, message));
    }
    row.target.as_ref().ok_or_else(|| {
        let service = if service.is_empty() { name } else { service };
        let message = format!(
            "nobody serves `{name}`: no [[routes]] row matches it, and no module `{service}` is \
             connected"
        );
        Fault::not_sent(FaultKind::UnknownService, message)
    })
}
