//! Who hears less: where other rules are in force, or somebody is known anew, it hears no more of what it may not, and is
//! told so.
//!
//! Whoever listens has chosen its globs, and to find out whether one meets a row takes time by the length of both. So that
//! is done before the topics are held, once for all who have the same glob, and only for those for whom anything has
//! changed.

use std::collections::HashMap;
use std::sync::Arc;

use super::TopicRule;
use super::state::State;
use super::subscription::Listener;
use super::wanted::Wanted;
use crate::caller::Caller;
use crate::route::pattern::Pattern;

/// Rules, and which globs meet them.
pub(super) struct Meetings {
    rules: Arc<[TopicRule]>,
    /// By globs: whether each rule does, where that has been asked.
    known: HashMap<String, Vec<Option<bool>>>,
}

/// Somebody, as the rules have it.
struct Judged {
    listener: Arc<Listener>,
    /// Which rules let it listen.
    lets: Vec<bool>,
    /// What it listens to still.
    kept: Vec<Pattern>,
    /// What it does not any more.
    gone: Vec<Pattern>,
}

impl Meetings {
    pub(super) fn new(rules: Arc<[TopicRule]>) -> Self {
        Self { rules, known: HashMap::new() }
    }

    /// Whether these are the rules.
    pub(super) fn are_of(&self, rules: &[TopicRule]) -> bool {
        *self.rules == *rules
    }

    /// Finds out what will be asked of a listener.
    pub(super) fn look_at(&mut self, listener: &Listener) {
        let lets = self.lets(&listener.caller());
        let wanted = listener.wanted().clone();
        for pattern in &wanted {
            self.may(pattern, &lets);
        }
    }

    fn lets(&self, caller: &Caller) -> Vec<bool> {
        self.rules.iter().map(|rule| rule.access.lets_listen(caller).is_ok()).collect()
    }

    /// The row that names a topic.
    fn place(&self, topic: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.pattern.matches(topic))
    }

    /// Whether somebody whom those rules let may listen to something: to a name, where its own does, and to a glob, where
    /// any that it meets does.
    fn may(&mut self, pattern: &Pattern, lets: &[bool]) -> bool {
        if pattern.is_literal() {
            return self.place(pattern.as_str()).is_some_and(|place| lets[place]);
        }
        if !self.known.contains_key(pattern.as_str()) {
            self.known.insert(pattern.as_str().to_owned(), vec![None; self.rules.len()]);
        }
        let known = self.known.get_mut(pattern.as_str()).into_iter().flatten();
        let mut rules = self.rules.iter().zip(lets).zip(known).filter(|((_, lets), _)| **lets);
        rules.any(|((rule, _), known)| *known.get_or_insert_with(|| rule.pattern.meets(pattern)))
    }

    /// Ends what somebody listens to, by the names and globs that it gave, and may not any more, and tells it so. What
    /// waits for it of that is not heard neither.
    fn narrow(&mut self, listener: Arc<Listener>) -> Judged {
        // Who it is may change at any time, and is looked at again then.
        listener.begin_judgement();
        let lets = self.lets(&listener.caller());
        let wanted = listener.wanted().clone();
        let (kept, gone): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|pattern| self.may(pattern, &lets));
        listener.wanted().clone_from(&kept);
        let judged = Judged { listener, lets, kept, gone };
        let wanted = judged.wanted();
        let mut known = HashMap::new();
        let hears = |topic: &Arc<str>| match known.get(topic) {
            Some(hears) => *hears,
            None => {
                let hears = judged.hears(&wanted, topic, self.place(topic));
                known.insert(Arc::clone(topic), hears);
                hears
            }
        };
        judged.listener.refuse(judged.gone.clone(), hears);
        judged
    }
}

impl Judged {
    fn wanted(&self) -> Wanted<'_> {
        Wanted::new(&self.kept)
    }

    /// Whether it hears a topic, which is the row's at that place.
    fn hears(&self, wanted: &Wanted<'_>, topic: &str, place: Option<usize>) -> bool {
        place.is_some_and(|place| self.lets[place]) && wanted.fits(topic)
    }
}

