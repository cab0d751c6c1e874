//! Topics: what browsers may hear. A topic keeps its last events, so that whoever was away for a
//! while hears what it has missed, or how much that is.
//!
//! An event is written out once, whoever many listen; each listener has a queue of its own, so that
//! a slow one holds up nobody.

mod ring;
mod subscription;
mod told;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::call::Payload;
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};
use crate::route::access::{Access, Refusal};
use crate::route::pattern::Pattern;
use ring::{Ring, Since};
use subscription::Listener;
pub use subscription::{Notice, Resume, Subscription};
pub use told::Told;

/// How many topics are known at once; the one that has been silent for longest makes room.
const MOST_TOPICS: usize = 10_000;
/// What all rings hold together, in bytes.
const MOST_KEPT: usize = 64 << 20;
/// How many topics one listener may name.
pub const MOST_WANTED: usize = 1_000;
/// How many of them may be globs: each is matched with every topic.
const MOST_GLOBS: usize = 100;
/// How long the name of one may be, in bytes.
const LONGEST: usize = 256;

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
        for (name, topic) in state.topics.iter().filter(|(name, _)| fits(name)) {
            for listener in topic.listeners.iter().filter_map(Weak::upgrade) {
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
        let mut missed = Vec::new();
        let names = new.iter().filter(|pattern| pattern.is_literal()).map(Pattern::as_str);
        let resumed = since.names().filter(|name| new.iter().any(|new| new.matches(name)));
        for name in names.chain(resumed.take(MOST_WANTED)) {
            // Its number is known from now on, to whoever resumes.
            if !state.topics.contains_key(name) {
                state.add_topic(name);
            }
        }
        let (base, named) = (state.base, state.fitting(&new));
        let since = &state.of_all(since, &named);
        for name in named.into_iter().filter(|name| !listener.wants(name)) {
            let Some(topic) = state.topics.get_mut(&name) else { continue };
            if !listener.may_hear(&topic.rule) {
                continue;
            }
            topic.listeners.push(Arc::downgrade(listener));
            if let Since::Events { gap, events } = topic.ring.since(since.of(&name), base) {
                if let Some(missing) = gap {
                    listener.tell_gap(&name, missing);
                }
                missed.extend(events);
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
        if has_globs && since.is_before(base) {
            listener.comes_from_before();
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
        narrow(&state.rules, listener);
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
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// All who listen to something, each once.
    fn listeners(&self) -> Vec<Arc<Listener>> {
        let named = self.topics.values().flat_map(|topic| &topic.listeners);
        let all = named.chain(&self.globs).filter_map(Weak::upgrade);
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
    /// them. Where its topic is not named, and several have an event by that id, the earliest is meant: better twice than never.
    fn of_all(&self, since: &Resume, named: &HashSet<Arc<str>>) -> Resume {
        let number = |name: &str, id| self.topics.get(name)?.ring.number_of(id);
        let found = match since {
            Resume::Event(topic, id) => number(topic, *id),
            Resume::Id(id) if named.len() > 1 => {
                named.iter().filter_map(|name| number(name, *id)).min()
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
        let fits = |listener: &Arc<Listener>| listener.wants(name) && listener.may_hear(&rule);
        let listening = self.globs.iter().filter_map(Weak::upgrade).filter(fits);
        let listeners = listening.map(|listener| Arc::downgrade(&listener)).collect();
        // A topic that was forgotten may come back: its numbers go on, too.
        let ring = Ring::new(self.last.max(self.base), self.forgotten);
        self.topics.insert(name.into(), Topic { rule, ring, listeners });
        true
    }

    fn forget_one(&mut self) {
        let silent = self.topics.iter().min_by_key(|(_, topic)| topic.ring.last_number());
        if let Some(name) = silent.map(|(name, _)| Arc::clone(name))
            && let Some(topic) = self.topics.remove(&name)
        {
            self.kept -= topic.ring.bytes();
            self.forgotten = self.forgotten.max(topic.ring.last_number());
        }
    }

    /// Lets go of the oldest events of all, until what is kept fits.
    fn make_room(&mut self) {
        while self.kept > MOST_KEPT {
            let rings = self.topics.values_mut().map(|topic| &mut topic.ring);
            let oldest = rings.filter(|ring| ring.bytes() > 0).min_by_key(|ring| ring.oldest());
            let Some(ring) = oldest else { return };
            self.kept -= ring.let_go();
        }
    }
}

/// Ends what somebody listens to, by the names and globs that it gave, and may not any more, and tells it so.
/// What waits for it of that is not heard neither.
fn narrow(rules: &[TopicRule], listener: &Listener) {
    let caller = listener.caller().clone();
    let wanted = listener.wanted().clone();
    let may = |pattern: &Pattern| matches!(refusal(rules, &caller, pattern), Some(None));
    let (kept, gone) = wanted.into_iter().partition(may);
    *listener.wanted() = kept;
    let may_hear = |rule: &TopicRule| rule.access.lets_listen(&caller).is_ok();
    listener.refuse(gone, |name| listener.wants(name) && rule(rules, name).is_some_and(may_hear));
}

fn rule<'a>(rules: &'a [TopicRule], topic: &str) -> Option<&'a TopicRule> {
    rules.iter().find(|rule| rule.pattern.matches(topic))
}

/// `all` is what somebody would listen to then.
fn admit(
    rules: &[TopicRule],
    caller: &Caller,
    wanted: &[Pattern],
    all: &[Pattern],
) -> Result<(), Fault> {
    let refuse = |kind, message| Err(Fault::not_sent(kind, message));
    let globs = all.iter().filter(|pattern| !pattern.is_literal()).count();
    if wanted.is_empty() || all.len() > MOST_WANTED || globs > MOST_GLOBS {
        let message = format!(
            "somebody listens to 1 to {MOST_WANTED} topics, {MOST_GLOBS} of them globs at most, not \
             {} and {globs}",
            all.len()
        );
        return refuse(FaultKind::InvalidParams, message);
    }
    for pattern in wanted {
        let name = pattern.as_str();
        if name.is_empty() || name.len() > LONGEST {
            let message = format!("a topic's name has 1 to {LONGEST} bytes, not {}", name.len());
            return refuse(FaultKind::InvalidParams, message);
        }
        let refusal = refusal(rules, caller, pattern);
        if let Some(Some(refusal)) = refusal {
            return Err(refusal.fault("listen to", name, caller));
        }
        if refusal.is_none() {
            let message = format!("nobody may listen to `{name}`: no [[topics]] row names it");
            return refuse(FaultKind::AccessDenied, message);
        }
    }
    Ok(())
}

/// Why somebody may not listen, if so; none where no row names it. A name is its first row's; of what a
/// glob fits, whoever may hear some hears that.
fn refusal(rules: &[TopicRule], caller: &Caller, pattern: &Pattern) -> Option<Option<Refusal>> {
    if pattern.is_literal() {
        return rule(rules, pattern.as_str()).map(|rule| rule.access.lets_listen(caller).err());
    }
    let meeting = rules.iter().filter(|rule| rule.pattern.meets(pattern));
    let answers = meeting.map(|rule| rule.access.lets_listen(caller).err());
    answers.reduce(|one, other| one.and(other).and(one))
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
