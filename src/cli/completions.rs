//! `genkan completions`: a script by which a shell completes the command line.

use clap_complete::Shell;

use super::output::Output;
use super::{Status, help};

/// The arguments of `genkan completions`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Print a completion script for a shell.",
    after_help = help::examples(&[
        ("genkan completions bash > ~/.local/share/bash-completion/completions/genkan", "for bash"),
        ("genkan completions zsh > \"${fpath[1]}/_genkan\"", "for zsh"),
        ("genkan completions fish > ~/.config/fish/completions/genkan.fish", "for fish"),
    ])
)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    // Into memory first: clap_complete panics where it cannot write, and a pipe may close.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command_in_brief(), "genkan", &mut script);
    output.print(&String::from_utf8_lossy(&script))?;
    Ok(Status::Done)
}
