//! Topics: what browsers may hear. A topic keeps its last events, so that whoever was away for a
//! while hears what it has missed, or how much that is.
//!
//! An event is written out once, whoever many listen; each listener has a queue of its own, so that
//! a slow one holds up nobody.

mod absent;
mod admission;
mod backlog;
mod gaps;
mod narrowing;
mod ring;
mod silence;
mod state;
mod subscription;
mod told;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::call::Payload;
use crate::caller::Caller;
use crate::fault::Fault;
use crate::route::access::Access;
use crate::route::pattern::Pattern;
use absent::Absent;
pub use admission::bounded;
use admission::{admit, rule};
use backlog::Backlog;
use narrowing::Meetings;
use silence::Silence;
use state::State;
use subscription::Listener;
pub use subscription::{Notice, Resume, Subscription};
use told::Alive;
pub use told::Told;
use wanted::{Wanted, beside, take_out};

/// Which topics there are, and what is kept of them: a `[[topics]]` row.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The topics. Who listens to some holds them too: what it takes slowly it takes out of them.
pub struct Topics(Arc<Mutex<State>>);

impl Default for Topics {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Topics {
    /// Topics by these rules.
    pub fn new(rules: Vec<TopicRule>) -> Self {
        let base = first_number(SystemTime::now());
        Self(Arc::new(Mutex::new(State {
            rules: rules.into(),
            topics: HashMap::new(),
            silence: Silence::default(),
            absent: Absent::default(),
            globs: Vec::new(),
            kept: 0,
            alive: Alive::default(),
            last: base,
            forgotten: 0,
            base,
        })))
    }

    /// Puts other rules in force. Topics that no rule names any more are forgotten. Who listens to them, or
    /// may not listen to some any more, hears no more of those, and is told so.
    pub fn set_rules(&self, rules: Vec<TopicRule>) {
        let mut meetings = Meetings::new(rules.into());
        let listeners = self.know_listeners_anew();
        let is_same = meetings.are_of(&self.state().rules);
        for listener in listeners.iter().filter(|it| !is_same || it.is_known_anew()) {
            meetings.look_at(listener);
        }
        drop(listeners);
        self.state().set_rules(meetings);
    }

    /// Lets each token be judged by the rules for tokens that are in force: thousands of signatures take a second,
    /// and nothing can be published while the topics are held.
    fn know_listeners_anew(&self) -> Vec<Arc<Listener>> {
        let listeners = self.state().listeners();
        listeners.iter().for_each(|listener| drop(listener.caller()));
        listeners
    }

    /// Whether a row names the topic.
    pub fn has(&self, topic: &str) -> bool {
        rule(&self.state().rules, topic).is_some()
    }

    /// Whether the topic is that row's: the first one's that names it.
    pub fn is_of(&self, row: &Pattern, topic: &str) -> bool {
        rule(&self.state().rules, topic).is_some_and(|owner| owner.pattern == *row)
    }

    /// Tells everybody who listens to the topic. False where no row names it.
    pub fn publish(&self, topic: &str, data: &Payload, time: SystemTime) -> bool {
        self.tell(None, topic, data, time)
    }

    /// The same for what a row's own source brings. What is another row's topic is told by that row alone, or
    /// it would come twice.
    pub fn publish_of(&self, row: &Pattern, topic: &str, data: &Payload, time: SystemTime) {
        self.tell(Some(row), topic, data, time);
    }

