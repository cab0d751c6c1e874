//! The books of a scenario: what every call got, against what the services ran.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::load::{Call, DEADLINE, End};

/// How late an answer may be on a machine that does little else.
const LATE: Duration = Duration::from_millis(100);
/// Within what things are to be as they were.
const RECOVERY: Duration = Duration::from_secs(5);

/// What stands for a result among the kinds of answers.
pub const RESULT: &str = "result";

/// How a scenario went, once it is mended.
#[derive(Clone, Copy, Debug)]
pub struct Struck {
    /// When what was broken was there again.
    pub mended: Instant,
    pub gateway: Ended,
}

/// What became of the gateway itself.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// It runs on.
    Not,
    /// It was asked to end, then.
    Cleanly(Instant),
    /// It was killed: who waits is told nothing.
    Killed,
}

impl Struck {
    /// It is mended now, and the gateway has run on.
    pub fn and_mended() -> Self {
        Self { mended: Instant::now(), gateway: Ended::Not }
    }
}

/// What the gateway holds when nobody calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    pub memory: f64,
    pub files: f64,
}

impl Footprint {
    /// Why this is more than it was, beyond a tenth and what is too little to tell.
    pub fn complaint(self, before: Self) -> Option<String> {
        let grown = |now: f64, before: f64, floor: f64| now - before > (before / 10.0).max(floor);
        let more = grown(self.memory, before.memory, 4e6) || grown(self.files, before.files, 4.0);
        more.then(|| format!("it was {before:?}, and is {self:?}"))
    }
}

/// The books.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub rounds: u32,
    pub calls: usize,
    /// How many got what: `result`, a fault's kind, or nothing because the connection had `ended`.
    pub answers: BTreeMap<String, usize>,
    /// Those that got no answer at all, though the gateway was not killed.
    pub unanswered: usize,
    /// Those whose answer came more than a moment after their deadline.
    pub late: usize,
    /// Those that were still waited for long after it.
    pub hung: usize,
    /// Those that got the result of another call, or of none.
    pub foreign: usize,
    /// Those that ran though their callers were told that they would not.
    pub ran_anyway: usize,
    /// From each mend to the last call that was not served.
    pub recoveries: Vec<Duration>,
    /// Whether every call must have a result.
    pub costs_nothing: bool,
    pub before: Footprint,
    pub after: Footprint,
}

impl Books {
    /// Enters a round.
    pub fn enter(&mut self, calls: &[Call], ran: &HashSet<String>, struck: Struck) {
        self.rounds += 1;
        self.calls += calls.len();
        let mut recovery = Duration::ZERO;
        for call in calls {
            let has_run = ran.contains(&call.token);
            let word = match &call.end {
                End::Result(token) => {
                    self.foreign += usize::from(*token != call.token || !has_run);
                    RESULT
                }
                End::Fault { kind, outcome } => {
                    let refused = ["not_sent", "rejected"].contains(&outcome.as_str());
                    self.ran_anyway += usize::from(refused && has_run);
                    kind
                }
                End::Closed => {
                    self.unanswered += usize::from(match struck.gateway {
                        Ended::Not => true,
                        // A client that writes to a listener that goes cannot know better.
                        Ended::Cleanly(at) => call.sent < at || has_run,
                        Ended::Killed => false,
                    });
                    "ended"
                }
                End::Hung => {
                    self.hung += 1;
                    "nothing"
                }
            };
            *self.answers.entry(word.to_owned()).or_default() += 1;
            self.late += usize::from(call.took > DEADLINE + LATE);
            if !call.is_served() && call.began > struck.mended {
                recovery = recovery.max(call.began - struck.mended);
            }
        }
        self.recoveries.push(recovery);
    }

    /// How many were served.
    pub fn results(&self) -> usize {
        self.answers.get(RESULT).copied().unwrap_or_default()
    }

    /// What must never be, on whatever machine.
    pub fn complaints(&self) -> Vec<String> {
        let counts = [
            (self.hung, "hung"),
            (self.foreign, "got an answer of another call"),
            (self.ran_anyway, "ran though they were told not_sent or rejected"),
            (self.unanswered, "got no answer"),
            (if self.costs_nothing { self.calls - self.results() } else { 0 }, "got no result"),
        ];
        let told = counts.into_iter().filter(|(count, _)| *count > 0);
        told.map(|(count, words)| format!("{count} calls {words}")).collect()
    }

    /// The same, and what a busy machine may be to blame for.
    pub fn strict_complaints(&self) -> Vec<String> {
        let mut all = self.complaints();
        if self.late > 0 {
            all.push(format!("{} calls were answered late", self.late));
        }
        if let Some(slow) = self.recoveries.iter().find(|took| **took > RECOVERY) {
            all.push(format!("calls were not served for {slow:?} after the mend"));
        }
        all.extend(self.after.complaint(self.before));
        all
    }
}
