//! What only shows when the tables are seen together: rows that can never match, upstreams that
//! nothing goes to, listeners that are in each other's way.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::circles::Numbered;
use super::expose::ExposeConfig;
use super::ingress::IngressConfig;
use super::route::UpstreamConfig;
use super::secret::quoted;
use super::section::Section;
use crate::budget::{CONNECTION_PART, UPSTREAM_PART};
use crate::route::Rule;
use crate::route::bridge::{Bridge, Place, Topic};
use crate::route::index::RowIndex;
use crate::units::format_size;

/// The rows as they are read.
#[derive(Default)]
pub(super) struct Rows {
    rules: Vec<Option<Rule>>,
    index: RowIndex,
}

impl Rows {
    /// Adds the row that was read next; `None` for one that could not be.
    pub(super) fn add(&mut self, rule: Option<Rule>) {
        if let Some(rule) = &rule {
            self.index.add(self.rules.len(), &rule.pattern);
        }
        self.rules.push(rule);
    }

    /// All of them; `None` for one that could not be read.
    pub(super) fn rules(&self) -> &[Option<Rule>] {
        &self.rules
    }

    /// Those that could be read, in the order of the file.
    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.rules.into_iter().flatten().collect()
    }

    /// The first row that leaves nothing to another one, and its place.
    fn covering(&self, rule: &Rule) -> Option<(usize, &Rule)> {
        let other = |index: usize| self.rules.get(index)?.as_ref();
        let covers = |index| other(index).is_some_and(|other| other.covers(rule));
        let index = self.index.first(rule.pattern.as_str(), covers)?;
        Some((index, other(index)?))
    }
}