    fn tell(&self, row: Option<&Pattern>, topic: &str, data: &Payload, time: SystemTime) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        let is_crowded = state.is_crowded();
        let known = state.topics.get(topic).map(|topic| &topic.rule);
        let is_known = known.is_some();
        let is_anothers = |row: &Pattern| {
            let owner = known.or_else(|| rule(&state.rules, topic));
            owner.is_none_or(|owner| owner.pattern != *row)
        };
        if row.is_some_and(is_anothers) || !(is_known || state.add_topic(topic)) {
            return false;
        }
        state.last += 1;
        let number = state.last;
        let Some((name, _)) = state.topics.get_key_value(topic) else { return false };
        let name = Arc::clone(name);
        let Some(topic) = state.topics.get_mut(&name) else { return false };
        let is_first = topic.ring.last_number() == 0;
        let numbers = (topic.ring.next_id(), number);
        let told = Arc::new(Told::new(name, numbers, data, time, &state.alive));
        let oldest = topic.ring.oldest_id();
        topic.listeners.retain(|listener| match listener.upgrade() {
            Some(listener) => {
                if is_first && listener.was_elsewhere(told.topic()) {
                    listener.tell_gap(told.topic(), None);
                }
                listener.tell(&told, topic.rule.lag, oldest, is_crowded);
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

    /// Some events of a topic, or of what a glob fits, were missed before they came here: everybody hears that.
    pub fn gap(&self, topic: &str) {
        let glob = Pattern::new(topic);
        self.tell_gap(|_, name| name == topic || glob.matches(name));
    }

    /// The same of all topics that are a row's own.
    pub fn gap_of(&self, row: &Pattern) {
        let is_its = |rules: &[TopicRule], name: &str| {
            row.matches(name) && rule(rules, name).is_some_and(|rule| rule.pattern == *row)
        };
        self.tell_gap(is_its);
    }

    fn tell_gap(&self, is_meant: impl Fn(&[TopicRule], &str) -> bool) {
        let state = self.state();
        let known = state.topics.iter().map(|(name, topic)| (name, &topic.listeners));
        let all = known.chain(state.absent.iter());
        for (name, listeners) in all.filter(|(name, _)| is_meant(&state.rules, name)) {
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
        bounded(wanted, since)?;
        let mut state = self.state();
        let listener = subscription.listener();
        let before = subscription.wanted();
        let new = beside(wanted, &before);
        admit(&state.rules, &subscription.caller(), wanted, (&before, &new))?;
        listener.tell_departure(state.silence.departures());
        listener.tell_topics(&self.0);
        let fitting = state.fitting(&new);
        let is_unknown = |it: &&Pattern| it.is_literal() && !state.topics.contains_key(it.as_str());
        let count = fitting.len() + new.iter().filter(is_unknown).count();
        let since = &state.of_all(since, listener, (&fitting, count));
        let (heard, asked) = (Wanted::new(&before), Wanted::new(&new));
        let hears = |name: &str| heard.fits(name);
        let (mut missed, mut named) = (Backlog::new(), HashSet::new());
        let names = new.iter().filter(|pattern| pattern.is_literal()).map(Pattern::as_str);
        let resumed = since.names().filter(|name| asked.fits(name));
        for name in names.clone().chain(resumed) {
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
        listener.begin_with(&state, missed);
        state.globs.retain(|other| other.strong_count() > 0);
        if asked.has_globs() && !heard.has_globs() {
            state.globs.push(Arc::downgrade(listener));
        }
        if asked.has_globs() && since.is_anothers(state.base..=state.last) {
            listener.comes_from_elsewhere();
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
        let before = subscription.caller();
        let mut state = self.state();
        let may_the_same = before.may_the_same(&caller);
        subscription.renew(caller);
        state.renew(subscription.listener(), may_the_same);
    }

    /// Lets somebody listen to topics no more, by the names or globs that they were asked for.
    pub fn remove(&self, subscription: &Subscription, unwanted: &[Pattern]) {
        let mut state = self.state();
        let listener = subscription.listener();
        let gone = take_out(&mut listener.wanted(), unwanted);
        let kept = subscription.wanted();
        let kept = Wanted::new(&kept);
        for name in state.fitting(&gone) {
            if let Some(topic) = state.topics.get_mut(&name)
                && !kept.fits(&name)
            {
                topic.leave(listener);
                listener.let_go(&name);
            }
        }
        state.left(listener, &gone);
    }

    /// Other settings are in force where listeners come in: each is told to [look](Notice::Look).
    pub fn look(&self) {
        self.state().listeners().iter().for_each(|listener| listener.look());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that no earlier process has reached, at up to a million events a second, and that
/// JavaScript can count on from. Processes that start one after the other have other ones.
fn first_number(now: SystemTime) -> u64 {
    /// The beginning of 2024.
    const BEGIN: Duration = Duration::from_secs(1_704_067_200);
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(BEGIN).saturating_sub(BEGIN);
    let fraction = (u64::from(since.subsec_nanos()) << 20) / 1_000_000_000;
    (since.as_secs() << 20) + fraction
}

#[cfg(test)]
mod tests;
