//! `genkan routes`: the routing table, as a table.

use super::output::Output;
use super::{ConfigArgs, Status, help};

/// The arguments of `genkan routes`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Show the routing table.\n\n\
        Its rows stand in the order in which they are searched: the first that matches wins.",
    after_help = help::examples(&[
        ("genkan routes", "the table that `genkan serve` would start with"),
        ("genkan routes -c genkan.toml --json", "the same as a JSON array"),
    ])
)]
pub struct Args {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Prints the routing table.
pub fn run(_args: Args, _output: &Output) -> anyhow::Result<Status> {
    anyhow::bail!("not wired yet")
}
