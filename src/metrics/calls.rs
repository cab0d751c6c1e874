//! Of calls, by how they ended.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::{CALL_DURATION, CALLS};
use crate::fault::FaultKind;

/// How a call ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// With a result, or handed over in the case of a notification.
    Ok,
    /// With a fault.
    Fault(FaultKind),
    /// Its caller went away first.
    Cancelled,
}

impl CallOutcome {
    fn index(self) -> usize {
        match self {
            CallOutcome::Ok => 0,
            CallOutcome::Cancelled => 1,
            // The enum is declared in the order of `FaultKind::ALL`.
            CallOutcome::Fault(kind) => 2 + kind as usize,
        }
    }

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        Self::label(self.index())
    }

    fn label(index: usize) -> &'static str {
        match index {
            0 => "ok",
            1 => "cancelled",
            kind => FaultKind::ALL[kind - 2].as_str(),
        }
    }
}

/// Whose calls are counted: the labels of [`CallMetrics`].
#[derive(Clone, Copy)]
pub struct CallLabels<'a> {
    /// The way in.
    pub ingress: &'static str,
    /// The pattern in the configuration, or `none`.
    pub route: &'a str,
    /// Where the calls go.
    pub upstream: &'a str,
}

/// The counters of one ingress × route × upstream: a word until the first call has ended.
#[derive(Default)]
pub struct CallMetrics(OnceLock<Box<CallSeries>>);

struct CallSeries {
    ended: [OnceLock<Counter>; 2 + FaultKind::ALL.len()],
    duration: Histogram,
}

impl CallMetrics {
    /// Counts a call that has ended. The labels are always the same ones.
    pub fn ended(&self, labels: CallLabels<'_>, outcome: CallOutcome, duration: Duration) {
        let series = self.0.get_or_init(|| Box::new(CallSeries::new(labels)));
        let ended = &series.ended[outcome.index()];
        ended.get_or_init(|| labels.ended(outcome)).increment(1);
        series.duration.record(duration.as_secs_f64());
    }
}

impl CallSeries {
    fn new(labels: CallLabels<'_>) -> Self {
        Self { ended: std::array::from_fn(|_| OnceLock::new()), duration: labels.duration() }
    }
}

impl CallLabels<'_> {
    fn ended(self, outcome: CallOutcome) -> Counter {
        let (route, upstream) = (self.route.to_owned(), self.upstream.to_owned());
        counter!(CALLS, "ingress" => self.ingress, "route" => route, "upstream" => upstream,
            "outcome" => outcome.as_str())
    }

    fn duration(self) -> Histogram {
        let (route, upstream) = (self.route.to_owned(), self.upstream.to_owned());
        histogram!(CALL_DURATION, "ingress" => self.ingress, "route" => route,
            "upstream" => upstream)
    }
}
