//! `[[bridges]]` and `[[topics]]`: where events come from, and where they go to.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use super::access;
use super::globs;
use super::problem::did_you_mean;
use super::route::UpstreamConfig;
use super::secret::quoted;
use super::section::Section;
use super::twice::named;
use crate::event::{glob_of, highest_capture, reached};
use crate::event_port::{EventAddresses, Promise};
use crate::route::bridge::{Bridge, MOST_KEPT_BYTES, Place, Topic, WEB};
use crate::route::first_words::FirstWords;
use crate::route::pattern::Pattern;
use crate::units::format_size;

/// How often a target is tried again before an event is a dead letter.
const RETRIES: usize = 5;
/// What a topic keeps.
const KEEP: usize = 1_000;
const KEEP_BYTES: usize = 16 << 20;
/// The most that can be kept: all of it is read for one that comes back.
const MOST_KEPT: usize = 100_000;

/// The places that have events, and those that have none.
pub(super) struct EventPlaces<'a> {
    by_name: HashMap<&'a str, Option<EventAddresses>>,
    upstreams: &'a [UpstreamConfig],
}

impl<'a> EventPlaces<'a> {
    /// Places by their names, with what is known of the upstreams among them.
    pub(super) fn new(
        by_name: impl Iterator<Item = (&'a str, Option<EventAddresses>)>,
        upstreams: &'a [UpstreamConfig],
    ) -> Self {
        Self { by_name: by_name.collect(), upstreams }
    }

    /// Whether what goes to a target happens where a source's events come from, a `$1` being one word. What the table
    /// does not show ends by the count of hops.
    fn feeds(&self, target: &Place, source: &Place) -> bool {
        let all = self.all_of(target);
        let comes = all.iter().any(|place| reached(&source.address, place).is_some());
        comes && are_one(self.upstreams, &target.upstream, &source.upstream)
    }

    /// The addresses at which what goes to a target happens.
    fn all_of(&self, target: &Place) -> Vec<String> {
        let glob = glob_of(&target.address);
        let addresses = self.by_name.get(target.upstream.as_str()).copied().flatten();
        let also = addresses.and_then(|it| (it.also_at)(&glob)).map(str::to_owned);
        std::iter::once(glob).chain(also).collect()
    }
}

/// Whether two upstreams are one server, by whatever names it is called.
pub(super) fn are_one(upstreams: &[UpstreamConfig], one: &str, other: &str) -> bool {
    let named = |name| upstreams.iter().find(|upstream| upstream.name == name);
    one == other || named(one).zip(named(other)).is_some_and(|(one, other)| one.shares_with(other))
}

/// Which side of a bridge a place is on.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

/// Reads a `[[bridges]]` row; `None` where it has no source or no target.
pub(super) fn read_bridge(section: &mut Section<'_>, places: &EventPlaces<'_>) -> Option<Bridge> {
    let from = section.required_text("from");
    let from = from.and_then(|text| read_place(section, "from", &text, Side::Source, places));
    let targets = section.texts("to");
    if targets.is_empty() {
        let title = section.title();
        section.problem_here(format!("{title} needs `to`: add `to = [\"UPSTREAM:ADDRESS\"]`"));
    }
    let to: Vec<Place> = targets
        .iter()
        .filter_map(|text| read_place(section, "to", text, Side::Target, places))
        .collect();
    let dead_letter = section.text("dead_letter");
    let dead_letter = dead_letter
        .and_then(|text| read_place(section, "dead_letter", &text, Side::Target, places));
    let retries = section.count("retries", RETRIES, 0, 1_000);
    warn_of_literals(section, to.iter().map(|place| ("to", place)));
    warn_of_literals(section, dead_letter.iter().map(|place| ("dead_letter", place)));
    if dead_letter.as_ref().is_some_and(|place| to.contains(place)) {
        let message = format!(
            "`dead_letter` in {} is one of its targets: what that refuses is refused there again: name \
             another place",
            section.title()
        );
        section.warn("dead_letter", message);
    }
    let from = from?;
    let wildcards =
        from.address.split(['.', '/']).filter(|word| matches!(*word, "*" | ">" | "#")).count();
    for place in to.iter().filter(|place| highest_capture(&place.address) > wildcards) {
        let message = format!(
            "`to` in {}: {} names `${}`, and `from` has {wildcards} wildcards",
            section.title(),
            quoted(&place.to_string()),
            highest_capture(&place.address)
        );
        section.problem("to", message);
    }
    if let Some(place) = dead_letter.as_ref().filter(|place| highest_capture(&place.address) > 0) {
        let message = format!(
            "`dead_letter` in {}: {} would be taken as it stands: dead letters all go to one place",
            section.title(),
            quoted(&place.to_string())
        );
        section.problem("dead_letter", message);
    }
    if to.iter().any(|to| *to == from || places.feeds(to, &from)) {
        let message = format!(
            "{} carries events back to where they come from: they would go round in a circle",
            section.title()
        );
        section.problem("to", message);
    }
    if dead_letter.as_ref().is_some_and(|place| *place == from || places.feeds(place, &from)) {
        let message = format!("`dead_letter` in {} is where its events come from", section.title());
        section.problem("dead_letter", message);
    }
    (!to.is_empty()).then(|| Bridge {
        from,
        to,
        dead_letter,
        retries: u32::try_from(retries).unwrap_or(u32::MAX),
    })
}

/// Warns of what looks like a capture and is none: it goes into the address as it stands.
fn warn_of_literals<'a>(
    section: &Section<'_>,
    places: impl Iterator<Item = (&'static str, &'a Place)>,
) {
    for (key, place) in places {
        let Some((literal, meant)) = literal_capture(&place.address) else { continue };
        let message = format!(
            "`{key}` in {}: in {} `{literal}` stands for itself: write {meant}",
            section.title(),
            quoted(&place.to_string())
        );
        section.warn(key, message);
    }
}

