//! A listener, and what waits for it.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::backlog::{Backlog, MOST_TAKEN};
use super::gaps::Gaps;
use super::silence::Departures;
use super::state::State;
use super::told::{AMONG_ALL, Told};
use super::{Lag, TopicRule};
use crate::caller::{Caller, Denial};
use crate::route::pattern::Pattern;

/// How many bytes of events wait for a listener that takes them slowly; what comes then it takes out of the rings. What
/// waits is no copy, so that some thousand small ones cost little.
const MOST_BYTES: usize = 1 << 20;
/// The same where too much waits for all of them together: who keeps up need not look into the rings for each.
const LEAST_BYTES: usize = 16 << 10;

/// Where a listener that has been away goes on.
#[derive(Clone, Debug, Default)]
pub enum Resume {
    /// With what comes from now on.
    #[default]
    Now,
    /// Behind an event of each topic, by its id.
    Ids(HashMap<String, u64>),
    /// Behind an event of whichever topic it is, by its id.
    Id(u64),
    /// Behind an event by its topic and id, in all topics.
    Event(String, u64),
    /// Behind an event by its number among all.
    Number(u64),
}

/// Where it goes on in one topic.
#[derive(Clone, Copy)]
pub(super) enum Point {
    Now,
    Id(u64),
    Number(u64),
}

impl Resume {
    /// Behind what a stream of events, or an event's data, had as its id.
    pub fn behind(id: u64) -> Self {
        id.checked_sub(AMONG_ALL).map_or(Self::Id(id), Self::Number)
    }

    /// The topics that it names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let ids = match self {
            Resume::Ids(ids) => Some(ids.keys().map(String::as_str)),
            _ => None,
        };
        ids.into_iter().flatten()
    }

    /// Whether it is a place among all topics, and none of this process's numbers: then nobody knows which topics
    /// there were.
    pub(super) fn is_anothers(&self, numbers: RangeInclusive<u64>) -> bool {
        match self {
            Resume::Now | Resume::Ids(_) => false,
            Resume::Id(number) | Resume::Event(_, number) | Resume::Number(number) => {
                !numbers.contains(number)
            }
        }
    }

    pub(super) fn of(&self, topic: &str) -> Point {
        match self {
            Resume::Now => Point::Now,
            Resume::Ids(ids) => ids.get(topic).map_or(Point::Now, |id| Point::Id(*id)),
            Resume::Id(id) => Point::Id(*id),
            Resume::Number(number) => Point::Number(*number),
            // An event's number is never below its id.
            Resume::Event(_, id) => Point::Number(*id),
        }
    }
}

/// What a listener hears.
pub enum Notice {
    /// An event.
    Event(Arc<Told>),
    /// Events of a topic are not to be had any more: how many, where that is known.
    Gap {
        /// The topic.
        topic: Arc<str>,
        /// How many.
        missed: Option<u64>,
    },
    /// It was so slow that events of a topic were kept no more when it came to them.
    Lagged {
        /// The topic.
        topic: Arc<str>,
        /// How many.
        missed: u64,
    },
    /// It was too slow, and hears no more.
    TooSlow,
    /// What it showed has ended, and it hears no more.
    Ended(Denial),
    /// It may not listen to these any more, by the names or globs that it gave: it is known anew, or other
    /// rules are in force.
    Refused(Vec<Pattern>),
    /// Nothing of a topic: other settings are in force, and whoever hands this on looks whether the listener may
    /// still be there.
    Look,
}

impl Notice {
    /// What somebody is told whose topics were [refused](Notice::Refused) while it listened.
    pub const REFUSED: &str = "the client may not listen to these topics any more";
}

/// Somebody who listens. Who drops it hears no more.
pub struct Subscription(Arc<Listener>);

impl Subscription {
    pub(super) fn new(caller: Caller) -> Self {
        Self(Arc::new(Listener { caller: Mutex::new(caller), ..Listener::default() }))
    }

    /// Who listens.
    pub fn caller(&self) -> Caller {
        self.0.caller().clone()
    }

    /// The same caller is known anew; by [`Topics::renew`](super::Topics::renew), which looks what it may
    /// still hear.
    pub(super) fn renew(&self, caller: Caller) {
        *self.0.caller() = caller;
        // Whoever waits for the old one's end looks again.
        self.0.told.notify_one();
    }

    pub(super) fn listener(&self) -> &Arc<Listener> {
        &self.0
    }

