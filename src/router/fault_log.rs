//! Logs every fault once, and sums up a flood of equal ones.
//!
//! Equal means the same ingress, route and kind.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::ledger::IngressLabel;
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};
use crate::flood::Flood;
use crate::trace::TraceParent;

/// How many sorts of faults are told apart at a time.
const SORTS: usize = 1_000;
/// What stands for the routes of further ones.
const OTHERS: &str = "others";

/// What a line about a fault holds.
#[derive(Clone, Copy)]
pub struct FaultLine<'a> {
    /// The way the call came in.
    pub ingress: IngressLabel,
    /// The route's pattern, or `none`.
    pub route: &'a str,
    /// The upstream, or `none`.
    pub upstream: &'a str,
    /// What was called; empty where that could not be read.
    pub call: &'a str,
    /// Who called, as far as somebody has verified it.
    pub caller: &'a Caller,
    /// The trace of the call.
    pub trace: &'a TraceParent,
    /// The fault.
    pub fault: &'a Fault,
}

type Key = (&'static str, String, FaultKind);

/// The faults seen lately.
pub struct FaultLog(Mutex<Flood<Key>>);

impl Default for FaultLog {
    fn default() -> Self {
        Self(Mutex::new(Flood::new(SORTS)))
    }
}

impl FaultLog {
    /// Writes a line, or counts it where enough of its like were written.
    pub fn write(&self, line: FaultLine<'_>) {
        let FaultLine { ingress, route, fault, .. } = line;
        let key = (ingress.as_str(), route.to_owned(), fault.kind());
        let others = |(ingress, _, kind)| (ingress, OTHERS.to_owned(), kind);
        let admitted = self.lock().admits(key, others, Instant::now());
        if admitted {
            write_line(line);
        }
    }

    /// Writes the sums of the windows that have ended, all of them where `all` is set. To be
    /// called every second or so.
    pub fn sum_up(&self, all: bool) {
        let sums = self.lock().sums((!all).then(Instant::now));
        for ((ingress, route, kind), more) in sums {
            let kind = kind.as_str();
            warn!(ingress, route, kind, more, "more faults of the same kind");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flood<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_line(line: FaultLine<'_>) {
    let FaultLine { route, upstream, call, fault, .. } = line;
    // What it showed is no part of it: a secret may be.
    let address = line.caller.address().map(tracing::field::display);
    let caller = line.caller.name();
    let caller = caller.as_deref();
    let ingress = line.ingress.as_str();
    let trace_id = line.trace.trace_id();
    let (kind, outcome, reason) =
        (fault.kind().as_str(), fault.outcome().as_str(), fault.message());
    macro_rules! write_at {
        ($level:ident) => {
            $level!(
                ingress,
                route,
                upstream,
                call,
                address,
                caller,
                kind,
                outcome,
                trace_id,
                reason,
                "call failed"
            )
        };
    }
    match fault.kind() {
        FaultKind::Internal => write_at!(error),
        FaultKind::Timeout
        | FaultKind::Unavailable
        | FaultKind::Overloaded
        | FaultKind::AccessDenied => write_at!(warn),
        FaultKind::ParseError
        | FaultKind::InvalidRequest
        | FaultKind::UnknownMethod
        | FaultKind::UnknownService
        | FaultKind::InvalidParams
        | FaultKind::Application
        | FaultKind::TooLarge => write_at!(info),
    }
}
