//! Rows that bring the same events to the same place, where they would come twice, and topics rows whose
//! topics are all an earlier row's.

use std::collections::HashMap;

use super::bridge::globbed;
use super::secret::quoted;
use super::section::Section;
use crate::event::{fill, meeting, reached};
use crate::route::bridge::{Bridge, Place, Topic, WEB};
use crate::route::first_words::FirstWords;
use crate::route::index::RowIndex;
use crate::route::pattern::Pattern;

/// The `[[topics]]` rows as they are read.
#[derive(Default)]
pub(super) struct TopicRows {
    rows: Vec<Topic>,
    index: RowIndex,
}

impl TopicRows {
    /// Adds the row that was read next. Warns of one that an earlier one leaves nothing to.
    pub(super) fn add(&mut self, section: &Section<'_>, row: Topic) {
        let title = section.title();
        if let Some(earlier) = self.covering(&row.pattern) {
            let message = format!(
                "{title} has no topics: {earlier} names all that {} does, and a topic is its first row's: \
                 move this row above it",
                quoted(row.pattern.as_str())
            );
            section.warn("match", message);
        } else if let Some((from, name)) =
            row.from.as_ref().and_then(|from| Some((from, named(from)?)))
            && let Some(earlier) = self.covering(&Pattern::new(&globbed(name)))
        {
            let message = format!(
                "{title}: events of {} are topics of {earlier}, which come by that row's `from` and by bridges \
                 alone: nobody would hear any: move this row above it, or give that row this `from`",
                quoted(&from.to_string())
            );
            section.warn("from", message);
        }
        self.index.add(self.rows.len(), &row.pattern);
        self.rows.push(row);
    }

    /// All of them, in the order of the file.
    pub(super) fn into_rows(self) -> Vec<Topic> {
        self.rows
    }

    /// The first row that has all topics that a glob fits.
    fn covering(&self, topics: &Pattern) -> Option<String> {
        let covers = |row: usize| self.rows[row].pattern.covers(topics);
        let row = self.index.first(topics.as_str(), covers)?;
        let pattern = quoted(self.rows[row].pattern.as_str());
        Some(format!("[[topics]] #{} with {pattern}", row + 1))
    }
}

/// The names of a source's events; `None` where they have names of their own, as in a folder.
pub(super) fn named(from: &Place) -> Option<&str> {
    Some(from.address.as_str()).filter(|from| !from.contains('/'))
}

/// Reports bridges that are alike, and warns of those that have some events in common, with each other or with
/// a row of topics.
pub(super) fn check(root: &Section<'_>, bridges: &[Bridge], topics: &[Topic]) {
    let mut known: HashMap<(&Place, &Place), usize> = HashMap::new();
    for (number, bridge) in bridges.iter().enumerate() {
        for to in &bridge.to {
            if let Some(before) = known.insert((&bridge.from, to), number) {
                let message = format!(
                    "{} would bring each event of `{}` to `{to}` twice: name it once",
                    both(before, number),
                    bridge.from
                );
                root.problem("bridges", message);
            }
        }
    }
    let sources = FirstWords::of(bridges.iter().map(|bridge| bridge.from.address.as_str()));
    for (number, bridge) in bridges.iter().enumerate() {
        let others = sources.may_meet(&bridge.from.address).into_iter();
        for other in others.filter(|other| *other > number) {
            // Those that are alike have been.
            let is_told =
                |to: &Place, there: &Place| bridge.from == bridges[other].from && to == there;
            if let Some(to) = common(bridge, &bridges[other], is_told) {
                let message = format!(
                    "{} bring some events to `{to}` twice, what comes from `{}` and from `{}`: \
                     let one of them leave out what the other brings",
                    both(number, other),
                    bridge.from,
                    bridges[other].from
                );
                root.warn("bridges", message);
            }
        }
    }
    let sources = topics.iter().map(|row| row.from.as_ref().map_or("", |from| &from.address));
    let sources = FirstWords::of(sources);
    for (number, bridge) in bridges.iter().enumerate() {
        for row in sources.may_meet(&bridge.from.address) {
            let earlier = &topics[..row];
            if let Some(to) = shown(bridge, &topics[row], earlier) {
                let message = format!(
                    "[[bridges]] #{} and [[topics]] #{} both bring what comes from `{}` to `{to}`: browsers \
                     would hear it twice: leave the bridge to `{to}` out, or that row's `from`",
                    number + 1,
                    row + 1,
                    bridge.from
                );
                root.warn("bridges", message);
            }
        }
    }
}