/// Warns of a row that an earlier one leaves nothing to.
pub(super) fn reachable(section: &Section<'_>, rule: &Rule, earlier: &Rows) {
    if let Some((index, other)) = earlier.covering(rule) {
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

/// Warns of an upstream that no row sends to, none exposes a service on, and no event comes from or
/// goes to.
pub(super) fn used(
    root: &Section<'_>,
    upstreams: &[UpstreamConfig],
    rows: &Rows,
    exposes: &[ExposeConfig],
    (bridges, topics): (&[Bridge], &[Topic]),
) {
    // A row that could not be read may be the one.
    if !root.is_of_a_whole() || rows.rules.iter().any(Option::is_none) {
        return;
    }
    let used: HashSet<&str> =
        rows.rules.iter().flatten().map(|rule| rule.upstream.as_str()).collect();
    for UpstreamConfig { name, .. } in upstreams {
        let exposes = || exposes.iter().any(|row| row.is_on(name));
        let here = |place: &Place| place.upstream == *name;
        let places = |bridge: &Bridge| {
            let mut places =
                [&bridge.from].into_iter().chain(&bridge.to).chain(&bridge.dead_letter);
            places.any(here)
        };
        let has_events = || {
            let heard = |topic: &Topic| topic.from.as_ref().is_some_and(here);
            bridges.iter().any(places) || topics.iter().any(heard)
        };
        if !used.contains(name.as_str()) && !exposes() && !has_events() {
            let message = format!(
                "no [[routes]] row sends to [upstreams.{name}]: add a row with \
                 `upstream = \"{name}\"`"
            );
            root.warn(&format!("upstreams.{name}"), message);
        }
    }
}

/// Warns of methods that are exposed and that no row takes, where rows take others of the service by their names.
pub(super) fn exposed(root: &Section<'_>, rows: &Rows, exposes: &[Numbered<'_>]) {
    if !root.is_of_a_whole() || rows.rules.iter().any(Option::is_none) {
        return;
    }
    for (number, ExposeConfig { expose, .. }) in exposes {
        let prefix = format!("{}.", expose.service);
        let rules = || rows.rules.iter().flatten();
        if !rules().any(|rule| rule.pattern.as_str().starts_with(&prefix)) {
            continue;
        }
        let is_taken = |name: &str| rules().any(|rule| rule.pattern.matches(name));
        let names = expose.methods.iter().map(|method| format!("{prefix}{method}"));
        for name in names.filter(|name| !is_taken(name)) {
            let message = format!(
                "[[expose]] #{} \"{}\": no [[routes]] row takes `{name}`, as some do with others of that service: \
                 correct `methods`, or add a row for it",
                number + 1,
                expose.service
            );
            root.warn(&format!("expose[{number}].methods"), message);
        }
    }
}

/// Warns of upstreams whose services have to announce themselves, where none may.
fn announced(root: &Section<'_>, upstreams: &[UpstreamConfig], ingresses: &[IngressConfig]) {
    for UpstreamConfig { name, connector, .. } in upstreams {
        let Some(names) = connector.announced().filter(|names| !names.as_str().is_empty()) else {
            continue;
        };
        if root.is_of_a_whole() && !ingresses.iter().any(|one| one.settings.lets_announce(names)) {
            let message = format!(
                "no service may announce itself as {names}, so that every call of [upstreams.{name}] is \
                 `unavailable`: add the names to `allow` in [registry], `allow = [\"{names}\"]`"
            );
            root.warn(&format!("upstreams.{name}.registry"), message);
        }
    }
}

/// Warns of rows that have to do with a method that Genkan answers itself: those that take it, and
/// those that would if it did not.
pub(super) fn own_methods(root: &Section<'_>, rows: &Rows, ingresses: &[IngressConfig]) {
    for IngressConfig { name: owner, settings } in ingresses {
        for method in settings.own_methods() {
            let first = rows.index.first(method, |row| {
                rows.rules
                    .get(row)
                    .is_some_and(|rule| rule.as_ref().is_some_and(|rule| rule.matches(method)))
            });
            let Some((row, rule)) =
                first.and_then(|row| Some((row, rows.rules.get(row)?.as_ref()?)))
            else {
                continue;
            };
            let title = format!("[[routes]] #{}", row + 1);
            let message = if rule.pattern.is_literal() {
                format!("{title} takes `{method}` from the {owner}, which answers it else")
            } else {
                format!(
                    "{title} does not get `{method}`, which the {owner} answers: a row with \
                     `match = \"{method}\"` would"
                )
            };
            root.warn(&format!("routes[{row}].match"), message);
        }
    }
}

/// Reports listeners of which only one could be bound. Each with the key that names it.
pub(super) fn apart(root: &Section<'_>, listeners: &[(String, SocketAddr)]) {
    for (index, (key, address)) in listeners.iter().enumerate() {
        let mut others = listeners[..index].iter();
        if let Some((other, _)) = others.find(|(_, other)| collide(*address, *other)) {
            // The one that was written: the other may be the default.
            let (key, other) = if root.is_set(key) { (key, other) } else { (other, key) };
            let message = format!(
                "`{key}` and `{other}` would both listen on {address}: give one of them another port"
            );
            root.problem(key, message);
        }
    }
}

/// Reports a `max_memory` of which a connection's part is less than one message.
pub(super) fn holds_messages(root: &Section<'_>, max_memory: usize, ingresses: &[IngressConfig]) {
    for IngressConfig { name, settings } in ingresses {
        let (largest, key) = settings.largest_message();
        let least = largest.saturating_mul(CONNECTION_PART);
        if least > max_memory {
            // The one that was written: the other may be the default.
            let path = format!("{name}.{key}");
            let place = if root.is_set("max_memory") { "max_memory" } else { &path };
            let message = format!(
                "one connection may hold a quarter of `max_memory` ({}), and `{path}` allows {} for \
                 one message: set `max_memory` to {} at least, or `{path}` lower",
                format_size(max_memory),
                format_size(largest),
                format_size(least),
            );
            root.problem(place, message);
        }
    }
}

/// Tells of upstreams that cannot do what they are there for beside the rest.
pub(super) fn upstreams(
    root: &Section<'_>,
    max_memory: usize,
    (upstreams, exposes): (&[UpstreamConfig], &[ExposeConfig]),
    ingresses: &[IngressConfig],
) {
    holds_replies(root, max_memory, upstreams);
    holds_requests(root, max_memory, upstreams, exposes);
    announced(root, upstreams, ingresses);
}

/// Warns of an upstream of which the largest reply does not fit into the memory that it may hold, or its
/// caller's connection.
fn holds_replies(root: &Section<'_>, max_memory: usize, upstreams: &[UpstreamConfig]) {
    for UpstreamConfig { name, connector, .. } in upstreams {
        let Some((largest, key)) = connector.largest_reply() else { continue };
        let least = largest.saturating_mul(CONNECTION_PART);
        if least <= max_memory {
            continue;
        }
        let path = format!("upstreams.{name}.{key}");
        let place = if root.is_set("max_memory") { "max_memory" } else { &path };
        let (whose, by) = match largest > max_memory / UPSTREAM_PART {
            true => ("an upstream's replies may hold half", ""),
            false => ("a caller's connection may hold a quarter", " by HTTP and WebSocket"),
        };
        let message = format!(
            "{whose} of `max_memory` ({}), and `{path}` allows {} for one reply: such a one would be \
             `too_large`{by}, though its call has run: set `max_memory` to {} at least, or `{path}` \
             lower",
            format_size(max_memory),
            format_size(largest),
            format_size(least),
        );
        root.warn(place, message);
    }
}

/// Reports an upstream of which the largest request to what is exposed there has no room.
fn holds_requests(
    root: &Section<'_>,
    max_memory: usize,
    upstreams: &[UpstreamConfig],
    exposes: &[ExposeConfig],
) {
    for UpstreamConfig { name, connector, .. } in upstreams {
        let Some((largest, key, part)) = connector.largest_request() else { continue };
        let path = format!("upstreams.{name}.{key}");
        let is_used = root.is_set(&path) || exposes.iter().any(|row| row.is_on(name));
        let least = largest.saturating_mul(part);
        if least > max_memory && is_used {
            let place = if root.is_set("max_memory") { "max_memory" } else { &path };
            let message = format!(
                "requests that come in over `{name}` may hold {} of `max_memory` ({}), and `{path}` \
                 allows {} for one: set `max_memory` to {} at least, or `{path}` lower",
                if part == CONNECTION_PART { "a quarter" } else { "half" },
                format_size(max_memory),
                format_size(largest),
                format_size(least),
            );
            root.problem(place, message);
        }
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified();
    let same_family = one.is_ipv4() == other.is_ipv4();
    let same_host = one.ip() == other.ip() || (same_family && (all(one) || all(other)));
    one.port() != 0 && one.port() == other.port() && same_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_which_one_alone_can_be_bound() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            // That depends on the system.
            ("[::]:80", "127.0.0.1:80", false),
        ];
        for (one, other, expected) in cases {
            let parse = |text: &str| text.parse::<SocketAddr>().expect("valid");
            assert_eq!(collide(parse(one), parse(other)), expected, "{one} {other}");
            assert_eq!(collide(parse(other), parse(one)), expected, "{other} {one}");
        }
    }
}
