//! How every command speaks: results on standard output, all else on standard error; for people
//! on a terminal, plain JSON otherwise (CONTRACT, section 2).
//!
//! What is decided here: the form, whether to colour, and how an error reads. What a command says
//! is its own business, and so is `printable`, for what came from elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write as _};

use clap::ColorChoice;

use super::json;
use crate::config::environment;

/// For whom standard output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A person on a terminal: aligned, indented, perhaps coloured.
    Human,
    /// A program: plain JSON, one value a line.
    Json,
}

/// What the process is connected to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings {
    /// Standard output is a terminal.
    pub stdout: bool,
    /// Standard error is a terminal.
    pub stderr: bool,
    /// The user or the terminal wants no colour.
    pub no_color: bool,
}

impl Surroundings {
    /// Looks at this process's.
    pub fn look() -> Self {
        Self {
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
            no_color: environment::no_color(),
        }
    }
}

/// What a piece of text is, so that the same things have the same colour everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What to look at first: a title, a name.
    Strong,
    /// What can be skipped: labels, timings, brackets.
    Faint,
    /// A JSON key.
    Key,
    /// A JSON string.
    Text,
    /// A JSON number.
    Number,
    /// `true`, `false` or `null`.
    Word,
    /// Something is well.
    Good,
    /// Something may be not as meant.
    Warning,
    /// Something is wrong.
    Error,
}

impl Role {
    fn escape(self) -> &'static str {
        match self {
            Role::Strong => "\x1b[1m",
            Role::Faint => "\x1b[2m",
            Role::Key => "\x1b[34;1m",
            Role::Text | Role::Good => "\x1b[32m",
            Role::Number => "\x1b[36m",
            Role::Word => "\x1b[35m",
            Role::Warning => "\x1b[33;1m",
            Role::Error => "\x1b[31;1m",
        }
    }
}

/// Colours text, or leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// Leaves text alone.
    pub const PLAIN: Paint = Paint(false);
    /// Colours it.
    pub const COLOUR: Paint = Paint(true);

    /// Whether it colours.
    pub fn colours(self) -> bool {
        self.0
    }

    /// The text in its role's colour.
    pub fn paint(self, role: Role, text: impl fmt::Display) -> String {
        if self.0 { format!("{}{text}\x1b[0m", role.escape()) } else { text.to_string() }
    }

    /// Appends the text in its role's colour.
    pub fn push(self, to: &mut String, role: Role, text: &str) {
        if self.0 {
            to.push_str(role.escape());
            to.push_str(text);
            to.push_str("\x1b[0m");
        } else {
            to.push_str(text);
        }
    }
}

/// Where a command writes. Made once, before the command runs.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    form: Form,
    /// Standard output is a terminal, which some characters steer.
    is_terminal: bool,
    /// Whether somebody has asked for JSON, and not a pipe alone.
    json: bool,
    out: Paint,
    err: Paint,
}

impl Output {
    /// Decides. `--json` on a terminal is what a pipe gets; colour is for terminals unless
    /// `color` or the user's environment says otherwise, and never changes the form.
    pub fn new(json: bool, color: ColorChoice, around: Surroundings) -> Self {
        let human = around.stdout && !json;
        let paint = |terminal: bool| match color {
            ColorChoice::Always => Paint::COLOUR,
            ColorChoice::Never => Paint::PLAIN,
            ColorChoice::Auto => Paint(terminal && !around.no_color),
        };
        let form = if human { Form::Human } else { Form::Json };
        Self {
            form,
            is_terminal: around.stdout,
            json,
            out: paint(human),
            err: paint(around.stderr),
        }
    }

    /// For whom standard output is written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How standard output is coloured.
    pub fn out(&self) -> Paint {
        self.out
    }

    /// How standard error is coloured.
    pub fn err(&self) -> Paint {
        self.err
    }

    /// Writes lines to standard output. `text` needs no line break at its end. To a terminal no character goes that
    /// steers it, but for colours: in JSON text the escape that means the same.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let text = if self.is_terminal { json::escaped(text) } else { text.into() };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    }

    /// Writes one valid JSON value to standard output: indented for people, else on one line,
    /// and in both forms with every number, string and key as it came.
    pub fn print_json(&self, raw: &str) -> io::Result<()> {
        match self.form {
            Form::Human => self.print(&json::pretty(raw, self.out)),
            Form::Json => self.print(&json::one_line(raw, self.out)),
        }
    }

    /// Writes lines to standard error. A standard error that nobody reads is no reason to fail.
    pub fn note(&self, text: &str) {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        drop(write!(io::stderr().lock(), "{text}{end}"));
    }

    /// Whether somebody has asked for JSON, and wants nothing else.
    pub fn is_json_wanted(&self) -> bool {
        self.json
    }

    /// Writes `genkan: message` to standard error, the one form that errors have.
    pub fn error(&self, message: impl fmt::Display) {
        self.note(&error_line(message, self.err));
    }

    /// Writes `genkan: warning: message` to standard error.
    pub fn warning(&self, message: impl fmt::Display) {
        let word = self.err.paint(Role::Warning, "warning:");
        self.note(&format!("genkan: {word} {message}"));
    }
}

fn error_line(message: impl fmt::Display, paint: Paint) -> String {
    format!("{} {message}", paint.paint(Role::Error, "genkan:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_terminal_and_the_colour_does_not_change_it() {
        let terminal = Surroundings { stdout: true, stderr: true, no_color: false };
        let pipe = Surroundings { stdout: false, ..terminal };
        let plain = Surroundings { no_color: true, ..terminal };
        let cases = [
            (false, ColorChoice::Auto, terminal, Form::Human, true, true),
            (true, ColorChoice::Auto, terminal, Form::Json, false, true),
            (true, ColorChoice::Always, terminal, Form::Json, true, true),
            (false, ColorChoice::Auto, pipe, Form::Json, false, true),
            (false, ColorChoice::Always, pipe, Form::Json, true, true),
            (false, ColorChoice::Never, terminal, Form::Human, false, false),
            (false, ColorChoice::Auto, plain, Form::Human, false, false),
            (false, ColorChoice::Always, plain, Form::Human, true, true),
        ];
        for (json, color, around, form, out, err) in cases {
            let output = Output::new(json, color, around);
            assert_eq!(output.form(), form, "{color:?} {around:?}");
            assert_eq!(output.out().colours(), out, "{color:?} {around:?}");
            assert_eq!(output.err().colours(), err, "{color:?} {around:?}");
        }
    }

    #[test]
    fn errors_have_one_form() {
        assert_eq!(error_line("no such file", Paint::PLAIN), "genkan: no such file");
        let coloured = error_line("no such file", Paint::COLOUR);
        assert_eq!(coloured, "\x1b[31;1mgenkan:\x1b[0m no such file");
    }
}
