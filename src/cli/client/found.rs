//! Finds a service by a registry (WIRE, section 4.4): `locate_service` with its name, which may be a
//! glob; and asks one of those that were found.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use super::address::Address;
use super::envelope::{self, Answer};
use super::http::{CONNECT_PATIENCE, Client, Exchange};
use super::{ClientArgs, report};
use crate::call::{Params, Payload};
use crate::cli::CommandError;
use crate::cli::output::Output;
use crate::printable::printable;

/// What helps when the service that was found does not answer.
const FOUND_MEND: &str = "the registry names it: is the service still running there?";
/// How many of those that were found are tried.
const MOST_TRIED: usize = 16;

/// What was found.
pub struct Found {
    /// Where the services are, the first to be tried in front.
    addresses: Vec<Address>,
    /// How long the look-up took.
    pub took: Duration,
    /// What is left of `--timeout`, which is for both.
    left: Option<Duration>,
}

impl Found {
    /// Sends a request to the first that can be connected to: which that was, and what it answers. What
    /// may have come to one goes to no other.
    pub async fn post(&self, client: &Client, body: Bytes) -> anyhow::Result<(&Address, Exchange)> {
        let began = Instant::now();
        let mut failed = Vec::new();
        for (nth, address) in self.addresses.iter().enumerate() {
            let left = self.left.map(|left| at_least(left.saturating_sub(began.elapsed())));
            // The others are to have their time too.
            let others = u32::try_from(self.addresses.len() - nth).unwrap_or(u32::MAX);
            let connect = left.map_or(CONNECT_PATIENCE, |left| at_least(left / others));
            let sent = client.try_post(address, body.clone(), left, connect.min(CONNECT_PATIENCE));
            match sent.await {
                Ok(exchange) => return Ok((address, exchange)),
                Err(failure) => match failure.not_connected(address) {
                    Some(why) if self.addresses.len() > 1 => {
                        failed.push(format!("\n  {}: {why}", address.shown()));
                    }
                    _ => return Err(failure.explain(address, FOUND_MEND)),
                },
            }
        }
        let message = format!(
            "cannot connect to any of {} services that the registry names{}\n  are they still running there?",
            failed.len(),
            failed.concat()
        );
        Err(CommandError::NoConnection(message).into())
    }
}

/// No time at all would end what is to be said of it.
fn at_least(left: Duration) -> Duration {
    left.max(Duration::from_millis(1))
}

/// Looks a service up; several come in an order by lot.
pub async fn find(
    client: &Client,
    registry: &Address,
    name: &str,
    args: &ClientArgs,
    output: &Output,
) -> anyhow::Result<Found> {
    let exchange = look_up(client, registry, name, args.timeout).await?;
    let addresses = read_found(&exchange, registry, name).inspect_err(|_| {
        if !args.quiet {
            let line = report::timings(None, ("look-up", &exchange), None, output.err());
            output.note(&line);
        }
    })?;
    let left = args.timeout.map(|timeout| at_least(timeout.saturating_sub(exchange.took)));
    Ok(Found { addresses, took: exchange.took, left })
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

impl Instance {
    fn url(self) -> String {
        match self {
            Instance::Url(url) => url,
            Instance::Place { host, port } if host.contains(':') => {
                format!("http://[{host}]:{port}")
            }
            Instance::Place { host, port } => format!("http://{host}:{port}"),
        }
    }
}

/// The places, of which there is one at least.
fn read_found(exchange: &Exchange, registry: &Address, name: &str) -> anyhow::Result<Vec<Address>> {
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
    let mut found = found.unwrap_or_default();
    if found.is_empty() {
        anyhow::bail!("the registry {shown} knows no service that matches `{name}`");
    }
    fastrand::shuffle(&mut found);
    let (mut useful, mut useless) = (Vec::new(), None);
    for instance in found {
        match Address::service(&instance.url()) {
            Ok(address) => useful.push(address),
            Err(error) => useless = Some(error),
        }
    }
    useful.truncate(MOST_TRIED);
    match useless.filter(|_| useful.is_empty()) {
        None => Ok(useful),
        // What is wrong with it is not the fault of whoever typed the command.
        Some(CommandError::Usage(why) | CommandError::NoConnection(why)) => {
            anyhow::bail!("the registry {shown} gave a useless address for `{name}`: {why}")
        }
    }
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
        let addresses = read_found(&exchange, &registry, "hello.*");
        let uri = |addresses: Vec<Address>| addresses[0].uri().to_string();
        addresses.map(uri).map_err(|error| error.to_string())
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
            (r#""result":["ftp://h","http://h/x"]"#, Ok("http://h/x")),
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
    fn each_of_several_may_come_first() {
        let all: std::collections::BTreeSet<_> = (0..200)
            .filter_map(|_| found(r#""result":["http://a/","http://b/","http://c/"]"#).ok())
            .collect();
        assert_eq!(all.len(), 3);
    }
}
