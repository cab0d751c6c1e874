//! What `--help` and a usage error look like: the styles, the groups of commands, examples.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Effects, Styles};
use clap::{ColorChoice, CommandFactory};

use super::output::{Output, Paint, Role};
use super::{Cli, Status};

/// The colours of help texts.
pub(super) const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

const GROUPS: &[(&str, &[&str])] = &[
    ("The gateway", &["serve", "modules", "registry"]),
    ("Its configuration", &["check", "routes", "explain", "key"]),
    ("Calls and events", &["call", "call-raw", "notify", "listen"]),
    ("The shell", &["completions"]),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("genkan serve", "a gateway on 127.0.0.1:8080 with the embedded configuration"),
    ("genkan check --config genkan.toml", "every problem in a file at once"),
    ("genkan call orders create id:=7 size=L", "call orders.create with two named params"),
];

const STATUS: &str = "0 result, 1 fault or failed check, 2 wrong usage, 3 no connection";

/// The command line as clap knows it, with the commands of the first page in groups.
pub(super) fn command() -> clap::Command {
    let command = Cli::command();
    let mut page = String::new();
    for (title, names) in GROUPS {
        let header = STYLES.get_header();
        page.push_str(&format!("{header}{title}:{header:#}\n"));
        for name in *names {
            let about = command.find_subcommand(name).map(first_line).unwrap_or_default();
            let literal = STYLES.get_literal();
            page.push_str(&format!("  {literal}{name:<12}{literal:#} {about}\n"));
        }
        page.push('\n');
    }
    let header = STYLES.get_header();
    page.push_str(&format!("{header}Options:{header:#}\n"));
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{page}{{options}}{{after-help}}"
    );
    let (examples, status) = (examples(EXAMPLES), section("Exit status", STATUS));
    let footer = StyledStr::from(format!("{}\n\n{}", examples.ansi(), status.ansi()));
    command.help_template(template).after_help(footer)
}

/// The same for a shell, which shows a line for each command.
pub(super) fn command_in_brief() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let about = first_line(&command);
        command.about(about)
    })
}

/// What a command is for, without the details that follow and the full stop.
fn first_line(command: &clap::Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    about.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// An `Examples:` section: commands, and what each does.
pub(super) fn examples(rows: &[(&str, &str)]) -> StyledStr {
    let header = STYLES.get_header();
    let faint = clap::builder::styling::Style::new().effects(Effects::DIMMED);
    let mut text = format!("{header}Examples:{header:#}");
    for (command, meaning) in rows {
        text.push_str(&format!("\n  {command}\n      {faint}{meaning}{faint:#}"));
    }
    StyledStr::from(text)
}

fn section(title: &str, text: &str) -> StyledStr {
    let header = STYLES.get_header();
    StyledStr::from(format!("{header}{title}:{header:#} {text}"))
}

/// What `--color` says, for what is printed before or instead of parsing the arguments.
pub(super) fn color_in(args: &[OsString]) -> ColorChoice {
    let mut words = args.iter().filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--");
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => continue,
        };
        match value {
            Some("always") => return ColorChoice::Always,
            Some("never") => return ColorChoice::Never,
            _ => {}
        }
    }
    ColorChoice::Auto
}

/// Prints help to standard output or a usage error to standard error, in the form that all
/// errors have. Returns the exit status.
pub(super) fn print_parse_error(error: &clap::Error, output: &Output) -> u8 {
    if !error.use_stderr() {
        drop(error.print());
        return Status::Done.code();
    }
    let rendered = error.render();
    let text = match output.err() {
        Paint::COLOUR => rendered.ansi().to_string(),
        _ => rendered.to_string(),
    };
    // clap's own title, with or without its colour, gives way to the form of all errors.
    match text.split_once("error:") {
        Some((before, rest)) if before.chars().all(|c| !c.is_alphabetic() || c == 'm') => {
            let rest = rest.strip_prefix("\x1b[0m").unwrap_or(rest);
            output.note(&format!("{}{rest}", output.err().paint(Role::Error, "genkan:")));
        }
        _ => output.note(&text),
    }
    Status::Usage.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_in_a_group_and_says_what_it_is_for() {
        let command = command();
        let grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let listed: Vec<_> = command.get_subcommands().map(|found| found.get_name()).collect();
        assert_eq!(grouped, listed);
        assert!(command.get_subcommands().all(|found| !first_line(found).is_empty()));
    }

    #[test]
    fn colour_is_known_before_the_arguments_are_parsed() {
        let cases = [
            (vec!["genkan", "--color", "never", "call"], ColorChoice::Never),
            (vec!["genkan", "call", "--color=always"], ColorChoice::Always),
            (vec!["genkan", "call", "--", "--color=always"], ColorChoice::Auto),
            (vec!["genkan", "--colour"], ColorChoice::Auto),
        ];
        for (args, color) in cases {
            let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
            assert_eq!(color_in(&args), color, "{args:?}");
        }
    }
}
