//! `genkan explain`: what would happen to a call. Sends nothing.

use super::output::Output;
use super::params::PARAM_HELP;
use super::{ConfigArgs, Status, help};

/// The arguments of `genkan explain`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Show which route a call takes and what would be sent.\n\n\
        Says why the route wins, and shows the envelope, headers, subject or routing key of \
        the message. Sends nothing and connects to nothing.",
    after_help = help::examples(&[
        ("genkan explain orders.create size=L count:=2", "the route and the message of a call"),
    ])
)]
pub struct Args {
    /// What would be called: service.method
    #[arg(value_name = "NAME.METHOD")]
    pub name: String,
    #[arg(value_name = "PARAM", help = PARAM_HELP, allow_negative_numbers = true)]
    /// The params, as [`super::params::read`] takes them.
    pub params: Vec<String>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Explains a call.
pub fn run(_args: Args, _output: &Output) -> anyhow::Result<Status> {
    anyhow::bail!("not wired yet")
}
