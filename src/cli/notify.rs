//! `genkan notify`: a call that nobody waits for.

use std::time::Duration;

use super::client::address::Address;
use super::client::envelope::{self, Answer};
use super::client::found;
use super::client::http::Exchange;
use super::client::{self, CallArgs, ClientArgs, GATEWAY_MEND, report};
use super::output::Output;
use super::params;
use super::{Status, help};

/// The arguments of `genkan notify`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Call a method without waiting for its result.\n\n\
        Sends NAME.METHOD through a gateway as a notification, and ends once the gateway has \
        accepted it; what the service makes of it is not known. With --registry, NAME may be a \
        glob: METHOD is called on one of the services found, chosen at random.",
    after_help = help::examples(&[
        ("genkan notify mailer send to=bob@example.org", "a named param"),
        ("genkan notify --registry http://127.0.0.1:8000/api 'workers.*' wake", "through a registry"),
    ])
)]
pub struct Args {
    /// What is called.
    #[command(flatten)]
    pub call: CallArgs,
    /// The URL of a registry to find the service with, instead of a gateway: then NAME may be a
    /// glob such as 'workers.*'; a URL without a path, or with / alone, means /api
    #[arg(short, long, value_name = "URL", value_hint = clap::ValueHint::Url,
          help_heading = "Connection", conflicts_with = "gateway")]
    pub registry: Option<String>,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Sends the notification, and says nothing but how long that took.
pub fn run(mut args: Args, output: &Output) -> anyhow::Result<Status> {
    if let Some(registry) = &args.registry {
        return through_registry(&Address::registry(registry)?, &args, output);
    }
    args.client.show_token()?;
    let (gateway, method, params) = args.call.read()?;
    let exchange = client::with_client(&args.client, output, async |client| {
        let body = envelope::notification(&method, &params);
        client.post(&gateway, body, args.client.timeout, GATEWAY_MEND).await
    })?;
    end((&gateway, &exchange), None, &args.client, output)
}

fn through_registry(registry: &Address, args: &Args, output: &Output) -> anyhow::Result<Status> {
    let CallArgs { name, method, .. } = &args.call;
    client::check_method(name, method)?;
    let params = params::read(&args.call.params)?;
    client::with_client(&args.client, output, async |client| {
        let found = found::find(client, registry, name, &args.client, output).await?;
        let body = envelope::notification(method, &params);
        let (address, exchange) = found.post(client, body).await?;
        end((address, &exchange), Some(found.took), &args.client, output)
    })
}

/// Tells how it went; `look_up` is how long that took, where there was one.
fn end(
    (to, exchange): (&Address, &Exchange),
    look_up: Option<Duration>,
    args: &ClientArgs,
    output: &Output,
) -> anyhow::Result<Status> {
    let status = match envelope::read(&exchange.body) {
        // What came in was refused as a whole: then even a notification is answered.
        Ok(Answer::Fault(error)) => report::fault(error, output)?,
        // An accepted one has an empty body, or whatever a service of Gemstone's kind sends.
        _ if exchange.status.is_success() => Status::Done,
        Ok(Answer::Result(_)) => Status::Done,
        Err(why) => return Err(report::not_json_rpc(to, exchange, &why)),
    };
    if !args.quiet {
        let found = look_up.map(|_| to);
        output.note(&report::timings(look_up, ("sent", exchange), found, output.err()));
    }
    Ok(status)
}
