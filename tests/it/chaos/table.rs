//! The table, as `make chaos` prints it and `docs/chaos.md` has it.

use std::fmt::Write as _;
use std::time::Duration;

use super::books::{Books, RESULT};
use crate::harness::process::project;

const BEGIN: &str = "<!-- table: `make chaos` writes what follows -->";
const END: &str = "<!-- end of the table -->";

/// A line of it.
pub struct Row {
    pub name: &'static str,
    pub books: Books,
}

type Cell = fn(&Books) -> String;

/// The columns beside the first: what is counted, and what stands there.
const COLUMNS: [(&str, Cell); 11] = [
    ("calls", |books| books.calls.to_string()),
    ("results", |books| books.results().to_string()),
    ("other answers", |books| {
        let others = books.answers.iter().filter(|(kind, _)| *kind != RESULT);
        let words = others.map(|(kind, count)| format!("{kind} {count}"));
        words.collect::<Vec<_>>().join(", ")
    }),
    ("unanswered", |books| books.unanswered.to_string()),
    ("late", |books| books.late.to_string()),
    ("hung", |books| books.hung.to_string()),
    ("another's", |books| books.foreign.to_string()),
    ("ran anyway", |books| books.ran_anyway.to_string()),
    ("recovered", |books| {
        let mut all = books.recoveries.clone();
        all.sort_unstable();
        let at = |place: usize| seconds(all.get(place).copied().unwrap_or_default());
        format!("{} – {}", at(all.len() / 2), at(all.len().saturating_sub(1)))
    }),
    ("memory", |books| {
        let mib = |bytes: f64| format!("{:.0}", bytes / f64::from(1 << 20));
        format!("{} → {} MiB", mib(books.before.memory), mib(books.after.memory))
    }),
    ("files", |books| format!("{} → {}", books.before.files, books.after.files)),
];

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// All of it, aligned.
pub fn render(rows: &[Row]) -> String {
    let mut head = vec!["what breaks".to_owned()];
    head.extend(COLUMNS.map(|(name, _)| name.to_owned()));
    let mut lines = vec![head];
    for row in rows {
        let mut line = vec![row.name.to_owned()];
        line.extend(COLUMNS.map(|(_, cell)| cell(&row.books)));
        lines.push(line);
    }
    let width = |text: &String| text.chars().count();
    let widths: Vec<_> = (0..=COLUMNS.len())
        .map(|column| lines.iter().map(|line| width(&line[column])).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            write!(text, "| {cell:<width$} ").expect("text");
        }
        text += "|\n";
        if number == 0 {
            for width in &widths {
                write!(text, "|{}", "-".repeat(width + 2)).expect("text");
            }
            text += "|\n";
        }
    }
    text
}

fn page() -> String {
    std::fs::read_to_string(project().join("docs/chaos.md")).expect("docs/chaos.md")
}

/// Puts it in its place on the page.
pub fn write(table: &str, rounds: u32) {
    let page = page();
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where it ends");
    let page = format!(
        "{before}{BEGIN}\n\n{rounds} rounds of each, against a development build:\n\n{table}\n{END}{after}"
    );
    std::fs::write(project().join("docs/chaos.md"), page).expect("docs/chaos.md");
}

/// The scenarios that the page has.
pub fn on_the_page() -> Vec<String> {
    let page = page();
    let table = page.split(BEGIN).nth(1).and_then(|rest| rest.split(END).next());
    let rows = table.expect("a table").lines().filter_map(|line| line.strip_prefix("| "));
    let names = rows.filter_map(|row| row.split(" |").next());
    names.skip(1).map(|name| name.trim().to_owned()).collect()
}
