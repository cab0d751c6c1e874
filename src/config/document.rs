//! The file: TOML, of which as much is read as can be.
//!
//! A mistake in the syntax spoils the table that it stands in, and no other: that table is left
//! out, and the text is parsed again without it. What a parser guesses behind a mistake (in which
//! table is a key that follows a broken `[head`?) would be reported as mistakes that nobody made.

use std::cell::RefCell;
use std::ops::Range;

use toml::de::DeTable;

use super::places::Places;
use super::problem::{Place, Problem, Severity};
use super::source::Source;
use super::value;

/// A file with more spoilt tables than this is none.
const MOST_SPOILT: usize = 100;

/// A file's keys, as the `config` crate takes them.
type Document = config::Map<String, config::Value>;

/// Parses a file's text. What is no TOML is reported, each with its line, and left out.
pub(super) fn read(
    file: &str,
    text: &[u8],
    problems: &RefCell<Vec<Problem>>,
) -> (Document, Source) {
    let read = String::from_utf8_lossy(text);
    let mut lines = Lines::new(&read);
    let mut whole = true;
    if let Err(error) = std::str::from_utf8(text) {
        let line = line_of(text, error.valid_up_to()) - 1;
        let message = "not UTF-8: save the file in that encoding".to_owned();
        let mistake = Mistake { line, message, word: String::new() };
        let spoilt = lines.around(&mistake);
        report(file, &[mistake], &spoilt, whole, &lines, problems);
        whole = false;
        lines.spoil(spoilt);
    }
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        // What a crash may leave of a file that was being written.
        let line = line_of(text, at) - 1;
        let message =
            "it holds a NUL byte: it was not written to its end, or is no text".to_owned();
        let mistake = Mistake { line, message, word: String::new() };
        let spoilt = lines.around(&mistake);
        report(file, &[mistake], &spoilt, whole, &lines, problems);
        whole = false;
        lines.spoil(spoilt);
    }
    for _ in 0..MOST_SPOILT {
        let text = lines.text();
        let (document, errors) = DeTable::parse_recoverable(&text);
        let mut errors: Vec<Mistake> =
            errors.iter().map(|error| Mistake::new(error, &text)).collect();
        errors.sort_by_key(|mistake| mistake.line);
        let Some(first) = errors.first() else {
            let mut places = Places::new(file, &text);
            let table = value::convert(document.get_ref(), "", &mut places);
            return (table, Source::new(places, whole));
        };
        let known = lines.is_spoilt(first.line);
        let spoilt = lines.around(first);
        if !known {
            report(file, &errors, &spoilt, whole, &lines, problems);
        }
        whole = false;
        lines.spoil(spoilt);
    }
    (Document::new(), Source::new(Places::new(file, ""), false))
}

/// The line of an offset, from 1.
fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// Where the text is no TOML: the line, from 0, and what the parser says.
struct Mistake {
    line: usize,
    message: String,
    word: String,
}

impl Mistake {
    fn new(error: &toml::de::Error, text: &str) -> Self {
        let span = error.span().unwrap_or_default();
        let word = text.get(span.clone()).unwrap_or_default().to_owned();
        let message = error.message().trim().to_owned();
        Self { line: line_of(text.as_bytes(), span.start) - 1, message, word }
    }

    fn is_duplicate(&self) -> bool {
        self.message == "duplicate key"
    }

    /// What is wrong, and the mend. A value is not repeated: it may be a secret.
    fn message(&self, line: &str) -> String {
        let head = line.trim();
        match self.message.as_str() {
            "duplicate key" if is_head(head) => {
                let head = head.split_inclusive(']').next().unwrap_or_default();
                format!("{head} stands here a second time: put all of its keys under the first")
            }
            "duplicate key" => {
                format!("`{}` is set a second time in this table: keep one of them", self.word)
            }
            "string values must be quoted, expected literal string" if is_head(head) => {
                "a list before this line has no end: write its `]`".to_owned()
            }
            "invalid float, expected `nan`" | "invalid float, expected `inf`" => {
                "a string stands in quotes: `key = \"…\"`".to_owned()
            }
            "key with no value, expected `=`" => "a key and no value: write `key = …`".to_owned(),
            "missing table open, expected `[`" => {
                "a `]` that nothing opened: delete it, or write the `[` before it".to_owned()
            }
            message => message.to_owned(),
        }
    }
}

fn report(
    file: &str,
    errors: &[Mistake],
    spoilt: &Range<usize>,
    first_spoilt: bool,
    lines: &Lines<'_>,
    problems: &RefCell<Vec<Problem>>,
) {
    let mut last = None;
    let (mut broken, mut broken_head) = (false, false);
    for mistake in errors.iter().filter(|mistake| spoilt.contains(&mistake.line)) {
        // Behind a broken line, keys may be twice in a table that they do not stand in; and one
        // line is one mistake.
        let is_follow_up = broken_head || (broken && mistake.is_duplicate());
        if last == Some(mistake.line) || is_follow_up {
            continue;
        }
        let note = match last {
            None if first_spoilt => " (the rest of this table is checked once that is mended)",
            _ => "",
        };
        last = Some(mistake.line);
        let head = is_head(lines.line(mistake.line));
        broken |= !mistake.is_duplicate() || head;
        broken_head |= !mistake.is_duplicate() && head;
        let what = mistake.message(lines.line(mistake.line));
        let place = Place::Line(file.to_owned(), mistake.line + 1);
        let message = format!("not valid TOML: {what}{note}");
        problems.borrow_mut().push(Problem { severity: Severity::Error, place, message });
    }
}

