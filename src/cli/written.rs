//! The lines of a configuration's file, fit to be shown with what is wrong with them: without what may be a
//! secret, and no longer than a terminal is wide.
//!
//! A secret is known by its key, or by the table that it stands in, and both by the file's syntax: a line of a
//! text of several lines looks like anything. Where the file is no TOML, by what the parser makes of the rest, and
//! by the nearest head above a line.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::printable::printable;

/// What a key that may hold a secret has in its name.
const SECRET: [&str; 10] =
    ["url", "pass", "token", "key", "secret", "cred", "server", "user", "hash", "headers"];
/// Tables whose keys have any name, and hold secrets.
const TABLES: [&str; 2] = ["headers", "tokens"];
/// How many characters of a line are shown.
const WIDTH: usize = 120;

/// The lines of a file.
pub(super) struct Written<'a> {
    lines: Vec<(&'a str, Hides)>,
}

/// What a line may hold that is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hides {
    Nothing,
    /// The value behind its key.
    Value,
    /// All of it: it is the rest of a value that began above.
    All,
}

impl<'a> Written<'a> {
    /// Those of a text.
    pub(super) fn new(text: &'a str) -> Self {
        let mut lines: Vec<_> = text.lines().map(|line| (line, Hides::Nothing)).collect();
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
        let mut hide = |part: Range<usize>, hides: Hides| {
            let line = |offset: usize| ends.partition_point(|end| *end < offset);
            let (first, last) = (line(part.start), line(part.end.saturating_sub(1)));
            for (index, (_, hidden)) in lines.iter_mut().enumerate().take(last + 1).skip(first) {
                *hidden = (*hidden).max(if index == first { hides } else { Hides::All });
            }
        };
        look(DeTable::parse_recoverable(text).0.get_ref(), false, &mut hide);
        let mut is_in_table = false;
        for (line, hides) in &mut lines {
            let head = line.trim_start();
            if head.starts_with('[') && *hides != Hides::All {
                is_in_table = TABLES.iter().any(|table| head.contains(table));
            } else if is_in_table {
                *hides = (*hides).max(Hides::Value);
            }
        }
        Self { lines }
    }

    /// A line, counted from 1; where it is told that it `hides` a secret, without its value.
    pub(super) fn line(&self, number: usize, hides: bool) -> Option<String> {
        let (line, hidden) = self.lines.get(number.checked_sub(1)?)?;
        let shown = match hidden {
            Hides::All => "…".to_owned(),
            Hides::Value => without_secrets(line, true),
            Hides::Nothing => without_secrets(line, hides),
        };
        Some(match shown.char_indices().nth(WIDTH) {
            Some((end, _)) => format!("{}…", &shown[..end]),
            None => shown,
        })
    }
}

/// Tells where in a table something stands that is not to be shown.
fn look(table: &DeTable<'_>, is_secret: bool, hide: &mut impl FnMut(Range<usize>, Hides)) {
    for (key, value) in table {
        let name = key.get_ref();
        let is_secret = is_secret || TABLES.contains(&&**name);
        look_at(value, (key.span().start, is_secret), hide);
    }
}

fn look_at(
    value: &Spanned<DeValue<'_>>,
    (start, is_secret): (usize, bool),
    hide: &mut impl FnMut(Range<usize>, Hides),
) {
    let hides = if is_secret { Hides::Value } else { Hides::Nothing };
    match value.get_ref() {
        DeValue::Table(table) => look(table, is_secret, hide),
        // The tables of an array have lines of their own.
        DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
            items.iter().for_each(|item| look_at(item, (item.span().start, is_secret), hide));
        }
        _ => hide(start..value.span().end, hides),
    }
}

/// A line of the file, fit to be shown: where it `hides` its value or its key may hold a secret,
/// the value is left out; and whatever is neither a key and its value nor the head of a table.
fn without_secrets(line: &str, hides: bool) -> String {
    if line.trim_start().starts_with('[') {
        return head_alone(line);
    }
    let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_key(key)) else {
        return "…".to_owned();
    };
    // The end of a secret in base64 on a line of its own: `czNjcg==`.
    let is_rest = !key.ends_with(' ') && (value.trim().is_empty() || value.starts_with('='));
    if is_rest {
        return "…".to_owned();
    }
    // A table on one line may hold any key.
    let is_inline = line.contains(['{', '@']) || line.contains("://");
    let name = key.to_ascii_lowercase();
    if hides || is_inline || SECRET.iter().any(|word| name.contains(word)) {
        return printable(&format!("{key}= …"));
    }
    printable(line)
}

/// The head of a table, without what else stands on its line.
fn head_alone(line: &str) -> String {
    let inner = line.trim_start().trim_start_matches('[');
    let (name, rest) = inner.split_at(inner.find(']').unwrap_or(inner.len()));
    // One that begins with a quote may be an item of a list.
    if name.trim_start().starts_with(['"', '\'']) || !is_key(name) {
        return "[…".to_owned();
    }
    let rest = rest.trim_start_matches(']');
    let head = printable(&line[..line.len() - rest.len()]);
    if rest.trim().is_empty() { head } else { format!("{head} …") }
}

/// Whether that is a key of TOML, `a."b".c`, and nothing else.
fn is_key(text: &str) -> bool {
    let parsed = toml::de::DeTable::parse(&format!("{text}=0")).map(|table| table.get_ref().len());
    !text.contains('=') && parsed.is_ok_and(|keys| keys == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_with_its_line() {
        for line in [
            "url = \"amqp://u:hunter2@h\"",
            "passwrd = \"hunter2\"",
            "  \"nats://hunter2@h\",",
            "token = \"hunter2\"",
            "rabbit = { protocol = \"natz\", password = \"hunter2\" }",
            "hunter2\"\"\"",
            "heartbeat = \"u:hunter2@h\"",
            "hash = \"gk_hunter2\"",
        ] {
            assert!(!without_secrets(line, false).contains("hunter2"), "{line}");
        }
        assert_eq!(without_secrets("upstreams = \"hunter2\"", true), "upstreams = …");
        assert_eq!(without_secrets("pasword = \"hunter2\"", true), "pasword = …");
        for line in ["timeout = \"5\"", "[upstreams.x]", "[[routes]]"] {
            assert_eq!(without_secrets(line, false), line);
        }
    }

    #[test]
    fn what_a_table_or_a_text_of_several_lines_holds_is_not_shown() {
        let text = "[a.headers]\nx = 'one'\n[b]\nx = 'two'\ny = '''\nz = 'three'\n[c]\n'''\n\
                    headers.x = 'four'\n[a.\"headers\".z]\nfile = 'five'\n[[d]]\nx = 6\n";
        let written = Written::new(text);
        let shown: Vec<_> = (1..=13).filter_map(|number| written.line(number, false)).collect();
        let expected = [
            "[a.headers]",
            "x = …",
            "[b]",
            "x = 'two'",
            "y = '''",
            "…",
            "…",
            "…",
            "headers.x = …",
            "[a.\"headers\".z]",
            "file = …",
            "[[d]]",
            "x = 6",
        ];
        assert_eq!(shown, expected);
        assert_eq!((written.line(0, false), written.line(14, false)), (None, None));
        // Where a part of it is no TOML.
        let text = "[a.headers]\nx = 'one'\ny = '''\nz = 'two'\n'''\n[b\n";
        let written = Written::new(text);
        let shown: Vec<_> = (2..=4).filter_map(|number| written.line(number, false)).collect();
        assert_eq!(shown, ["x = …", "y = …", "…"]);
    }
}
