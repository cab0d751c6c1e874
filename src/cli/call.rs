//! `genkan call`: a call through a gateway, or straight to a service that a registry finds.

use super::client::address::Address;
use super::client::found;
use super::client::{self, CallArgs, ClientArgs, GATEWAY_MEND, envelope, report};
use super::output::Output;
use super::params;
use super::{Status, help};

/// The arguments of `genkan call`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Call a method through a gateway or a registry.\n\n\
        Prints the result of NAME.METHOD. With --registry, NAME may be a glob: it is looked up \
        in the registry, and METHOD is called on one of the services found, chosen at random \
        among those that can be connected to.",
    after_help = help::examples(&[
        ("genkan call orders create id:=7 size=L", "named params: a number and a string"),
        ("genkan call math add 1 2", "positional params"),
        ("echo '{\"ids\": [1, 2]}' | genkan call orders find -", "params from standard input"),
        ("genkan call --registry http://127.0.0.1:8000/api 'reports.*' daily", "through a registry"),
        ("genkan call orders list | jq '.[0]'", "piped: the bare result as plain JSON"),
    ])
)]
pub struct Args {
    /// What is called.
    #[command(flatten)]
    pub call: CallArgs,
    /// The URL of a registry to find the service with, instead of a gateway: then NAME may be a
    /// glob such as 'reports.*'; a URL without a path, or with / alone, means /api
    #[arg(short, long, value_name = "URL", value_hint = clap::ValueHint::Url,
          help_heading = "Connection", conflicts_with = "gateway")]
    pub registry: Option<String>,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Calls, and prints the result or the fault.
pub fn run(mut args: Args, output: &Output) -> anyhow::Result<Status> {
    if let Some(registry) = &args.registry {
        return through_registry(&Address::registry(registry)?, &args, output);
    }
    args.client.show_token()?;
    let (gateway, method, params) = args.call.read()?;
    client::call_and_print(&gateway, &method, &params, GATEWAY_MEND, &args.client, output)
}

fn through_registry(registry: &Address, args: &Args, output: &Output) -> anyhow::Result<Status> {
    let CallArgs { name, method, .. } = &args.call;
    client::check_method(name, method)?;
    let params = params::read(&args.call.params)?;
    client::with_client(&args.client, output, async |client| {
        let found = found::find(client, registry, name, &args.client, output).await?;
        let body = envelope::call(method, &params);
        let (address, exchange) = found.post(client, body).await?;
        let status = client::print_answer(address, &exchange, output);
        if !args.client.quiet {
            let (took, call) = (Some(found.took), ("call", &exchange));
            let line = report::timings(took, call, Some(address), output.err());
            output.note(&line);
        }
        status
    })
}
