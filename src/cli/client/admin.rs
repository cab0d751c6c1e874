//! The pages of a gateway's admin listener: where they are and what opens them, as the configuration says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::ClientArgs;
use super::address::Address;
use super::http::Exchange;
use crate::cli::Status;
use crate::cli::output::{Form, Output, Paint};
use crate::config::problem::Severity;
use crate::config::socket::Listen;
use crate::config::{self, AdminConfig, Origin};

/// What `--timeout` does for a command that asks for a page.
pub const TIMEOUT_HELP: &str =
    "How long to wait for the page, such as 800ms, 5s or 2m [default: 10s]";
const PATIENCE: Duration = Duration::from_secs(10);
const MEND: &str = "is `genkan serve` running there? --admin URL names its [admin] listen, --config FILE \
                    its configuration";

/// Where the pages are.
#[derive(Debug, clap::Args)]
pub struct AdminArgs {
    /// The URL of the gateway's admin listener, or unix:///PATH [default: as the configuration says]
    #[arg(short, long, value_name = "URL", value_hint = clap::ValueHint::Url,
          help_heading = "Connection")]
    pub admin: Option<String>,
}

/// Fetches a page, which `what` is on, and prints it: for people as `human` writes it, else as it came.
pub fn show<T: DeserializeOwned>(
    named: &AdminArgs,
    config: Option<PathBuf>,
    (page, what): (&str, &str),
    args: &ClientArgs,
    output: &Output,
    human: impl FnOnce(&T, Paint) -> String,
) -> anyhow::Result<Status> {
    let (at, exchange) = fetch(named, config, (page, what), args, output)?;
    let text = std::str::from_utf8(&exchange.body).unwrap_or_default();
    let Ok(told) = serde_json::from_str(text) else {
        bail!("{} answered with no {what}: is it a gateway's admin address?", at.shown());
    };
    match output.form() {
        Form::Human => output.print(&human(&told, output.out()))?,
        Form::Json => output.print_json(text)?,
    }
    Ok(Status::Done)
}

fn fetch(
    named: &AdminArgs,
    config: Option<PathBuf>,
    (page, what): (&str, &str),
    args: &ClientArgs,
    output: &Output,
) -> anyhow::Result<(Address, Exchange)> {
    let to = place(named.admin.as_deref(), config, page)?;
    let timeout = args.timeout.unwrap_or(PATIENCE);
    let exchange = super::with_client(args, output, async |client| {
        client.get(&to, Some(timeout), MEND).await
    })?;
    if exchange.status == StatusCode::UNAUTHORIZED {
        bail!(
            "{} wants the token of [admin]: name the configuration that has it, with --config FILE, or \
             name the token's own with --token-file FILE",
            to.shown()
        );
    }
    if !exchange.status.is_success() {
        bail!(
            "{} answered with status {} and no {what}: is it a gateway's admin address?",
            to.shown(),
            exchange.status.as_u16()
        );
    }
    Ok((to, exchange))
}

/// The page's address, with the token where it is the configured one's, or where somebody says whose
/// configuration it is: nobody else is to be told it.
fn place(named: Option<&str>, file: Option<PathBuf>, page: &str) -> anyhow::Result<Address> {
    let is_named = file.is_some();
    let loaded = config::load(&Origin::find(file), &crate::protocol::readers());
    let wrong = loaded.problems.iter().find(|problem| problem.severity == Severity::Error);
    if let Some(problem) = wrong.filter(|_| is_named) {
        bail!("the configuration cannot be used: {problem}");
    }
    let AdminConfig { listen, token, .. } = loaded.config.admin;
    // A port that is left to the system is in the log, and nowhere else.
    let configured = Address::admin(&url(&listen), page);
    let is_there = |to: &Address| configured.as_ref().is_ok_and(|at| to.is_at_place_of(at));
    let (to, is_its_own) = match named {
        Some(url) => {
            let to = Address::admin(url, page)?;
            let is_its_own = is_named || is_there(&to);
            (to, is_its_own)
        }
        None => (configured?, true),
    };
    Ok(match token.filter(|_| is_its_own) {
        Some(token) => to.with_bearer(&token.secret),
        None => to,
    })
}

/// How a listener is reached from its own machine.
fn url(listen: &Listen) -> String {
    match listen {
        Listen::Unix(_) => listen.to_string(),
        Listen::Tcp(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            format!("http://{}", SocketAddr::new(ip, address.port()))
        }
    }
}
