//! What only shows when the tables are seen together: rows that can never match, upstreams that
//! nothing goes to, listeners that are in each other's way.

use std::net::SocketAddr;

use super::ingress::IngressConfig;
use super::route::UpstreamConfig;
use super::secret::quoted;
use super::section::Section;
use crate::budget::CONNECTION_PART;
use crate::route::Rule;
use crate::units::format_size;

/// Warns of a row that an earlier one leaves nothing to.
pub(super) fn reachable(section: &Section<'_>, rule: &Rule, earlier: &[Option<Rule>]) {
    let earlier = earlier.iter().enumerate();
    let mut read = earlier.filter_map(|(index, other)| Some((index, other.as_ref()?)));
    if let Some((index, other)) = read.find(|(_, other)| other.covers(rule)) {
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
