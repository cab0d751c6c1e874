//! Topics: what browsers may hear. A topic keeps its last events, so that whoever was away for a
//! while hears what it has missed, or how much that is.
//!
//! An event is written out once, whoever many listen; each listener has a queue of its own, so that
//! a slow one holds up nobody.

mod absent;
mod admission;
mod ring;
mod silence;
mod subscription;
mod told;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::call::Payload;
use crate::caller::Caller;
use crate::fault::Fault;
use crate::route::access::Access;
use crate::route::pattern::Pattern;
use absent::Absent;
pub use admission::MOST_WANTED;
use admission::{admit, narrow, rule};
use ring::{Ring, Since};
use silence::{Look, Silence};
use subscription::Listener;
pub use subscription::{Notice, Resume, Subscription};
pub use told::Told;

/// How many topics are known at once; one that nobody listens to makes room, or else any, the one that has been
/// silent for longest.
const MOST_TOPICS: usize = 10_000;
/// What all rings hold together, in bytes.
const MOST_KEPT: usize = 64 << 20;

/// Which topics there are, and what is kept of them: a `[[topics]]` row.
#[derive(Clone, Debug)]
pub struct TopicRule {
    /// Their names.
    pub pattern: Pattern,
    /// How many events a topic keeps.
    pub keep: usize,
    /// How many bytes.
    pub keep_bytes: usize,
    /// Who may listen.
    pub access: Access,
    /// What becomes of a listener that is too slow.
    pub lag: Lag,
}

/// What becomes of a listener that is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// It hears how many it has missed.
    Tell,
    /// It hears no more.
    Disconnect,
}

/// The topics.
pub struct Topics(Mutex<State>);

struct State {
    rules: Arc<[TopicRule]>,
    topics: HashMap<Arc<str>, Topic>,
    /// Which of them makes room.
    silence: Silence,
    /// Who listens to topics by their names that had to make room.
    absent: Absent,
    /// Those whose patterns may fit topics to come.
    globs: Vec<Weak<Listener>>,
    /// Bytes in all rings.
    kept: usize,
    /// The number of the last event of all.
    last: u64,
    /// The number of the last event of a topic that is not known any more.
    forgotten: u64,
    /// Where the numbers of this process begin: behind those of any before it.
    base: u64,
}

struct Topic {
    rule: TopicRule,
    ring: Ring,
    listeners: Vec<Weak<Listener>>,
}