/// A row that brings events, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brings {
    /// A `[[bridges]]` row.
    Bridge(usize),
    /// A `[[topics]]` row.
    Topic(usize),
}

/// Rows that bring events twice, as running brokers show: `also_at` are other addresses by which what comes from
/// a row's comes too. The row that is told of, and what.
pub fn as_brokers_show(
    bridges: &[Bridge],
    topics: &[Topic],
    also_at: &[(Brings, String)],
) -> Vec<(Brings, String)> {
    let mut told = Vec::new();
    for (row, address) in also_at {
        let as_from = |from: &Place| Place { address: address.clone(), ..from.clone() };
        match *row {
            Brings::Bridge(number) => {
                let Some(bridge) = bridges.get(number) else { continue };
                let alike = Bridge { from: as_from(&bridge.from), ..bridge.clone() };
                for (other, with) in
                    bridges.iter().enumerate().filter(|(other, _)| *other != number)
                {
                    let to = common(&alike, with, |_, _| false);
                    told.extend(to.map(|to| (*row, kept_too(both(number, other), &with.from, to))));
                }
                for (other, with) in topics.iter().enumerate() {
                    let to = shown(&alike, with, &topics[..other]).zip(with.from.as_ref());
                    let rows = format!("[[bridges]] #{} and [[topics]] #{}", number + 1, other + 1);
                    told.extend(to.map(|(to, from)| (*row, kept_too(rows, from, to))));
                }
            }
            Brings::Topic(number) => {
                let Some(topic) = topics.get(number) else { continue };
                let alike = Topic { from: topic.from.as_ref().map(as_from), ..topic.clone() };
                for (other, with) in bridges.iter().enumerate() {
                    let to = shown(with, &alike, &topics[..number]);
                    let rows = format!("[[bridges]] #{} and [[topics]] #{}", other + 1, number + 1);
                    told.extend(to.map(|to| (*row, kept_too(rows, &with.from, to))));
                }
            }
        }
    }
    told
}

fn kept_too(rows: String, from: &Place, to: &Place) -> String {
    format!(
        "{rows} bring some events to `{to}` twice: what comes from `{from}` is kept by the stream, and comes out of it \
         too: let one of them leave out what the other brings"
    )
}

fn both(one: usize, other: usize) -> String {
    match one == other {
        true => format!("[[bridges]] #{}", one + 1),
        false => format!("[[bridges]] #{} and #{}", one + 1, other + 1),
    }
}

/// A place to which two bridges bring the same event, by addresses of which none is told of otherwise.
fn common<'a>(
    one: &'a Bridge,
    other: &Bridge,
    is_told: impl Fn(&Place, &Place) -> bool,
) -> Option<&'a Place> {
    let event = common_event(&one.from, &other.from)?;
    let filled = |bridge: &Bridge, to: &Place| {
        Some(fill(&to.address, &reached(&bridge.from.address, &event)?).into_owned())
    };
    one.to.iter().find(|to| {
        let mut others = other.to.iter().filter(|there| there.upstream == to.upstream);
        others.any(|there| !is_told(to, there) && filled(one, to) == filled(other, there))
    })
}

/// A topic to which a bridge brings what a row brings too.
fn shown<'a>(bridge: &'a Bridge, row: &Topic, earlier: &[Topic]) -> Option<&'a Place> {
    let event = common_event(&bridge.from, row.from.as_ref()?)?;
    let name = event.rsplit('/').next().unwrap_or(&event);
    let topics = Pattern::new(name);
    let is_its = row.pattern.meets(&topics)
        && !earlier.iter().any(|earlier| earlier.pattern.covers(&topics));
    let captures = reached(&bridge.from.address, &event)?;
    let mut shown = bridge.to.iter().filter(|to| is_its && to.upstream == WEB);
    shown.find(|to| fill(&to.address, &captures) == name)
}

/// What comes from two places alike.
fn common_event(one: &Place, other: &Place) -> Option<String> {
    (one.upstream == other.upstream).then(|| meeting(&one.address, &other.address))?
}
