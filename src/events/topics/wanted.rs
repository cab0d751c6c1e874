//! Topics that somebody names, laid out for many questions at once: names are looked up, globs alone are matched.

use std::collections::HashSet;

use crate::route::pattern::Pattern;

/// Names, and globs over them.
pub(super) struct Wanted<'a> {
    names: HashSet<&'a str>,
    globs: Vec<&'a Pattern>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(patterns: impl IntoIterator<Item = &'a Pattern>) -> Self {
        let (names, globs): (Vec<_>, Vec<_>) =
            patterns.into_iter().partition(|pattern| pattern.is_literal());
        Self { names: names.into_iter().map(Pattern::as_str).collect(), globs }
    }

    /// Whether a topic is one of them.
    pub(super) fn fits(&self, topic: &str) -> bool {
        self.names.contains(topic) || self.globs.iter().any(|glob| glob.matches(topic))
    }

    /// Whether there is a glob among them.
    pub(super) fn has_globs(&self) -> bool {
        !self.globs.is_empty()
    }
}

/// Each of them once, in the order in which they were named, but for those that somebody has.
pub(super) fn beside(wanted: &[Pattern], had: &[Pattern]) -> Vec<Pattern> {
    let mut seen: HashSet<&str> = had.iter().map(Pattern::as_str).collect();
    wanted.iter().filter(|pattern| seen.insert(pattern.as_str())).cloned().collect()
}

/// Takes out what is not wanted any more: what of that was there.
pub(super) fn take_out(wanted: &mut Vec<Pattern>, unwanted: &[Pattern]) -> Vec<Pattern> {
    let unwanted: HashSet<&str> = unwanted.iter().map(Pattern::as_str).collect();
    let is_kept = |pattern: &Pattern| !unwanted.contains(pattern.as_str());
    let (kept, gone) = std::mem::take(wanted).into_iter().partition(is_kept);
    *wanted = kept;
    gone
}
