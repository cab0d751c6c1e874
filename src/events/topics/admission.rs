//! Who may listen to what: the rows say.

use super::{Resume, TopicRule};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};
use crate::route::access::Refusal;
use crate::route::pattern::Pattern;

/// How many topics one listener may name.
pub(super) const MOST_WANTED: usize = 1_000;
/// How many of them may be globs: each is matched with every topic.
const MOST_GLOBS: usize = 100;
/// How long the name of one may be, in bytes.
const LONGEST: usize = 256;

/// Whether so much may be named at once, whatever it is. Each is compared with each topic and each other one under the
/// topics' lock, so this is looked at before anything else.
pub fn bounded(wanted: &[Pattern], since: &Resume) -> Result<(), Fault> {
    let refuse = |message| Err(Fault::not_sent(FaultKind::InvalidParams, message));
    if wanted.len() > MOST_WANTED {
        let count = wanted.len();
        return refuse(format!("{MOST_WANTED} topics at most may be named at once, not {count}"));
    }
    let count = since.names().count();
    if count > MOST_WANTED {
        return refuse(format!("`after` may name {MOST_WANTED} topics at most, not {count}"));
    }
    let mut names = wanted.iter().map(Pattern::as_str).chain(since.names());
    match names.find(|name| name.is_empty() || name.len() > LONGEST) {
        Some(name) => {
            refuse(format!("a topic's name has 1 to {LONGEST} bytes, not {}", name.len()))
        }
        None => Ok(()),
    }
}

/// The row that names a topic.
pub(super) fn rule<'a>(rules: &'a [TopicRule], topic: &str) -> Option<&'a TopicRule> {
    rules.iter().find(|rule| rule.pattern.matches(topic))
}

/// Of what was asked for, `new` is what somebody does not listen to yet, beside what it did `before`.
pub(super) fn admit(
    rules: &[TopicRule],
    caller: &Caller,
    wanted: &[Pattern],
    (before, new): (&[Pattern], &[Pattern]),
) -> Result<(), Fault> {
    let refuse = |kind, message| Err(Fault::not_sent(kind, message));
    let (all, count) = (before.iter().chain(new), before.len() + new.len());
    let globs = all.filter(|pattern| !pattern.is_literal()).count();
    if wanted.is_empty() || count > MOST_WANTED || globs > MOST_GLOBS {
        let message = format!(
            "somebody listens to 1 to {MOST_WANTED} topics, {MOST_GLOBS} of them globs at most, not \
             {count} and {globs}"
        );
        return refuse(FaultKind::InvalidParams, message);
    }
    for pattern in wanted {
        let name = pattern.as_str();
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