fn is_head(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The lines of the text, and which of them are left out.
struct Lines<'a> {
    lines: Vec<&'a str>,
    spoilt: Vec<bool>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let lines: Vec<_> = text.split('\n').collect();
        let spoilt = vec![false; lines.len()];
        Self { lines, spoilt }
    }

    /// The text, with nothing on the lines that are left out.
    fn text(&self) -> String {
        let kept = self.lines.iter().zip(&self.spoilt);
        let kept: Vec<&str> = kept.map(|(line, out)| if *out { "" } else { *line }).collect();
        kept.join("\n")
    }

    fn line(&self, line: usize) -> &'a str {
        self.lines.get(line).copied().unwrap_or_default()
    }

    fn is_spoilt(&self, line: usize) -> bool {
        self.spoilt.get(line).copied().unwrap_or(true)
    }

    /// The table around a mistake. Where that is left out already, what spoils it began before
    /// (a string without an end), and the table before it goes too.
    fn around(&self, mistake: &Mistake) -> Range<usize> {
        let known = self.is_spoilt(mistake.line);
        let kept = |line: &usize| !self.spoilt[*line];
        let before = (0..mistake.line.min(self.lines.len())).rev().find(kept);
        let line = if known { before.unwrap_or_default() } else { mistake.line };
        let head = |line: &usize| is_head(self.lines[*line]);
        // A second `[head]` is a mistake of its own; a broken one may be the end of the table
        // before it: `list = [`.
        let own = head(&line) && (mistake.is_duplicate() || known);
        let start = if own { line } else { (0..line).rev().find(head).unwrap_or_default() };
        let end = (line + 1..self.lines.len()).find(head).unwrap_or(self.lines.len());
        start..end
    }

    fn spoil(&mut self, lines: Range<usize>) {
        self.spoilt[lines].fill(true);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Variables, parse, parse_bytes};

    fn said(text: &str) -> Vec<String> {
        let problems = parse("g", text, Variables::new(), &crate::protocol::readers()).problems;
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_mistake_in_the_syntax_hides_no_other_table() {
        let bus = "[upstreams.bus]\nprotocol = \"nats\"\nservers = \"nats://h\"\n";
        let row = "[[routes]]\nmatch = \"a.*\"\nupstream = \"bus\"\n";
        let cases: [(&str, &[&str]); 13] = [
            ("[http]\nlisten = \"127.0.0.1:0\nlissten = 1\n[log]\nlevel = \"x\"", &["2: ", "5: "]),
            ("[log]\nlevel = \"x\"\n[http\nlisten = \"x\"\n[admin]\nx = 1", &["3: ", "6: "]),
            ("[http]\nmax_batch = 1\nmax_batch = 2\n[log]\nlevel = \"x\"", &["3: ", "5: "]),
            ("[http]\nhttp2 = true\n[log]\nlevel = \"x\"\n[http]\nhttp2 = true", &["4: ", "5: "]),
            ("timeout = 5s\n[log]\nlevel = \"x\"\nformat: y", &["1: ", "4: "]),
            ("[http]\n\n]\n[log]\nlevel = \"x\"", &["3: ", "5: "]),
            ("[hub]\nlisten = [\n[log]\nlevel = \"info\"", &["3: "]),
            ("[hub]\nowner = \"\"\"\n[log]\nlevel = \"info\"\n[admin]\n", &["6: "]),
            ("max_batch = 1\nworkers = 99999999999999999999", &["1: ", "2: "]),
            ("[http]\nmax_batch = 99999999999999999999\nmax_body = 1e5", &["2: ", "3: "]),
            (&bus.replace('=', ":"), &["2: ", "3: "]),
            (&format!("{}{row}", bus.replace("bus]", "bus")), &["1: "]),
            (&format!("{bus}{}", row.replace("]]", "]")), &["4: "]),
        ];
        for (text, places) in cases {
            let said = said(text);
            assert_eq!(said.len(), places.len(), "{text}\n{said:#?}");
            for (said, place) in said.iter().zip(places) {
                assert!(said.starts_with(&format!("g:{place}")), "{text}\n{said}");
            }
        }
    }

    #[test]
    fn a_mistake_in_the_syntax_comes_with_its_mend() {
        let cases = [
            ("[http]\nmax_batch = 1\nmax_batch = 2\n", "`max_batch` is set a second time"),
            ("[http]\n[log]\n[http] # x\n", "[http] stands here a second time: put all"),
            ("[log]\nlevel = info", "quotes"),
            ("[log]\nlevel = nats", "quotes"),
            ("[hub]\nlisten = [\n[log]\nlevel = 1", "a list before this line has no end"),
            ("[log]\nlevel: x", "write `key = …`"),
            ("[log", "expected `]` (the rest of this table is checked once that is mended)"),
            ("n = 99999999999999999999", "unknown key `n`"),
            ("workers = 99999999999999999999", "from 1 to 512, not 99999999999999999999"),
            ("timeout = \"48h\"", "at most \"24h\", not \"48h\""),
        ];
        for (text, words) in cases {
            let said = said(text);
            assert!(said[0].contains(words), "{text}\n{said:#?}");
        }
    }

    #[test]
    fn a_file_in_another_encoding_is_told_with_its_line() {
        let text = b"timeout = 5\n[http]\n# caf\xe9\nlissten = 1\n[log]\nlevel = \"x\"\n";
        let problems =
            parse_bytes("g", text, Variables::new(), &crate::protocol::readers()).problems;
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[1].starts_with("g:3: not valid TOML: not UTF-8: save the file"), "{said:?}");
    }

    #[test]
    fn what_is_no_configuration_at_all_comes_to_an_end() {
        let text = "[a]\n\"\"\" ' [ {\n".repeat(200);
        assert!(!said(&text).is_empty());
    }
}
