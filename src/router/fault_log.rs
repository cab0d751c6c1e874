//! Logs every fault once, and sums up a flood of equal ones.
//!
//! Equal means the same ingress, route and kind. Of those the first `BURST` in each
//! `WINDOW` are written; the rest are counted, and the count is written when the window ends.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::table::Ingress;
use crate::call::TraceParent;
use crate::fault::{Fault, FaultKind};

const BURST: u64 = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// What a line about a fault holds.
#[derive(Clone, Copy)]
pub struct FaultLine<'a> {
    /// The way the call came in.
    pub ingress: Ingress,
    /// The route's pattern, or `none`.
    pub route: &'a str,
    /// The upstream, or `none`.
    pub upstream: &'a str,
    /// What was called; empty where that could not be read.
    pub call: &'a str,
    /// The trace of the call.
    pub trace: &'a TraceParent,
    /// The fault.
    pub fault: &'a Fault,
}

type Key = (&'static str, String, FaultKind);

struct Window {
    opened: Instant,
    seen: u64,
}

/// The faults seen lately. Bounded by ingresses × routes × kinds.
#[derive(Default)]
pub struct FaultLog {
    windows: Mutex<HashMap<Key, Window>>,
}

impl FaultLog {
    /// Writes a line, or counts it where enough of its like were written.
    pub fn write(&self, line: FaultLine<'_>) {
        if self.admits(line.ingress.as_str(), line.route, line.fault.kind()) {
            write_line(line);
        }
    }

    fn admits(&self, ingress: &'static str, route: &str, kind: FaultKind) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows
            .entry((ingress, route.to_owned(), kind))
            .or_insert_with(|| Window { opened: Instant::now(), seen: 0 });
        window.seen += 1;
        window.seen <= BURST
    }

    /// Writes the sums of the windows that have ended, all of them where `all` is set. To be
    /// called every second or so.
    pub fn sum_up(&self, all: bool) {
        let ended: Vec<_> = {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            windows.extract_if(|_, window| all || window.opened.elapsed() >= WINDOW).collect()
        };
        for ((ingress, route, kind), window) in ended {
            if window.seen > BURST {
                let (more, kind) = (window.seen - BURST, kind.as_str());
                warn!(ingress, route, kind, more, "more faults of the same kind");
            }
        }
    }
}

fn write_line(line: FaultLine<'_>) {
    let FaultLine { route, upstream, call, fault, .. } = line;
    let ingress = line.ingress.as_str();
    let trace_id = line.trace.trace_id();
    let (kind, outcome, reason) =
        (fault.kind().as_str(), fault.outcome().as_str(), fault.message());
    match fault.kind() {
        FaultKind::Internal => {
            error!(ingress, route, upstream, call, kind, outcome, trace_id, reason, "call failed");
        }
        FaultKind::Timeout
        | FaultKind::Unavailable
        | FaultKind::Overloaded
        | FaultKind::AccessDenied => {
            warn!(ingress, route, upstream, call, kind, outcome, trace_id, reason, "call failed");
        }
        FaultKind::ParseError
        | FaultKind::InvalidRequest
        | FaultKind::UnknownMethod
        | FaultKind::UnknownService
        | FaultKind::InvalidParams
        | FaultKind::Application
        | FaultKind::TooLarge => {
            info!(ingress, route, upstream, call, kind, outcome, trace_id, reason, "call failed");
        }
    }
}
