//! Finds a service by a registry (WIRE, section 4.4): `locate_service` with its name, which may be a
//! glob.

use std::time::Duration;

use serde::Deserialize;

use super::address::Address;
use super::envelope::{self, Answer};
use super::http::{Client, Exchange};
use super::{ClientArgs, report};
use crate::call::{Params, Payload};
use crate::cli::CommandError;
use crate::cli::output::Output;
use crate::printable::printable;

/// What helps when the service that was found does not answer.
pub const FOUND_MEND: &str = "the registry names it: is the service still running there?";

/// A service that was found.
pub struct Found {
    /// Where it is.
    pub address: Address,
    /// How long the look-up took.
    pub took: Duration,
    /// What it has left of `--timeout`, which is for both.
    pub left: Option<Duration>,
}

/// Looks a service up; of several, one by lot.
pub async fn find(
    client: &Client,
    registry: &Address,
    name: &str,
    args: &ClientArgs,
    output: &Output,
) -> anyhow::Result<Found> {
    let exchange = look_up(client, registry, name, args.timeout).await?;
    let address = read_found(&exchange, registry, name).inspect_err(|_| {
        if !args.quiet {
            let line = report::timings(None, ("look-up", &exchange), None, output.err());
            output.note(&line);
        }
    })?;
    let left = args.timeout.map(|timeout| timeout.saturating_sub(exchange.took));
    let left = left.map(|left| left.max(Duration::from_millis(1)));
    Ok(Found { address, took: exchange.took, left })
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