impl State {
    /// Puts other rules in force. Topics that no rule names any more are forgotten.
    pub(super) fn set_rules(&mut self, mut meetings: Meetings) {
        let rules = Arc::clone(&meetings.rules);
        let is_same = meetings.are_of(&self.rules);
        let mut concerned = self.listeners();
        concerned.retain(|listener| !is_same || listener.is_known_anew());
        self.rules = Arc::clone(&rules);
        if is_same && concerned.is_empty() {
            return;
        }
        let is_anew = concerned.iter().any(|listener| listener.is_known_anew());
        let judged: Vec<_> = concerned.into_iter().map(|it| meetings.narrow(it)).collect();
        let is_narrowed = is_anew || judged.iter().any(|judged| !judged.gone.is_empty());
        let heard = judged.iter().map(|it| (Arc::as_ptr(&it.listener), (it, it.wanted())));
        let heard: HashMap<_, _> = heard.collect();
        let (mut freed, mut forgotten) = (0, self.forgotten);
        self.topics.retain(|name, topic| {
            let Some(place) = meetings.place(name) else {
                freed += topic.ring.bytes();
                forgotten = forgotten.max(topic.ring.last_number());
                return false;
            };
            let rule = &rules[place];
            if is_narrowed || topic.rule.access != rule.access {
                topic.listeners.retain(|listener| match heard.get(&listener.as_ptr()) {
                    Some((judged, wanted)) => judged.hears(wanted, name, Some(place)),
                    None => is_same && listener.strong_count() > 0,
                });
            }
            topic.rule.clone_from(rule);
            freed += topic.ring.fit(rule.keep, rule.keep_bytes);
            true
        });
        drop(heard);
        self.kept -= freed;
        self.forgotten = forgotten;
        self.silence.retain(|name| self.topics.contains_key(name));
        self.absent.retain(|name, listener| {
            let listener = listener.upgrade().filter(|listener| listener.names(name));
            let place = meetings.place(name);
            place.zip(listener).is_some_and(|(place, it)| it.may_hear(&rules[place]))
        });
        self.globs.retain(|listener| listener.upgrade().is_some_and(|it| it.has_globs()));
    }

    /// Somebody who listens is known anew; as one who `may_the_same`, perhaps.
    pub(super) fn renew(&mut self, listener: &Arc<Listener>, may_the_same: bool) {
        if may_the_same && !listener.is_known_anew() {
            return;
        }
        let mut meetings = Meetings::new(Arc::clone(&self.rules));
        let judged = meetings.narrow(Arc::clone(listener));
        self.left(listener, &judged.gone);
        // Of a glob that stays, some topics may be others' now.
        let wanted = judged.wanted();
        for (name, topic) in &mut self.topics {
            if !judged.hears(&wanted, name, meetings.place(name)) {
                topic.leave(listener);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lag;
    use super::*;
    use crate::route::access::Access;

    #[test]
    fn a_glob_is_compared_once_for_all_who_have_it_and_with_rows_alone_that_let_them() {
        let rule = |pattern: &str, access| TopicRule {
            pattern: Pattern::new(pattern),
            keep: 1,
            keep_bytes: 1,
            access,
            lag: Lag::Tell,
        };
        let rules = [
            rule("a.secret.*", Access::Closed),
            rule("b.*", Access::Open),
            rule("a.*", Access::Open),
            rule("*", Access::Open),
        ];
        let mut meetings = Meetings::new(rules.into());
        let listener = |patterns: &[&str]| {
            let listener = Listener::default();
            listener.wanted().extend(patterns.iter().map(|pattern| Pattern::new(pattern)));
            Arc::new(listener)
        };
        for _ in 0..3 {
            let all = ["a.x*", "a.secret.x", "a.open", "a.secret.*"];
            let judged = meetings.narrow(listener(&all));
            assert_eq!(judged.gone, [Pattern::new("a.secret.x")]);
            assert_eq!(judged.listener.wanted().len(), 3);
        }
        let asked = |glob: &str| meetings.known[glob].iter().map(|known| known.is_some());
        assert_eq!(asked("a.x*").collect::<Vec<_>>(), [false, true, true, false]);
        assert_eq!(meetings.known.len(), 2, "names are looked up");
    }
}
