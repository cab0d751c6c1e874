//! `genkan call-raw`: a call straight to a JSON-RPC service over HTTP.

use super::client::address::Address;
use super::client::http2::Versions;
use super::client::{self, ClientArgs};
use super::output::Output;
use super::params::{self, PARAM_HELP};
use super::{Status, help};

/// The arguments of `genkan call-raw`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Call a JSON-RPC service over HTTP directly.\n\n\
        Prints the result of METHOD at URL, without a gateway between. Services that answer \
        with both a result and an error, one of them null, are understood too.",
    after_help = help::examples(&[
        ("genkan call-raw http://127.0.0.1:8000/api say_hello name=bob", "a named param"),
        ("genkan call-raw 127.0.0.1:8080 orders.create id:=7 size=L", "service.method of a gateway"),
    ])
)]
pub struct Args {
    /// The service's URL; without a path, /api is meant. A Unix socket is unix:///PATH/TO.sock:/api
    #[arg(value_name = "URL", value_hint = clap::ValueHint::Url)]
    pub url: String,
    /// The method, sent as it is
    #[arg(value_name = "METHOD")]
    pub method: String,
    #[arg(value_name = "PARAM", help = PARAM_HELP, allow_negative_numbers = true)]
    /// The params.
    pub params: Vec<String>,
    /// Speak HTTP/2 at once, as an upstream with `http2 = true` does; over https:// it is agreed on without
    #[arg(long, help_heading = "Connection")]
    pub http2: bool,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Calls, and prints the result or the fault.
pub fn run(mut args: Args, output: &Output) -> anyhow::Result<Status> {
    client::check_method("", &args.method)?;
    let address = Address::service(&args.url)?;
    let params = params::read(&args.params)?;
    args.client.versions = if args.http2 { Versions::Two } else { Versions::Either };
    let mend = "is the service running there?";
    client::call_and_print(&address, &args.method, &params, mend, &args.client, output)
}
