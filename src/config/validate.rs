//! What only shows when the tables are seen together: rows that can never match, upstreams that
//! nothing goes to.

use super::route::UpstreamConfig;
use super::secret::quoted;
use super::section::Section;
use crate::router::table::Rule;

/// Warns of a row that an earlier one leaves nothing to.
pub(super) fn reachable(section: &Section<'_>, rule: &Rule, earlier: &[Option<Rule>]) {
    let earlier = earlier.iter().enumerate();
    let mut read = earlier.filter_map(|(index, other)| Some((index, other.as_ref()?)));
    if let Some((index, other)) = read.find(|(_, other)| other.pattern.covers(&rule.pattern)) {
        let message = format!(
            "{} can never match: [[routes]] #{} with {} takes every call that {} would: \
             move this row above it",
            section.title(),
            index + 1,
            quoted(other.pattern.as_str()),
            quoted(rule.pattern.as_str()),
        );
        section.warn("match", message);
    }
}

/// Warns of an upstream that no row sends to.
pub(super) fn used(root: &Section<'_>, upstreams: &[UpstreamConfig], routes: &[Option<Rule>]) {
    // A row that could not be read may be the one.
    if !root.is_of_a_whole() || routes.iter().any(Option::is_none) {
        return;
    }
    for UpstreamConfig { name, .. } in upstreams {
        if !routes.iter().flatten().any(|rule| rule.upstream == *name) {
            let message = format!(
                "no [[routes]] row sends to [upstreams.{name}]: add a row with \
                 `upstream = \"{name}\"`"
            );
            root.warn(&format!("upstreams.{name}"), message);
        }
    }
}