    /// The next notice. Behind [`Notice::TooSlow`] and [`Notice::Ended`] there is none. It may be
    /// dropped at any time.
    pub async fn next(&self) -> Notice {
        loop {
            let told = self.0.told.notified();
            let lasts = match self.0.caller().lasts() {
                Ok(lasts) => lasts,
                Err(denial) => return Notice::Ended(denial),
            };
            if let Some(notice) = self.try_next() {
                return notice;
            }
            match lasts {
                None => told.await,
                // Whether it was told or not, both are looked at.
                Some(lasts) => drop(timeout(lasts, told).await),
            }
        }
    }

    /// What waits already; does not wait for more.
    pub fn try_next(&self) -> Option<Notice> {
        let mut waiting = self.0.waiting();
        let notice = waiting.next();
        // All that there is, for whoever keeps up.
        if notice.is_some() || waiting.backlog.is_empty() {
            return notice;
        }
        drop(waiting);
        self.0.catch_up();
        self.0.waiting().next()
    }

    /// Whether it listens to anything, or is to be told why not any more.
    pub fn wants_any(&self) -> bool {
        // One lock after the other: who refuses takes them the other way round.
        let wants = !self.0.wanted().is_empty();
        wants || !self.0.waiting().refused.is_empty()
    }

    /// Whether it was too slow, and hears no more.
    pub fn is_too_slow(&self) -> bool {
        self.0.waiting().too_slow
    }

    /// What waits for it is not told any more.
    pub fn forget(&self) {
        *self.0.waiting() = Waiting::default();
    }

    /// The topics that it listens to.
    pub fn wanted(&self) -> Vec<Pattern> {
        self.0.wanted().clone()
    }
}

#[derive(Default)]
pub(super) struct Listener {
    /// It listened by globs to another process, whose topics nobody knows.
    was_elsewhere: AtomicBool,
    caller: Mutex<Caller>,
    is_known_anew: AtomicBool,
    wanted: Mutex<Vec<Pattern>>,
    waiting: Mutex<Waiting>,
    told: Notify,
    leaving: Leaving,
    topics: OnceLock<Arc<Mutex<State>>>,
}

/// Tells when a listener has gone.
#[derive(Default)]
struct Leaving(OnceLock<Departures>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(departures) = self.0.get() {
            departures.count();
        }
    }
}

#[derive(Default)]
struct Waiting {
    /// What it could not be given, told before what comes next.
    gaps: Gaps,
    events: VecDeque<Arc<Told>>,
    bytes: usize,
    /// What there was no room for.
    backlog: Backlog,
    /// How many of each topic were kept no more when it came to them.
    missed: Vec<(Arc<str>, u64)>,
    too_slow: bool,
    /// What it may not listen to any more.
    refused: Vec<Pattern>,
    /// Other settings are in force.
    look: bool,
}

impl Waiting {
    fn next(&mut self) -> Option<Notice> {
        if std::mem::take(&mut self.look) {
            return Some(Notice::Look);
        }
        if self.too_slow {
            return Some(Notice::TooSlow);
        }
        if !self.refused.is_empty() {
            return Some(Notice::Refused(std::mem::take(&mut self.refused)));
        }
        if let Some((topic, missed)) = self.gaps.pop() {
            return Some(Notice::Gap { topic, missed });
        }
        // What was missed lies before all that waits.
        if let Some((topic, missed)) = self.missed.pop() {
            return Some(Notice::Lagged { topic, missed });
        }
        let told = self.events.pop_front()?;
        self.bytes -= told.size();
        Some(Notice::Event(told))
    }
}

impl Listener {
    pub(super) fn wanted(&self) -> MutexGuard<'_, Vec<Pattern>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes on where it was with another process, by globs.
    pub(super) fn comes_from_elsewhere(&self) {
        self.was_elsewhere.store(true, Ordering::Relaxed);
    }

    /// Whether it may have missed events of a topic that had none here yet, unless it named that: then it
    /// has been told.
    pub(super) fn was_elsewhere(&self, topic: &str) -> bool {
        self.was_elsewhere.load(Ordering::Relaxed) && !self.names(topic)
    }

    pub(super) fn wants(&self, topic: &str) -> bool {
        self.wanted().iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether it listens to a topic by its name.
    pub(super) fn names(&self, topic: &str) -> bool {
        self.wanted().iter().any(|pattern| pattern.is_literal() && pattern.as_str() == topic)
    }

    /// Whether it listens to whatever a glob fits.
    pub(super) fn has_globs(&self) -> bool {
        !self.wanted().iter().all(Pattern::is_literal)
    }

    /// It is to be counted when it goes.
    pub(super) fn tell_departure(&self, departures: &Departures) {
        self.leaving.0.get_or_init(|| departures.clone());
    }

    pub(super) fn caller(&self) -> MutexGuard<'_, Caller> {
        let mut caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if caller.refresh() {
            self.is_known_anew.store(true, Ordering::Relaxed);
        }
        caller
    }

