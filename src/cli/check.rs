//! `genkan check`: says what is wrong with a configuration.

use super::output::Output;
use super::{ConfigArgs, Status, help};

/// The arguments of `genkan check`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Say every problem of a configuration at once.\n\n\
        Each comes with its file, its line and the mend. Connects to nothing. Exits with 1 if \
        there is an error; warnings alone leave 0.",
    after_help = help::examples(&[
        ("genkan check", "the configuration that `genkan serve` would read"),
        ("genkan check -c genkan.toml --json", "the problems as a JSON array"),
    ])
)]
pub struct Args {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Checks the configuration and prints its problems.
pub fn run(_args: Args, _output: &Output) -> anyhow::Result<Status> {
    anyhow::bail!("not wired yet")
}
