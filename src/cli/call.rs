//! `genkan call`: a call through a gateway, or straight to a service that a registry finds.

use std::time::Duration;

use serde::Deserialize;

use super::client::address::Address;
use super::client::envelope::{self, Answer};
use super::client::http::{Client, Exchange};
use super::client::{self, CallArgs, ClientArgs, GATEWAY_MEND, report};
use super::output::Output;
use super::params;
use super::{CommandError, Status, help};
use crate::call::{Params, Payload};
use crate::printable::printable;

/// The arguments of `genkan call`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Call a method through a gateway or a registry.\n\n\
        Prints the result of NAME.METHOD. With --registry, NAME may be a glob: it is looked up \
        in the registry, and METHOD is called on one of the services found, chosen at random.",
    after_help = help::examples(&[
        ("genkan call orders create size=L count:=2", "named params: a string and a number"),
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
    /// glob such as 'reports.*'; a URL without a path means /api
    #[arg(short, long, value_name = "URL", value_hint = clap::ValueHint::Url,
          help_heading = "Connection", conflicts_with = "gateway")]
    pub registry: Option<String>,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Calls, and prints the result or the fault.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    if let Some(registry) = &args.registry {
        return through_registry(&Address::service(registry)?, &args, output);
    }
    let (gateway, method, params) = args.call.read()?;
    client::call_and_print(&gateway, &method, &params, GATEWAY_MEND, &args.client, output)
}

fn through_registry(registry: &Address, args: &Args, output: &Output) -> anyhow::Result<Status> {
    let CallArgs { name, method, .. } = &args.call;
    client::check_method(name, method)?;
    let params = params::read(&args.call.params)?;
    let quiet = args.client.quiet;
    client::with_client(&args.client, output, async |client| {
        let timeout = args.client.timeout;
        let looked_up = look_up(client, registry, name, timeout).await?;
        let found = match read_found(&looked_up, registry, name) {
            Ok(found) => found,
            Err(error) => {
                if !quiet {
                    output.note(&report::timings(
                        None,
                        ("look-up", &looked_up),
                        None,
                        output.err(),
                    ));
                }
                return Err(error);
            }
        };
        // One limit for both: the call has what the look-up has left of it.
        let left = timeout.map(|timeout| timeout.saturating_sub(looked_up.took));
        let left = left.map(|left| left.max(Duration::from_millis(1)));
        let body = envelope::call(method, &params);
        let mend = "the registry names it: is the service still running there?";
        let exchange = client.post(&found, body, left, mend).await?;
        let status = client::print_answer(&found, &exchange, output);
        if !quiet {
            let line = report::timings(
                Some(looked_up.took),
                ("call", &exchange),
                Some(&found),
                output.err(),
            );
            output.note(&line);
        }
        status
    })
}

/// Asks the registry (WIRE 4.4): `locate_service` with the name, which may be a glob.
async fn look_up(
    client: &Client,
    registry: &Address,
    name: &str,
    timeout: Option<Duration>,
) -> anyhow::Result<Exchange> {
    let params = format!("{{\"name\":{}}}", serde_json::Value::from(name));
    let params = Params::Object(Payload::from_validated(params.into()));
    let body = envelope::call("locate_service", &params);
    client.post(registry, body, timeout, "is a registry running there?").await
}

/// What a registry says of an instance: its URL, or, up to Gemstone 0.3, its host and port.
#[derive(Deserialize)]
#[serde(untagged)]
enum Instance {
    Url(String),
    Place { host: String, port: u16 },
}

fn read_found(exchange: &Exchange, registry: &Address, name: &str) -> anyhow::Result<Address> {
    let shown = registry.shown();
    let result = match envelope::read(&exchange.body) {
        Ok(Answer::Result(result)) => result,
        Ok(Answer::Fault(error)) => {
            anyhow::bail!("the registry {shown} cannot look `{name}` up: {}", printable(error))
        }
        Err(why) => return Err(report::not_json_rpc(registry, exchange, &why)),
    };
    let found: Option<Vec<Instance>> = serde_json::from_str(result).map_err(|_| {
        anyhow::anyhow!(
            "the registry {shown} answered `locate_service` with something else than a list of \
             URLs: {}",
            printable(&result.chars().take(200).collect::<String>())
        )
    })?;
    let found = found.unwrap_or_default();
    let Some(instance) = fastrand::choice(&found) else {
        anyhow::bail!("the registry {shown} knows no service that matches `{name}`");
    };
    let url = match instance {
        Instance::Url(url) => url.clone(),
        Instance::Place { host, port } if host.contains(':') => format!("http://[{host}]:{port}"),
        Instance::Place { host, port } => format!("http://{host}:{port}"),
    };
    // What is wrong with it is not the fault of whoever typed the command.
    Address::service(&url).map_err(|error| match error {
        CommandError::Usage(why) | CommandError::NoConnection(why) => {
            anyhow::anyhow!("the registry {shown} gave a useless address for `{name}`: {why}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(result: &str) -> Result<String, String> {
        let exchange = Exchange {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{result}}}").into(),
            took: Duration::ZERO,
        };
        let registry = Address::service("http://127.0.0.1:1/api").expect("valid");
        let address = read_found(&exchange, &registry, "hello.*");
        address.map(|a| a.uri().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_registry_says() {
        let cases = [
            (r#""result":["http://127.0.0.1:18000/api"]"#, Ok("http://127.0.0.1:18000/api")),
            (r#""result":["http://h/x"],"error":null"#, Ok("http://h/x")),
            (r#""result":[{"host":"127.0.0.1","port":18100}]"#, Ok("http://127.0.0.1:18100/api")),
            (r#""result":[{"host":"::1","port":1}]"#, Ok("http://[::1]:1/api")),
            (r#""result":[]"#, Err("knows no service that matches `hello.*`")),
            (r#""result":null"#, Err("knows no service")),
            (r#""result":{"a":1}"#, Err("something else than a list")),
            (r#""result":["ftp://h"]"#, Err("useless address")),
            (r#""error":{"code":-32601,"message":"Method not found"}"#, Err("cannot look")),
        ];
        for (result, expected) in cases {
            match (found(result), expected) {
                (Ok(uri), Ok(expected)) => assert_eq!(uri, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{result}: {error}"),
                (other, _) => panic!("{result}: {other:?}"),
            }
        }
    }

    #[test]
    fn one_of_several_is_picked() {
        let all: std::collections::BTreeSet<_> = (0..200)
            .filter_map(|_| found(r#""result":["http://a/","http://b/","http://c/"]"#).ok())
            .collect();
        assert_eq!(all.len(), 3);
    }
}