    /// Whether it is known as something else than when it was looked at last what it may hear.
    pub(super) fn is_known_anew(&self) -> bool {
        self.is_known_anew.load(Ordering::Relaxed)
    }

    /// It is looked at what it may hear.
    pub(super) fn begin_judgement(&self) {
        self.is_known_anew.store(false, Ordering::Relaxed);
    }

    pub(super) fn may_hear(&self, rule: &TopicRule) -> bool {
        rule.access.lets_listen(&self.caller()).is_ok()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it what it has missed, as much as may wait for it, and the rest when it has taken that.
    pub(super) fn begin_with(&self, state: &State, missed: Backlog) {
        let mut waiting = self.waiting();
        let room = MOST_BYTES.saturating_sub(waiting.bytes);
        let room = if state.is_crowded() { 0 } else { room };
        waiting.backlog.extend(missed);
        drop(waiting);
        self.take_out(state, room);
        self.told.notify_one();
    }

    /// Tells it of an event; `oldest` is the first of its topic that is kept. Where it `is_crowded`, little waits.
    pub(super) fn tell(&self, told: &Arc<Told>, lag: Lag, oldest: u64, is_crowded: bool) {
        let mut waiting = self.waiting();
        if waiting.too_slow {
            return;
        }
        let is_full = waiting.bytes >= if is_crowded { LEAST_BYTES } else { MOST_BYTES };
        // What comes behind a backlog is a part of it, whatever its topic is: so the order stays.
        if !is_full && waiting.backlog.is_empty() {
            waiting.bytes += told.size();
            waiting.events.push_back(Arc::clone(told));
        } else if let Some(first) = waiting.backlog.get(told.topic()) {
            if *first < oldest && lag == Lag::Disconnect {
                *waiting = Waiting { too_slow: true, ..Waiting::default() };
            }
        } else {
            waiting.backlog.insert(Arc::clone(told.topic()), told.id());
        }
        drop(waiting);
        self.told.notify_one();
    }

    /// Takes the next of what there was no room for out of the rings.
    fn catch_up(&self) {
        let Some(topics) = self.topics.get() else { return };
        // As long as it is held, nothing is told.
        let state = topics.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_out(&state, if state.is_crowded() { LEAST_BYTES } else { MOST_TAKEN });
    }

    fn take_out(&self, state: &State, most: usize) {
        let backlog = std::mem::take(&mut self.waiting().backlog);
        let caught = state.catch_up(backlog, most);
        let mut waiting = self.waiting();
        if caught.is_too_slow {
            *waiting = Waiting { too_slow: true, ..Waiting::default() };
            return;
        }
        waiting.bytes += caught.events.iter().map(|told| told.size()).sum::<usize>();
        waiting.events.extend(caught.events);
        waiting.backlog = caught.backlog;
        waiting.missed.extend(caught.lagged);
        caught.gaps.iter().for_each(|topic| waiting.gaps.enter(topic, None));
    }

    /// It does not listen to a topic any more: what of it is in its backlog is not told, nor what it missed of it.
    pub(super) fn let_go(&self, topic: &str) {
        let mut waiting = self.waiting();
        waiting.backlog.remove(topic);
        waiting.gaps.remove(topic);
    }

    /// Where it takes its backlog from.
    pub(super) fn tell_topics(&self, topics: &Arc<Mutex<State>>) {
        self.topics.get_or_init(|| Arc::clone(topics));
    }

    /// It hears of these topics no more, not what waits for it neither.
    pub(super) fn refuse(
        &self,
        patterns: Vec<Pattern>,
        mut may_hear: impl FnMut(&Arc<str>) -> bool,
    ) {
        let mut waiting = self.waiting();
        let Waiting { gaps, events, bytes, backlog, missed, refused, .. } = &mut *waiting;
        gaps.retain(&mut may_hear);
        missed.retain(|(topic, _)| may_hear(topic));
        backlog.retain(|topic, _| may_hear(topic));
        events.retain(|told| may_hear(told.topic()));
        *bytes = events.iter().map(|told| told.size()).sum();
        refused.extend(patterns);
        drop(waiting);
        self.told.notify_one();
    }

    pub(super) fn look(&self) {
        self.waiting().look = true;
        self.told.notify_one();
    }

    pub(super) fn tell_gap(&self, topic: &Arc<str>, missed: Option<u64>) {
        let mut waiting = self.waiting();
        waiting.gaps.enter(topic, missed);
        drop(waiting);
        self.told.notify_one();
    }
}
