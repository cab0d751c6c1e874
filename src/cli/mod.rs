//! The command line (CONTRACT, section 2): the arguments of every command, and how a command's
//! end becomes the exit status.
//!
//! A file per command; what they share stands in [`output`], [`table`], [`json`], [`params`] and
//! [`client`]. Commands return [`Status`], or an error that [`main`] prints in one form.

pub mod call;
pub mod call_raw;
pub mod check;
pub mod client;
pub mod completions;
pub mod explain;
mod explain_event;
mod explain_own;
mod help;
pub mod json;
pub mod key;
pub mod listen;
mod live;
pub mod modules;
pub mod notify;
pub mod output;
pub mod params;
pub mod registry;
pub mod routes;
mod routes_live;
pub mod serve;
pub mod table;
mod whom;
mod written;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, FromArgMatches, Parser};

use crate::config::problem::Problem;
use crate::config::{self, Config, Origin, Readers};
use output::{Output, Surroundings};

/// How a command ended, as its exit status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0: with a result.
    Done,
    /// 1: with a fault, or with errors in what was checked.
    Fault,
    /// 2: it was called wrongly.
    Usage,
    /// 3: there was no connection, or it brought no answer.
    NoConnection,
}

impl Status {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Fault => 1,
            Status::Usage => 2,
            Status::NoConnection => 3,
        }
    }
}

/// An error that has an exit status of its own. Every other error is [`Status::Fault`].
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command was called wrongly: what is wrong, and what to write instead.
    #[error("{0}")]
    Usage(String),
    /// Nobody answered: who was asked, what happened, and the mend.
    #[error("{0}")]
    NoConnection(String),
}

/// All that can be typed.
#[derive(Debug, Parser)]
#[command(
    name = "genkan",
    version,
    about = "The entrance where calls change their envelope: JSON-RPC over HTTP in front of \
             Nameko, NATS and more.",
    styles = help::STYLES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: OutputArgs,
}

// What help says of a command stands with its arguments; a doc comment here would take its place.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(serve::Args),
    Modules(modules::Args),
    Registry(registry::Args),
    Check(check::Args),
    Routes(routes::Args),
    Explain(explain::Args),
    Key(key::Args),
    Call(call::Args),
    CallRaw(call_raw::Args),
    Notify(notify::Args),
    Listen(listen::Args),
    Completions(completions::Args),
}

/// How every command speaks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Write plain JSON, as when piped
    #[arg(long, global = true, display_order = 100)]
    pub json: bool,
    /// When to colour: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        display_order = 101,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub color: ColorChoice,
}

/// Which configuration a command reads.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration [default: ./genkan.toml, /etc/genkan/genkan.toml, the embedded one]
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads the configuration. `None` where it has errors, which are printed then; warnings are
    /// returned.
    fn load(
        self,
        readers: &Readers,
        output: &Output,
    ) -> anyhow::Result<Option<(Origin, Config, Vec<Problem>)>> {
        let origin = Origin::find(self.config);
        match config::load(&origin, readers).into_valid() {
            Ok((config, warnings)) => Ok(Some((origin, config, warnings))),
            Err(problems) => check::print(&origin, &problems, output).map(|_| None),
        }
    }
}

/// Parses the arguments, runs the command, and reports how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let around = Surroundings::look();
    let (cli, output) = match parse(&args) {
        Ok(cli) => {
            let output = Output::new(cli.output.json, cli.output.color, around);
            (cli, output)
        }
        Err(error) => {
            let output = Output::new(false, help::color_in(&args), around);
            return ExitCode::from(help::print_parse_error(&error, &output));
        }
    };
    let status = run(cli, &output).unwrap_or_else(|error| report(&error, &output));
    ExitCode::from(status.code())
}

fn run(cli: Cli, output: &Output) -> anyhow::Result<Status> {
    match cli.command {
        Command::Serve(args) => serve::run(args, output),
        Command::Check(args) => check::run(args, output),
        Command::Routes(args) => routes::run(args, output),
        Command::Explain(args) => explain::run(args, output),
        Command::Key(args) => key::run(args, output),
        Command::Call(args) => call::run(args, output),
        Command::CallRaw(args) => call_raw::run(args, output),
        Command::Notify(args) => notify::run(args, output),
        Command::Listen(args) => listen::run(args, output),
        Command::Modules(args) => modules::run(args, output),
        Command::Registry(args) => registry::run(args, output),
        Command::Completions(args) => completions::run(args, output),
    }
}

fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let command = help::command().color(help::color_in(args));
    let parsed = command.clone().try_get_matches_from(args);
    let error = match parsed.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::MissingRequiredArgument {
        // With a METHOD in its place it may parse, and then NAME may be `service.method`.
        let filled = args.iter().cloned().chain(["METHOD".into()]);
        if let Ok(Cli { command: Command::Call(call::Args { call, .. }), .. })
        | Ok(Cli { command: Command::Notify(notify::Args { call, .. }), .. }) =
            command.try_get_matches_from(filled).and_then(|mut m| Cli::from_arg_matches_mut(&mut m))
            && let Some(mend) = client::split_name(&call.name)
        {
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, format!("{mend}\n")));
        }
    }
    Err(error)
}

/// Prints an error and says which exit status it has.
fn report(error: &anyhow::Error, output: &Output) -> Status {
    if is_broken_pipe(error) {
        // Whoever read the output has seen enough: `genkan routes | head`.
        return Status::Done;
    }
    output.error(format_args!("{error:#}"));
    match error.downcast_ref::<CommandError>() {
        Some(CommandError::Usage(_)) => {
            output.note("\nFor more information, try '--help'.");
            Status::Usage
        }
        Some(CommandError::NoConnection(_)) => Status::NoConnection,
        None => Status::Fault,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        help::command().debug_assert();
    }
}
