//! `genkan notify`: a call that nobody waits for.

use super::client::envelope::{self, Answer};
use super::client::{self, CallArgs, ClientArgs, GATEWAY_MEND, report};
use super::output::Output;
use super::{Status, help};

/// The arguments of `genkan notify`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Call a method without waiting for its result.\n\n\
        Sends NAME.METHOD through a gateway as a notification, and ends once the gateway has \
        accepted it; what the service makes of it is not known.",
    after_help = help::examples(&[
        ("genkan notify mailer send to=bob@example.org", "a named param"),
    ])
)]
pub struct Args {
    /// What is called.
    #[command(flatten)]
    pub call: CallArgs,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Sends the notification, and says nothing but how long that took.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    let (gateway, method, params) = args.call.read()?;
    let exchange = client::with_client(&args.client, output, async |client| {
        let body = envelope::notification(&method, &params);
        client.post(&gateway, body, args.client.timeout, GATEWAY_MEND).await
    })?;
    let status = match envelope::read(&exchange.body) {
        // What came in was refused as a whole: then even a notification is answered.
        Ok(Answer::Fault(error)) => report::fault(error, output)?,
        // An accepted one has an empty body, or whatever a service of Gemstone's kind sends.
        _ if exchange.status.is_success() => Status::Done,
        Ok(Answer::Result(_)) => Status::Done,
        Err(why) => return Err(report::not_json_rpc(&gateway, &exchange, &why)),
    };
    if !args.client.quiet {
        output.note(&report::timings(None, ("sent", &exchange), None, output.err()));
    }
    Ok(status)
}
