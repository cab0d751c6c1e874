//! The hub's log lines about modules: what a module that comes and goes all day makes of them is
//! summed up.
//!
//! Like lines are of one sort and about one module. They are gathered while the hub is locked, and
//! written afterwards.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing::{info, warn};

use super::shadow::Shadow;
use super::stranger::Spoken;
use crate::flood::Flood;

/// How many modules' lines of a sort are told apart at a time.
const APART: usize = 100;
/// What stands for further modules.
const OTHERS: &str = "others";

/// A sort of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sort {
    Registered,
    Waiting,
    Active,
    Inactive,
    Left,
    Refused,
    NotKnown,
    GaveWay,
    Shadowed,
    Uncallable,
    Slow,
    EndlessLine,
    HalfLine,
    Stranger,
    NotTaken,
    NoJson,
    HookNotDelivered,
    NoMemory,
}

impl Sort {
    fn message(self) -> &'static str {
        match self {
            Sort::Registered => "module registered",
            Sort::Waiting => "module registered, not active yet",
            Sort::Active => "module active",
            Sort::Inactive => "module inactive: a dependency went away",
            Sort::Left => "module disconnected",
            Sort::Refused => "module refused",
            Sort::NotKnown => {
                "module not known by its id any more: `allow` refuses its calls until it registers \
                 with the token"
            }
            Sort::GaveWay => {
                "disconnected: the module had not shown the token for its id, and another one has"
            }
            Sort::Shadowed => {
                "nobody will call this module by that name: a [[routes]] row sends the calls \
                 elsewhere"
            }
            Sort::Uncallable => {
                "nobody can call this function: a call's name has letters, digits and `_` alone"
            }
            Sort::Slow => {
                "disconnected: the module does not read what is sent to it ([hub] max_queue)"
            }
            Sort::EndlessLine => "disconnected: a line without an end ([hub] max_line)",
            Sort::HalfLine => "disconnected: the rest of a line did not come ([hub] stall_timeout)",
            Sort::Stranger => {
                "disconnected: no module speaks there (a web page? or a client that means [http] \
                 listen)"
            }
            Sort::NotTaken => "a module's answer was not taken",
            Sort::NoJson => {
                "a module's line is ignored: it is no JSON (NaN? bytes that are no UTF-8?)"
            }
            Sort::HookNotDelivered => "hook not delivered",
            Sort::NoMemory => {
                "disconnected: the module does not read, and there is no memory for what waits \
                 (max_memory)"
            }
        }
    }

    /// Whether something is wrong.
    fn warns(self) -> bool {
        match self {
            Sort::Registered | Sort::Waiting | Sort::Active | Sort::Left => false,
            Sort::Inactive
            | Sort::Refused
            | Sort::NotKnown
            | Sort::GaveWay
            | Sort::Shadowed
            | Sort::Uncallable
            | Sort::Slow
            | Sort::EndlessLine
            | Sort::HalfLine
            | Sort::Stranger
            | Sort::NotTaken
            | Sort::NoJson
            | Sort::HookNotDelivered
            | Sort::NoMemory => true,
        }
    }
}

