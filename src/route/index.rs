//! Finds the first row of a table that takes a name, without trying those that cannot.
//!
//! A pattern without wildcards is looked up; any other is found by the text before its first
//! wildcard and the text behind its last one. What is found is a candidate: the row itself decides.
//! So only rows that have both ends in common with each other are tried one after the other, as
//! `*a*` and `*b*` are, which have none.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::pattern::Pattern;
use super::radix::Radix;

/// A longer end of a pattern is found by so many of its bytes: bounds the depth of the trees.
const LONGEST_KEY: usize = 256;

/// Rows, in the order of the file.
type Rows = Vec<u32>;

/// Rows by their patterns.
#[derive(Debug, Default)]
pub struct RowIndex {
    literals: HashMap<Box<str>, Rows, RandomState>,
    /// By the beginning, then by the end, read backwards.
    globs: Radix<Option<Box<Radix<Rows>>>>,
}

impl RowIndex {
    /// Of rows numbered in their order.
    pub fn new<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Self {
        let mut index = Self::default();
        for (row, pattern) in patterns.enumerate() {
            index.add(row, pattern);
        }
        index
    }

    /// Adds a row. Its number is larger than that of any before it.
    pub fn add(&mut self, row: usize, pattern: &Pattern) {
        // A file of 16 MiB has far fewer rows.
        let Ok(row) = u32::try_from(row) else { return };
        let Some((start, end)) = pattern.ends() else {
            self.literals.entry(pattern.as_str().into()).or_default().push(row);
            return;
        };
        let start: Vec<u8> = start.bytes().take(LONGEST_KEY).collect();
        let end: Vec<u8> = end.bytes().rev().take(LONGEST_KEY).collect();
        self.globs.entry(&start).get_or_insert_default().entry(&end).push(row);
    }

    /// The first row that `takes` a text, asked of those alone whose patterns begin and end like
    /// it. It must not take a text that its pattern neither [matches](Pattern::matches) nor, as
    /// another pattern's, [covers](Pattern::covers).
    pub fn first(&self, text: &str, mut takes: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut first = None;
        let mut look = |rows: &Rows| {
            let earlier = rows.iter().map(|row| *row as usize);
            let mut earlier = earlier.take_while(|row| first.is_none_or(|first| *row < first));
            if let Some(row) = earlier.find(|row| takes(*row)) {
                first = Some(row);
            }
        };
        if let Some(rows) = self.literals.get(text) {
            look(rows);
        }
        self.globs.along(text.bytes(), |ends| {
            if let Some(ends) = ends {
                ends.along(text.bytes().rev(), &mut look);
            }
        });
        first
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::route::Rule;

    fn rule(pattern: &str, service: bool) -> Rule {
        let service = service.then(|| "s".to_owned());
        Rule { service, ..Rule::new(pattern, "u", Duration::from_secs(1)) }
    }

    /// The row that takes a name, and how many were tried.
    fn find(rules: &[Rule], name: &str) -> (Option<usize>, usize) {
        let index = RowIndex::new(rules.iter().map(|rule| &rule.pattern));
        let mut tried = 0;
        let first = index.first(name, |row| {
            tried += 1;
            rules[row].matches(name)
        });
        (first, tried)
    }

    fn rows(make: impl Fn(usize) -> String) -> Vec<Rule> {
        (0..10_000).map(|number| rule(&make(number), false)).collect()
    }

    #[test]
    fn of_ten_thousand_rows_a_handful_are_tried() {
        let all = || rule("*", false);
        let tables: [(&str, Vec<Rule>, &str); 6] = [
            ("services", rows(|n| format!("service{n}.*")), "service9999.create"),
            ("methods", rows(|n| format!("orders.method{n}")), "orders.method9999"),
            ("one method of each", rows(|n| format!("*.method{n}")), "orders.method9999"),
            ("both ends", rows(|n| format!("t{}.*.m{}", n % 100, n / 100)), "t99.x.m99"),
            ("names in names", rows(|n| format!("{n}*")), "9999.create"),
            ("one letter", rows(|n| format!("service{n}.get?")), "service9999.get1"),
        ];
        for (what, mut rules, name) in tables {
            let (first, tried) = find(&rules, name);
            let linear = rules.iter().position(|rule| rule.matches(name));
            assert_eq!(first, linear, "{what}");
            assert!(first.is_some() && tried <= 4, "{what}: {tried} rows were tried");
            let (none, tried) = find(&rules, "nobody.knows.it");
            assert!(none.is_none() && tried <= 4, "{what}: {tried} rows were tried for no one");
            rules.push(all());
            let (_, tried) = find(&rules, name);
            assert!(tried <= 5, "{what}, before a row for all: {tried} rows were tried");
            rules.insert(0, all());
            let (first, tried) = find(&rules, name);
            assert_eq!(first, Some(0), "{what}");
            assert!(tried <= 5, "{what}, behind a row for all: {tried} rows were tried");
        }
    }

    #[test]
    fn what_a_row_covers_is_found_as_what_it_matches() {
        let rules = rows(|number| format!("service{number}.*"));
        let index = RowIndex::new(rules.iter().map(|rule| &rule.pattern));
        for (later, first) in
            [("service42.get?", Some(42)), ("service42.*", Some(42)), ("service4*", None)]
        {
            let (later, mut tried) = (rule(later, false), 0);
            let found = index.first(later.pattern.as_str(), |row| {
                tried += 1;
                rules[row].covers(&later)
            });
            assert_eq!(found, first);
            assert!(tried <= 1, "{tried}");
        }
    }

    const OF_PATTERNS: &[&str] =
        &["a", "b", "aa", "ab", ".", "é", "ü", "*", "?", "*.", ".*", "?*", "**", "🦀"];
    /// Callers may call what they like, wildcards too.
    const OF_NAMES: &[&str] = &["a", "b", "aa", "ab", ".", "é", "ü", "*", "?", "\u{301}", "🦀"];

    fn text_of(pieces: &'static [&str]) -> impl Strategy<Value = String> {
        let pieces = proptest::collection::vec(proptest::sample::select(pieces), 0..7);
        pieces.prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_first_row_of_the_file_wins(
            rules in proptest::collection::vec((text_of(OF_PATTERNS), any::<bool>()), 0..24),
            names in proptest::collection::vec(text_of(OF_NAMES), 1..8),
        ) {
            let rules: Vec<Rule> =
                rules.iter().map(|(pattern, service)| rule(pattern, *service)).collect();
            let index = RowIndex::new(rules.iter().map(|rule| &rule.pattern));
            for name in &names {
                let first = index.first(name, |row| rules[row].matches(name));
                prop_assert_eq!(first, rules.iter().position(|rule| rule.matches(name)));
            }
            for later in &rules {
                let first = index.first(later.pattern.as_str(), |row| rules[row].covers(later));
                prop_assert_eq!(first, rules.iter().position(|rule| rule.covers(later)));
            }
        }
    }
}
