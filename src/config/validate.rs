//! What only shows when the tables are seen together: rows that can never match, upstreams that
//! nothing goes to.

use super::route::UpstreamConfig;
use super::section::Section;
use crate::router::table::Rule;

/// Warns of a row that an earlier one leaves nothing to.
pub(super) fn reachable(section: &Section<'_>, rule: &Rule, earlier: &[Rule]) {
    let covering = earlier.iter().position(|other| other.pattern.covers(&rule.pattern));
    if let Some(index) = covering {
        let message = format!(
            "{} can never match: [[routes]] #{} with \"{}\" takes every call that \"{}\" would: \
             move this row above it",
            section.title(),
            index + 1,
            earlier[index].pattern,
            rule.pattern,
        );
        section.warn("match", message);
    }
}

/// Warns of an upstream that no row sends to.
pub(super) fn used(root: &Section<'_>, upstreams: &[UpstreamConfig], routes: &[Rule]) {
    for UpstreamConfig { name, .. } in upstreams {
        if !routes.iter().any(|rule| rule.upstream == *name) {
            let message = format!(
                "no [[routes]] row sends to [upstreams.{name}]: add a row with \
                 `upstream = \"{name}\"`"
            );
            root.warn(&format!("upstreams.{name}"), message);
        }
    }
}