/// What is to be said of a module.
#[derive(Debug)]
pub(super) enum Entry {
    /// It registered, and may wait for something.
    Registered { version: String, waits_for: Option<String> },
    /// Its dependencies are met.
    Active,
    /// A dependency went away.
    Inactive,
    /// Its connection ended.
    Left { unanswered_calls: usize },
    /// It was not let in.
    Refused { why: String },
    /// It has lost its id, and stays connected.
    NotKnown { why: &'static str },
    /// It held an id that another one has shown the token for.
    GaveWay,
    /// A row of the routing table takes calls from it.
    Shadowed(Shadow),
    /// It declared a function by a name that no call can have.
    Uncallable { function: String },
    /// It did not read: so much waited for it.
    Slow { limit: String },
    /// It sent a line without an end.
    EndlessLine,
    /// It left a line half for so long.
    HalfLine { limit: String },
    /// It did not begin with frames.
    Stranger { spoke: Spoken },
    /// Its answer could not be taken.
    NotTaken { why: String },
    /// It sent a line that is no JSON.
    NoJson,
    /// It did not get a hook that it listens to.
    HookNotDelivered { hook: String, why: String },
    /// It did not read, and there was no memory for what waited.
    NoMemory,
}

impl Entry {
    fn sort(&self) -> Sort {
        match self {
            Entry::Registered { waits_for: None, .. } => Sort::Registered,
            Entry::Registered { waits_for: Some(_), .. } => Sort::Waiting,
            Entry::Active => Sort::Active,
            Entry::Inactive => Sort::Inactive,
            Entry::Left { .. } => Sort::Left,
            Entry::Refused { .. } => Sort::Refused,
            Entry::NotKnown { .. } => Sort::NotKnown,
            Entry::GaveWay => Sort::GaveWay,
            Entry::Shadowed(_) => Sort::Shadowed,
            Entry::Uncallable { .. } => Sort::Uncallable,
            Entry::Slow { .. } => Sort::Slow,
            Entry::EndlessLine => Sort::EndlessLine,
            Entry::HalfLine { .. } => Sort::HalfLine,
            Entry::Stranger { .. } => Sort::Stranger,
            Entry::NotTaken { .. } => Sort::NotTaken,
            Entry::NoJson => Sort::NoJson,
            Entry::HookNotDelivered { .. } => Sort::HookNotDelivered,
            Entry::NoMemory => Sort::NoMemory,
        }
    }

    fn write(&self, module: &str) {
        let message = self.sort().message();
        match self {
            Entry::Registered { version, waits_for: None } => info!(module, version, "{message}"),
            Entry::Registered { version, waits_for } => {
                info!(module, version, waits_for, "{message}");
            }
            Entry::Active => info!(module, "{message}"),
            Entry::Left { unanswered_calls } => info!(module, unanswered_calls, "{message}"),
            Entry::Refused { why } | Entry::NotTaken { why } => warn!(module, why, "{message}"),
            Entry::NotKnown { why } => warn!(module, why, "{message}"),
            Entry::Stranger { spoke } => warn!(%spoke, "{message}"),
            Entry::HookNotDelivered { hook, why } => warn!(module, hook, why, "{message}"),
            Entry::Shadowed(shadow) => {
                let Shadow { name, row, r#match, upstream, .. } = shadow;
                warn!(module, name, row, r#match, upstream, "{message}");
            }
            Entry::Uncallable { function } => warn!(module, function, "{message}"),
            Entry::Slow { limit } | Entry::HalfLine { limit } => warn!(module, limit, "{message}"),
            Entry::Inactive
            | Entry::GaveWay
            | Entry::EndlessLine
            | Entry::NoJson
            | Entry::NoMemory => {
                warn!(module, "{message}");
            }
        }
    }
}

/// The log of modules.
pub(super) struct Journal(Mutex<Flood<(Sort, String)>>);

impl Journal {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Flood::new(APART)))
    }

    /// Writes a line about a module, or counts it where enough of its like were written.
    pub(super) fn write(&self, module: &str, entry: &Entry) {
        let key = (entry.sort(), module.to_owned());
        let others = |(sort, _)| (sort, OTHERS.to_owned());
        let admitted = self.lock().admits(key, others, Instant::now());
        if admitted {
            entry.write(module);
        }
    }

    /// Writes how many lines were left out lately, whether their time is over or not where `all`
    /// is set. To be called every second or so.
    pub(super) fn sum_up(&self, all: bool) {
        let sums = self.lock().sums((!all).then(Instant::now));
        for ((sort, module), more) in sums {
            let line = sort.message();
            if sort.warns() {
                warn!(line, module, more, "more lines of the same kind");
            } else {
                info!(line, module, more, "more lines of the same kind");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flood<(Sort, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
