//! Which topics there are, what they keep, and who listens to them: what every use of them holds the lock of.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::absent::Absent;
use super::admission::rule;
use super::ring::{Ring, Since};
use super::silence::{Look, Silence};
use super::subscription::Listener;
use super::told::Alive;
use super::{Resume, TopicRule};
use crate::route::pattern::Pattern;

/// How many topics are known at once; one that nobody listens to makes room, or else any, the one that has been
/// silent for longest.
pub(super) const MOST_TOPICS: usize = 10_000;
/// What all rings hold together, in bytes.
pub(super) use crate::route::bridge::MOST_KEPT_BYTES as MOST_KEPT;
/// How many bytes of events may wait for listeners that no ring holds any more.
pub(super) const MOST_LEFT_BEHIND: usize = 16 << 20;
/// How much less the rings hold when they have let go of some.
pub(super) const ROOM_MADE: usize = 1 << 20;
/// What a topic takes beside its events, in bytes: its place in a table that is half empty at worst, its name, the
/// first places of its ring, and its entry among those that make room.
const TOPIC: usize = 2 * (size_of::<Topic>() + size_of::<Arc<str>>()) + 160;

pub(super) struct State {
    pub(super) rules: Arc<[TopicRule]>,
    pub(super) topics: HashMap<Arc<str>, Topic>,
    /// Which of them makes room.
    pub(super) silence: Silence,
    /// Who listens to topics by their names that had to make room.
    pub(super) absent: Absent,
    /// Those whose patterns may fit topics to come.
    pub(super) globs: Vec<Weak<Listener>>,
    /// What the events in all rings take.
    pub(super) kept: usize,
    /// What those take, and those that wait for listeners.
    pub(super) alive: Alive,
    /// The number of the last event of all.
    pub(super) last: u64,
    /// The number of the last event of a topic that is not known any more.
    pub(super) forgotten: u64,
    /// Where the numbers of this process begin: behind those of any before it.
    pub(super) base: u64,
}

pub(super) struct Topic {
    pub(super) rule: TopicRule,
    pub(super) ring: Ring,
    pub(super) listeners: Vec<Weak<Listener>>,
}

impl Topic {
    /// Those who have gone make room for whoever comes: where nothing is published, nobody else looks for them.
    fn enter(&mut self, listener: &Arc<Listener>) {
        if self.listeners.len() == self.listeners.capacity() {
            self.listeners.retain(|other| other.strong_count() > 0);
            // As much again as there are: so all that come meanwhile pay for one look.
            self.listeners.reserve(self.listeners.len() + 1);
        }
        self.listeners.push(Arc::downgrade(listener));
    }

    pub(super) fn leave(&mut self, listener: &Arc<Listener>) {
        self.listeners.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(listener)));
    }
}

impl State {
    /// Whether so much waits for slow listeners that no more is put aside for them: they have to take it out of the
    /// rings, or miss it.
    pub(super) fn is_crowded(&self) -> bool {
        self.alive.bytes().saturating_sub(self.kept) >= MOST_LEFT_BEHIND
    }

    /// All who listen to something, each once.
    pub(super) fn listeners(&self) -> Vec<Arc<Listener>> {
        let named = self.topics.values().flat_map(|topic| &topic.listeners);
        let absent = self.absent.iter().flat_map(|(_, listeners)| listeners);
        let all = named.chain(&self.globs).chain(absent).filter_map(Weak::upgrade);
        let mut seen = HashSet::new();
        all.filter(|listener| seen.insert(Arc::as_ptr(listener))).collect()
    }