/// What of an address looks like a capture and is none, and what to write for it.
fn literal_capture(address: &str) -> Option<(String, String)> {
    address.split('$').skip(1).find_map(|behind| {
        if let Some((number, _)) = behind.strip_prefix('{').and_then(|rest| rest.split_once('}'))
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Some((format!("${{{number}}}"), format!("`${number}`")));
        }
        let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let is_none = digits > 0 && behind[..digits].bytes().all(|byte| byte == b'0');
        is_none.then(|| {
            let meant = "`$1` for what the first wildcard of `from` matched";
            (format!("${}", &behind[..digits]), meant.to_owned())
        })
    })
}

/// Reads a `[[topics]]` row; `None` where it names none.
pub(super) fn read_topic(section: &mut Section<'_>, places: &EventPlaces<'_>) -> Option<Topic> {
    let pattern = section.required_text("match");
    let from = section.text("from");
    let from = from.and_then(|text| read_place(section, "from", &text, Side::Source, places));
    let keep = section.count("keep", KEEP, 0, MOST_KEPT);
    let keep_bytes = section.size("keep_bytes", KEEP_BYTES);
    if keep_bytes > MOST_KEPT_BYTES {
        let message = format!(
            "`keep_bytes` in {}: all topics together keep {}: write that at most",
            section.title(),
            format_size(MOST_KEPT_BYTES)
        );
        section.warn("keep_bytes", message);
    }
    let access = access::read(section);
    let slow = [("tell", false), ("disconnect", true)];
    let disconnects_slow = section.choice("slow", &slow, false);
    let pattern = Pattern::new(&pattern?);
    globs::warn_of_foreign(section, "match", [pattern.as_str()]);
    let named = from.as_ref().and_then(named);
    if let Some(named) = named.filter(|named| !pattern.meets(&Pattern::new(&globbed(named)))) {
        let title = section.title();
        let message = format!(
            "{title}: events of {} keep their names, none of which is `{}`: nobody would hear any",
            quoted(named),
            pattern.as_str()
        );
        section.warn("from", message);
    }
    Some(Topic { pattern, from, keep, keep_bytes, access, disconnects_slow })
}

/// An address with wildcards as a glob: `>` stands for all that is left, and so does `#`.
pub(super) fn globbed(address: &str) -> String {
    let words = address.split('.');
    words
        .map(|word| if matches!(word, ">" | "#") { "*" } else { word })
        .collect::<Vec<_>>()
        .join(".")
}

