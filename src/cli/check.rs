//! `genkan check`: says what is wrong with a configuration.

use serde::Serialize;

use super::live;
use super::output::Output;
use super::output::{Form, Role};
use super::written::Written;
use super::{ConfigArgs, Status, help};
use crate::config::problem::{Place, Problem, Severity};
use crate::config::{self, Origin};

/// The arguments of `genkan check`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Say every problem of a configuration at once.\n\n\
        Each comes with its file, its line and the mend. Connects to nothing, unless with --live. \
        Exits with 1 if there is an error; warnings alone leave 0. With --audit, exits with 1 if there is \
        anything to say.",
    after_help = help::examples(&[
        ("genkan check --audit", "and what to mend before the world can reach it"),
        ("genkan check --live", "and what is wrong with the brokers and services that run"),
        ("genkan check", "the configuration that `genkan serve` would read"),
        ("genkan check -c genkan.toml --json", "the problems as a JSON array"),
    ])
)]
pub struct Args {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Connect too, read-only: rows that nobody answers, exchanges of the wrong type, brokers that
    /// block, streams that swallow a subject, or take no events
    #[arg(long)]
    pub live: bool,
    /// Say too what is no mistake, and what an operator whom the public internet can reach should mend
    #[arg(long)]
    pub audit: bool,
}

/// Checks the configuration and prints its problems.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    let origin = Origin::find(args.config.config);
    let mut loaded = config::load(&origin, &crate::protocol::readers());
    let is_valid = loaded.problems.iter().all(|problem| problem.severity == Severity::Warning);
    if args.audit && is_valid {
        loaded.problems.extend(loaded.audit());
        loaded.problems.sort_by_key(|problem| problem.place.line());
    }
    if args.live && is_valid {
        loaded.problems.extend(live::look(&loaded)?);
    }
    let errors = print(&origin, &loaded.problems, output)?;
    let is_well = if args.audit { loaded.problems.is_empty() } else { errors == 0 };
    Ok(if is_well { Status::Done } else { Status::Fault })
}

/// Prints problems, for people to standard error and for programs to standard output, and
/// returns how many of them are errors.
pub(super) fn print(
    origin: &Origin,
    problems: &[Problem],
    output: &Output,
) -> anyhow::Result<usize> {
    let errors = count(problems, Severity::Error);
    if output.form() == Form::Json {
        let rows: Vec<Row<'_>> = problems.iter().map(Row::from).collect();
        output.print(&serde_json::to_string(&rows)?)?;
    }
    if output.is_json_wanted() {
        return Ok(errors);
    }
    let text = origin.read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let written = Written::new(&text);
    let mut shown = String::new();
    for problem in problems {
        show(&mut shown, problem, &written, output);
    }
    shown.push_str(&summary(origin, problems, output));
    output.note(&shown);
    Ok(errors)
}

/// A problem as a program reads it.
#[derive(Serialize)]
struct Row<'a> {
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<&'a str>,
    message: &'a str,
}

impl<'a> From<&'a Problem> for Row<'a> {
    fn from(problem: &'a Problem) -> Self {
        let (file, line, variable) = match &problem.place {
            Place::Line(file, line) => (Some(file.as_str()), Some(*line), None),
            Place::File(file) => (Some(file.as_str()), None, None),
            Place::Environment(name) => (None, None, Some(name.as_str())),
        };
        let severity = word(problem.severity);
        Self { severity, file, line, variable, message: &problem.message }
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Advice => "advice",
    }
}

/// The problem, its place, and the line as it is written there.
fn show(shown: &mut String, problem: &Problem, written: &Written<'_>, output: &Output) {
    let paint = output.err();
    let role = match problem.severity {
        Severity::Error => Role::Error,
        Severity::Warning => Role::Warning,
        Severity::Advice => Role::Key,
    };
    let severity = paint.paint(role, word(problem.severity));
    let (place, message) = (&problem.place, &problem.message);
    shown.push_str(&format!(
        "{severity}: {message}\n  {} {place}\n",
        paint.paint(Role::Faint, "-->")
    ));
    let line = problem.place.line();
    if let Some(written) = written.line(line, hides_values(problem)) {
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let bar = paint.paint(Role::Faint, "|");
        let number = paint.paint(Role::Faint, number);
        shown.push_str(&format!(" {margin} {bar}\n {number} {bar} {written}\n"));
    }
    shown.push('\n');
}

/// Whether a problem's line may hold a secret whatever its key is called.
fn hides_values(Problem { severity, message, .. }: &Problem) -> bool {
    const TOLD: [&str; 8] = [
        // In which table a line stands that is no TOML, and where its value ends, is a guess.
        "not valid TOML",
        // Nobody can tell what a key that nobody knows was to hold: `pasword` a password; nor a
        // string that stands where a table should.
        "unknown key",
        "must be a table",
        "must be tables",
        "must be a list of tables",
        // A table of secrets by name.
        "token",
        "secret",
        "pass",
    ];
    match severity {
        Severity::Error | Severity::Warning => TOLD.iter().any(|words| message.contains(words)),
        // It says so itself, and its key may have any name: that of a header.
        Severity::Advice => message.contains("is a secret"),
    }
}

fn count(problems: &[Problem], severity: Severity) -> usize {
    problems.iter().filter(|problem| problem.severity == severity).count()
}

fn summary(origin: &Origin, problems: &[Problem], output: &Output) -> String {
    let (name, paint) = (origin.name(), output.err());
    let words = [
        (Severity::Error, "error", "errors"),
        (Severity::Warning, "warning", "warnings"),
        (Severity::Advice, "thing to mend", "things to mend"),
    ];
    let parts = words.into_iter().filter_map(|(severity, one, many)| {
        let said = match count(problems, severity) {
            0 => return None,
            1 => format!("1 {one}"),
            number => format!("{number} {many}"),
        };
        Some(if severity == Severity::Error { paint.paint(Role::Error, said) } else { said })
    });
    let mut parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        parts.push(paint.paint(Role::Good, "no problems"));
    } else if count(problems, Severity::Error) == 0 {
        parts.push("no errors".to_owned());
    }
    format!("{name}: {}", parts.join(", "))
}