impl Topic {
    fn leave(&mut self, listener: &Arc<Listener>) {
        self.listeners.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(listener)));
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Topics {
    /// Topics by these rules.
    pub fn new(rules: Vec<TopicRule>) -> Self {
        let base = first_number(SystemTime::now());
        Self(Mutex::new(State {
            rules: rules.into(),
            topics: HashMap::new(),
            silence: Silence::default(),
            absent: Absent::default(),
            globs: Vec::new(),
            kept: 0,
            last: base,
            forgotten: 0,
            base,
        }))
    }

    /// Puts other rules in force. Topics that no rule names any more are forgotten. Who listens to them, or
    /// may not listen to some any more, hears no more of those, and is told so.
    pub fn set_rules(&self, rules: Vec<TopicRule>) {
        let mut state = self.state();
        let state = &mut *state;
        state.rules = rules.into();
        let rules = Arc::clone(&state.rules);
        for listener in state.listeners() {
            narrow(&rules, &listener);
        }
        let (mut freed, mut forgotten) = (0, state.forgotten);
        state.topics.retain(|name, topic| match rule(&rules, name) {
            Some(rule) => {
                topic.rule = rule.clone();
                let may = |listener: Arc<Listener>| listener.wants(name) && listener.may_hear(rule);
                topic.listeners.retain(|listener| listener.upgrade().is_some_and(may));
                freed += topic.ring.fit(rule.keep, rule.keep_bytes);
                true
            }
            None => {
                freed += topic.ring.bytes();
                forgotten = forgotten.max(topic.ring.last_number());
                false
            }
        });
        state.kept -= freed;
        state.forgotten = forgotten;
        state.silence.retain(|name| state.topics.contains_key(name));
        state.absent.retain(|name, listener| {
            let listener = listener.upgrade().filter(|listener| listener.names(name));
            rule(&rules, name).zip(listener).is_some_and(|(rule, it)| it.may_hear(rule))
        });
        state.globs.retain(|listener| listener.upgrade().is_some_and(|it| it.has_globs()));
    }

    /// Whether a row names the topic.
    pub fn has(&self, topic: &str) -> bool {
        rule(&self.state().rules, topic).is_some()
    }

    /// Tells everybody who listens to the topic. False where no row names it.
    pub fn publish(&self, topic: &str, data: &Payload, time: SystemTime) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        if !state.topics.contains_key(topic) && !state.add_topic(topic) {
            return false;
        }
        state.last += 1;
        let number = state.last;
        let Some((name, _)) = state.topics.get_key_value(topic) else { return false };
        let name = Arc::clone(name);
        let Some(topic) = state.topics.get_mut(&name) else { return false };
        let is_first = topic.ring.last_number() == 0;
        let told = Arc::new(Told::new(name, topic.ring.next_id(), number, data, time));
        topic.listeners.retain(|listener| match listener.upgrade() {
            Some(listener) => {
                if is_first && listener.was_away_before(told.topic()) {
                    listener.tell_gap(told.topic(), None);
                }
                listener.tell(&told, topic.rule.lag);
                true
            }
            None => false,
        });
        let before = topic.ring.bytes();
        topic.ring.push(told, topic.rule.keep, topic.rule.keep_bytes);
        state.kept = state.kept + topic.ring.bytes() - before;
        state.make_room();
        true
    }

    /// Some events of a topic were missed before they came here: everybody hears that.
    pub fn gap(&self, topic: &str) {
        let state = self.state();
        let fits = |name: &str| name == topic || Pattern::new(topic).matches(name);
        let known = state.topics.iter().map(|(name, topic)| (name, &topic.listeners));
        for (name, listeners) in known.chain(state.absent.iter()).filter(|(name, _)| fits(name)) {
            for listener in listeners.iter().filter_map(Weak::upgrade) {
                listener.tell_gap(name, None);
            }
        }
    }

    /// Listens to topics: see [`Topics::add`].
    pub fn subscribe(
        &self,
        caller: Caller,
        wanted: &[Pattern],
        since: &Resume,
    ) -> Result<Subscription, Fault> {
        let subscription = Self::listener(caller);
        self.add(&subscription, wanted, since)?;
        Ok(subscription)
    }

    /// Somebody who listens to nothing yet.
    pub fn listener(caller: Caller) -> Subscription {
        Subscription::new(caller)
    }

    /// Lets somebody listen to further topics: names, or globs over them. This is the one place
    /// where a subscription is admitted. What was missed `since` then, where it is still there,
    /// comes first.
    pub fn add(
        &self,
        subscription: &Subscription,
        wanted: &[Pattern],
        since: &Resume,
    ) -> Result<(), Fault> {
        let mut state = self.state();
        let listener = subscription.listener();
        let before = subscription.wanted();
        let is_new = |pattern: &&Pattern| !before.contains(pattern);
        let new: Vec<Pattern> = wanted.iter().filter(is_new).cloned().collect();
        let all = [&before[..], &new[..]].concat();
        admit(&state.rules, &subscription.caller(), wanted, &all)?;
        listener.tell_departure(state.silence.departures());
        let fitting = state.fitting(&new);
        let is_unknown = |it: &&Pattern| it.is_literal() && !state.topics.contains_key(it.as_str());
        let count = fitting.len() + new.iter().filter(is_unknown).count();
        let since = &state.of_all(since, listener, (&fitting, count));
        let hears = |name: &str| before.iter().any(|pattern| pattern.matches(name));
        let (mut missed, mut named) = (Vec::new(), HashSet::new());
        let names = new.iter().filter(|pattern| pattern.is_literal()).map(Pattern::as_str);
        let resumed = since.names().filter(|name| new.iter().any(|new| new.matches(name)));
        for name in names.clone().chain(resumed.take(MOST_WANTED)) {
            // Its number is known from now on, to whoever resumes.
            let is_known = state.topics.contains_key(name) || state.add_topic(name);
            if is_known && named.insert(name) && !hears(name) {
                // Before the next one: that may take its place.
                missed.extend(state.join(listener, name, since));
            }
        }
        for name in fitting {
            if !hears(&name) && !named.contains(&*name) {
                missed.extend(state.join(listener, &name, since));
            }
        }
        missed.sort_by_key(|told: &Arc<Told>| told.number());
        listener.begin_with(missed);
        state.globs.retain(|other| other.strong_count() > 0);
        let is_known = before.iter().any(|pattern| !pattern.is_literal());
        let has_globs = new.iter().any(|pattern| !pattern.is_literal());
        if !is_known && has_globs {
            state.globs.push(Arc::downgrade(listener));
        }
        if has_globs && since.is_before(state.base) {
            listener.comes_from_before();
        }
        for name in names.filter(|name| !hears(name)) {
            if !state.topics.contains_key(name) {
                state.absent.enter(&name.into(), std::iter::once(Arc::downgrade(listener)));
            }
        }
        listener.wanted().extend(new);
        Ok(())
    }

    /// Somebody who listens is known anew. What it may not hear as that any more, it hears no more, and
    /// is told so.
    pub fn renew(&self, subscription: &Subscription, caller: Caller) {
        let mut state = self.state();
        let listener = subscription.listener();
        subscription.renew(caller);
        let gone = narrow(&state.rules, listener);
        state.left(listener, &gone);
        // Of a glob that stays, some topics may be others' now.
        for (name, topic) in &mut state.topics {
            if !(listener.wants(name) && listener.may_hear(&topic.rule)) {
                topic.leave(listener);
            }
        }
    }

    /// Lets somebody listen to topics no more, by the names or globs that they were asked for.
    pub fn remove(&self, subscription: &Subscription, unwanted: &[Pattern]) {
        let mut state = self.state();
        let listener = subscription.listener();
        listener.wanted().retain(|pattern| !unwanted.contains(pattern));
        for name in state.fitting(unwanted) {
            if let Some(topic) = state.topics.get_mut(&name)
                && !listener.wants(&name)
            {
                topic.leave(listener);
            }
        }
        state.left(listener, unwanted);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// All who listen to something, each once.
    fn listeners(&self) -> Vec<Arc<Listener>> {
        let named = self.topics.values().flat_map(|topic| &topic.listeners);
        let absent = self.absent.iter().flat_map(|(_, listeners)| listeners);
        let all = named.chain(&self.globs).chain(absent).filter_map(Weak::upgrade);
        let mut seen = HashSet::new();
        all.filter(|listener| seen.insert(Arc::as_ptr(listener))).collect()
    }

    /// The topics that are known and wanted, each once.
    fn fitting(&self, wanted: &[Pattern]) -> HashSet<Arc<str>> {
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
    /// them. Where its topic is not named, and several of the `count` have an event by that id, the earliest is meant:
    /// better twice than never. Whether there is such an event in what the listener may not hear, it does not
    /// learn.
    fn of_all(
        &self,
        since: &Resume,
        listener: &Listener,
        (fitting, count): (&HashSet<Arc<str>>, usize),
    ) -> Resume {
        let number = |name: &str, id| {
            let topic = self.topics.get(name).filter(|topic| listener.may_hear(&topic.rule))?;
            topic.ring.number_of(id)
        };
        let found = match since {
            Resume::Event(topic, id) => number(topic, *id),
            Resume::Id(id) if count > 1 => {
                fitting.iter().filter_map(|name| number(name, *id)).min()
            }
            _ => None,
        };
        found.map_or_else(|| since.clone(), Resume::Number)
    }

    /// Makes a topic known. False where no row names it.
    fn add_topic(&mut self, name: &str) -> bool {
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

    /// Lets somebody listen to a topic that is known, where it may: what it has missed.
    fn join(&mut self, listener: &Arc<Listener>, name: &str, since: &Resume) -> Vec<Arc<Told>> {
        let base = self.base;
        let Some((name, _)) = self.topics.get_key_value(name) else { return Vec::new() };
        let name = Arc::clone(name);
        let Some(topic) = self.topics.get_mut(&name) else { return Vec::new() };
        if !listener.may_hear(&topic.rule) {
            return Vec::new();
        }
        topic.listeners.push(Arc::downgrade(listener));
        let Since::Events { gap, events } = topic.ring.since(since.of(&name), base) else {
            return Vec::new();
        };
        if let Some(missing) = gap {
            listener.tell_gap(&name, missing);
        }
        events
    }

    /// Somebody does not listen to these any more, by the names or globs that it gave.
    fn left(&mut self, listener: &Arc<Listener>, patterns: &[Pattern]) {
        self.absent.leave(listener, patterns);
        if !listener.has_globs() {
            self.globs.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(listener)));
        }
        self.silence.departures().count();
    }

    fn forget_one(&mut self) {
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

    /// Lets go of the oldest events of whichever topic keeps most, until what is kept fits: a noisy topic
    /// costs a quiet one nothing.
    fn make_room(&mut self) {
        while self.kept > MOST_KEPT {
            let rings = self.topics.values_mut().map(|topic| &mut topic.ring);
            let largest = rings.filter(|ring| ring.bytes() > 0).max_by_key(|ring| ring.bytes());
            let Some(ring) = largest else { return };
            self.kept -= ring.let_go();
        }
    }
}

/// A number that no earlier process has reached, at up to a million events a second, and that
/// JavaScript can count on from.
fn first_number(now: SystemTime) -> u64 {
    /// The beginning of 2024.
    const BEGIN: u64 = 1_704_067_200;
    let seconds = now.duration_since(UNIX_EPOCH).map_or(BEGIN, |since| since.as_secs());
    seconds.saturating_sub(BEGIN) << 20
}

#[cfg(test)]
mod tests;
