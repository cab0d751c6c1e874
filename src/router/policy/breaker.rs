//! A service that does not answer is left alone for a while: `[upstreams.NAME.breaker]`.

use std::time::Duration;

use tokio::time::Instant;

use crate::fault::{Fault, FaultKind};
use crate::metrics;
use crate::router::circuit::{Met, Probe};
use crate::router::table::Row;
use crate::units::{format_duration, whole_seconds};

/// Whether the service may be called now: what is called, and what of that is the service. A probe is the
/// call that is to try it.
pub(in crate::router) fn check(
    row: &Row,
    (name, service): (&str, &str),
) -> Result<Option<Probe>, Fault> {
    let service = row.rule.service.as_deref().unwrap_or(service);
    let Some(breaker) = row.breaker() else { return Ok(None) };
    match breaker.meet(service, Instant::now()) {
        Met::Closed => Ok(None),
        Met::Probe(probe) => Ok(Some(probe)),
        Met::Open(wait) => Err(open(row, (name, service), wait)),
    }
}

fn open(row: &Row, (name, service): (&str, &str), wait: Duration) -> Fault {
    metrics::limited(row.label(None), "breaker");
    let message = format!(
        "`{name}` was not sent: calls of `{service}` over `{}` failed too often lately, so that it is left \
         alone for a while (its breaker is open): try again in {}",
        row.rule.upstream,
        format_duration(whole_seconds(wait))
    );
    Fault::not_sent(FaultKind::Unavailable, message).with_retry_after(wait)
}