    /// The topics that are known and wanted, each once.
    pub(super) fn fitting(&self, wanted: &[Pattern]) -> HashSet<Arc<str>> {
        let (names, globs): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|pattern| pattern.is_literal());
        let named = names.into_iter().filter_map(|name| self.topics.get_key_value(name.as_str()));
        let mut fitting: HashSet<_> = named.map(|(name, _)| Arc::clone(name)).collect();
        if !globs.is_empty() {
            let fits = |name: &&Arc<str>| globs.iter().any(|glob| glob.matches(name));
            fitting.extend(self.topics.keys().filter(fits).cloned());
        }
        fitting
    }

    /// Where somebody goes on that names one topic's event for several topics: behind the event, in all of
    /// them. Where its topic is not named, and several of the `count` had an event by that id, the earliest is meant, or the
    /// earliest that it may have been: better twice than never. Whether there is such an event in what the listener may
    /// not hear, it does not learn.
    pub(super) fn of_all(
        &self,
        since: &Resume,
        listener: &Listener,
        (fitting, count): (&HashSet<Arc<str>>, usize),
    ) -> Resume {
        let number = |name: &str, id| {
            let topic = self.topics.get(name).filter(|topic| listener.may_hear(&topic.rule))?;
            topic.ring.number_of(id)
        };
        // An event's number is never below its id.
        match since {
            Resume::Event(topic, id) => Resume::Number(number(topic, *id).unwrap_or(*id)),
            Resume::Id(id) if count > 1 => {
                let found = fitting.iter().filter_map(|name| number(name, *id)).min();
                Resume::Number(found.unwrap_or(*id))
            }
            _ => since.clone(),
        }
    }

    /// Makes a topic known. False where no row names it.
    pub(super) fn add_topic(&mut self, name: &str) -> bool {
        let Some(rule) = rule(&self.rules, name).cloned() else { return false };
        if self.topics.len() >= MOST_TOPICS {
            self.forget_one();
        }
        let name: Arc<str> = name.into();
        let fits = |listener: &Arc<Listener>| listener.wants(&name) && listener.may_hear(&rule);
        let by_globs = self.globs.iter().filter_map(Weak::upgrade).filter(fits);
        let mut listeners: Vec<_> =
            by_globs.map(|listener| (Arc::as_ptr(&listener), listener)).collect();
        let back = self.absent.take(&name);
        for listener in back.into_iter().filter(fits) {
            // Its ids do not go on where they were.
            listener.tell_gap(&name, None);
            listeners.push((Arc::as_ptr(&listener), listener));
        }
        listeners.sort_unstable_by_key(|(place, _)| *place);
        listeners.dedup_by_key(|(place, _)| *place);
        let listeners = listeners.iter().map(|(_, listener)| Arc::downgrade(listener)).collect();
        // A topic that was forgotten may come back: its numbers go on, too.
        let ring = Ring::new(self.last.max(self.base), self.forgotten);
        self.silence.enter(&name);
        self.topics.insert(name, Topic { rule, ring, listeners });
        true
    }

    /// Lets somebody listen to a topic that is known, where it may: the first that it has missed.
    pub(super) fn join(
        &mut self,
        listener: &Arc<Listener>,
        name: &str,
        since: &Resume,
    ) -> Option<(Arc<str>, u64)> {
        let numbers = (self.base, self.last);
        let name = Arc::clone(self.topics.get_key_value(name)?.0);
        let topic = self.topics.get_mut(&name)?;
        if !listener.may_hear(&topic.rule) {
            return None;
        }
        topic.enter(listener);
        let Since::Events { gap, first } = topic.ring.since(since.of(&name), numbers) else {
            return None;
        };
        if let Some(missing) = gap {
            listener.tell_gap(&name, missing);
        }
        Some((name, first?))
    }

    /// Somebody does not listen to these any more, by the names or globs that it gave.
    pub(super) fn left(&mut self, listener: &Arc<Listener>, patterns: &[Pattern]) {
        self.absent.leave(listener, patterns);
        if !listener.has_globs() {
            self.globs.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(listener)));
        }
        self.silence.departures().count();
    }

    pub(super) fn forget_one(&mut self) {
        let topics = &self.topics;
        let look = |name: &str| {
            topics.get(name).map(|topic| Look {
                last_number: topic.ring.last_number(),
                is_heard: topic.listeners.iter().any(|listener| listener.strong_count() > 0),
            })
        };
        let Some(name) = self.silence.take(look) else { return };
        let Some(topic) = self.topics.remove(&name) else { return };
        self.kept -= topic.ring.bytes();
        self.forgotten = self.forgotten.max(topic.ring.last_number());
        let names =
            |listener: &&Weak<Listener>| listener.upgrade().is_some_and(|it| it.names(&name));
        self.absent.enter(&name, topic.listeners.iter().filter(names).cloned());
    }

    /// What is held beside the events in the rings: the topics themselves, and what is written out for streams.
    fn beside(&self) -> usize {
        self.topics.len() * TOPIC + self.alive.frames()
    }

    /// Lets go of the oldest events of those topics that keep most, until what is kept fits: a noisy topic costs a
    /// quiet one nothing. Some more goes than has to, so that not every event looks at all topics.
    pub(super) fn make_room(&mut self) {
        let beside = self.beside();
        if self.kept + beside <= MOST_KEPT {
            return;
        }
        let mut sizes: Vec<_> = self.topics.values().map(|topic| topic.ring.bytes()).collect();
        sizes.sort_unstable();
        const ENOUGH: usize = MOST_KEPT - ROOM_MADE;
        let (mut left, count) = (ENOUGH.saturating_sub(beside), sizes.len());
        let mut shares = sizes.into_iter().enumerate().map(|(place, size)| {
            let share = left / (count - place);
            left = left.saturating_sub(size);
            (size, share)
        });
        // What each may keep at most, of those that keep more.
        let Some((_, level)) = shares.find(|(size, share)| size > share) else { return };
        let topics = self.topics.len() * TOPIC;
        for topic in self.topics.values_mut() {
            // What is written out of them for streams goes with them.
            while self.kept + topics + self.alive.frames() > ENOUGH && topic.ring.bytes() > level {
                self.kept -= topic.ring.let_go();
            }
        }
    }
}