fn read_place(
    section: &Section<'_>,
    key: &str,
    text: &str,
    side: Side,
    places: &EventPlaces<'_>,
) -> Option<Place> {
    let title = section.title();
    let say = |message: String| section.problem(key, format!("`{key}` in {title}: {message}"));
    let Some(place) = Place::parse(text) else {
        say(format!("{} is no place: write `UPSTREAM:ADDRESS`", quoted(text)));
        return None;
    };
    if place.upstream == WEB {
        if matches!(side, Side::Source) {
            say(format!("browsers publish no events: nothing comes from `{WEB}:`"));
            return None;
        }
        return Some(place);
    }
    let addresses = match places.by_name.get(place.upstream.as_str()) {
        Some(Some(addresses)) => addresses,
        Some(None) => {
            say(format!("the upstream `{}` has no events", place.upstream));
            return None;
        }
        None if !section.is_of_a_whole() => return Some(place),
        None => {
            let hint = did_you_mean(&place.upstream, places.by_name.keys().copied().chain([WEB]));
            say(format!("unknown upstream {}{hint}", quoted(&place.upstream)));
            return None;
        }
    };
    let read = match side {
        Side::Source => (addresses.source)(&place.address),
        Side::Target => (addresses.target)(&place.address),
    };
    match read {
        Ok(Promise::AtLeastOnce | Promise::AtMostOnce) => Some(place),
        Err(message) => {
            say(message);
            None
        }
    }
}

/// Reports bridges that lead to each other in a circle, and topics that no row names.
pub(super) fn lead_round(
    root: &Section<'_>,
    bridges: &[Bridge],
    topics: &[Topic],
    places: &EventPlaces<'_>,
) {
    let named = FirstWords::of(topics.iter().map(|topic| topic.pattern.as_str()));
    for (number, bridge) in bridges.iter().enumerate() {
        let unheard = bridge.to.iter().filter(|place| {
            let glob = glob_of(&place.address);
            let sent = Pattern::new(&glob);
            let is_its = |topic: &usize| topics[*topic].pattern.meets(&sent);
            place.upstream == WEB && !named.may_meet(&glob).iter().any(is_its)
        });
        for place in unheard {
            let message = format!(
                "[[bridges]] #{} sends events to `{place}`, and no [[topics]] row names that topic: \
                 nobody could hear them: add `[[topics]]` with `match = \"{}\"`",
                number + 1,
                glob_of(&place.address)
            );
            root.warn("bridges", message);
        }
    }
    let next = next_bridges(bridges, places);
    if let Some(way) = (0..bridges.len()).find_map(|number| circle(bridges, &next, number)) {
        root.problem("bridges", format!("[[bridges]] lead in a circle: {way}"));
    }
}

/// Of each bridge those that carry on what it brings.
fn next_bridges(bridges: &[Bridge], places: &EventPlaces<'_>) -> Vec<Vec<usize>> {
    let sources = FirstWords::of(bridges.iter().map(|bridge| bridge.from.address.as_str()));
    let next = bridges.iter().map(|bridge| {
        let fed = bridge.to.iter().flat_map(|place| {
            let all = places.all_of(place).into_iter();
            let there: BTreeSet<usize> = all.flat_map(|place| sources.may_meet(&place)).collect();
            there.into_iter().filter(|other| places.feeds(place, &bridges[*other].from))
        });
        fed.collect()
    });
    next.collect()
}

/// The way from a bridge back to its own source.
fn circle(bridges: &[Bridge], next: &[Vec<usize>], begin: usize) -> Option<String> {
    let mut before: HashMap<usize, usize> = HashMap::new();
    let mut open = vec![begin];
    while let Some(at) = open.pop() {
        for other in next[at].iter().copied() {
            if other == begin {
                let from = |number: usize| bridges[number].from.to_string();
                let mut way = vec![from(begin)];
                let mut step = at;
                while step != begin {
                    way.push(from(step));
                    step = before[&step];
                }
                way.push(from(begin));
                way.reverse();
                return Some(way.join(" → "));
            }
            if let Entry::Vacant(unseen) = before.entry(other) {
                unseen.insert(at);
                open.push(other);
            }
        }
    }
    None
}
