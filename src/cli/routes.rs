//! `genkan routes`: the routing table, as a table.

use serde::Serialize;

use super::client::ClientArgs;
use super::client::admin::AdminArgs;
use super::output::Output;
use super::output::{Form, Role};
use super::table::Table;
use super::{ConfigArgs, Status, help, routes_live};
use crate::config::Config;
use crate::config::ingress::Resident;
use crate::route::{Dialect, Rule};
use crate::units::format_duration;

/// The arguments of `genkan routes`.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("timeout", |timeout| timeout.help(routes_live::TIMEOUT_HELP)),
    mut_arg("admin", |admin| admin.requires("live")),
    about = "Show the routing table.\n\n\
        Its rows stand in the order in which they are searched: the first that matches wins.",
    after_help = help::examples(&[
        ("genkan routes", "the table that `genkan serve` would start with"),
        ("genkan routes -c genkan.toml --json", "the same as a JSON array"),
        ("genkan routes --live", "the table of the gateway that runs on this machine, and how it does"),
    ])
)]
pub struct Args {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ask a running gateway: which upstreams are ready, how many calls wait, which services do not answer
    #[arg(long)]
    pub live: bool,
    /// With --live: where the page is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Prints the routing table.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    if args.live {
        return routes_live::run(args, output);
    }
    let Some((_, config, _)) = args.config.load(&crate::protocol::readers(), output)? else {
        return Ok(Status::Fault);
    };
    match output.form() {
        Form::Human => output.print(&human(&config, output))?,
        Form::Json => {
            let rows = config.routes.iter().map(|rule| Row::new(rule, &config));
            let rows: Vec<Row<'_>> = rows.chain(config.resident().map(Row::implicit)).collect();
            output.print(&serde_json::to_string(&rows)?)?;
        }
    }
    Ok(Status::Done)
}

/// The protocol of an upstream.
pub(super) fn protocol(upstream: &str, config: &Config) -> &'static str {
    let known = config.upstreams.iter().find(|known| known.name == upstream);
    let resident = || config.resident().map_or("", |resident| resident.protocol);
    known.map_or_else(resident, |known| known.connector.protocol())
}

fn human(config: &Config, output: &Output) -> String {
    let titles = ["#", "MATCH", "UPSTREAM", "PROTOCOL", "SERVICE", "METHOD", "PARAMS", "TIMEOUT"];
    let mut table = Table::new(titles);
    for (index, rule) in config.routes.iter().enumerate() {
        table.coloured_row(vec![
            ((index + 1).to_string(), Some(Role::Faint)),
            (rule.pattern.to_string(), Some(Role::Strong)),
            (rule.upstream.clone(), None),
            (protocol(&rule.upstream, config).to_owned(), Some(Role::Faint)),
            (rule.service.clone().unwrap_or_else(|| "=".to_owned()), None),
            (rule.method.clone().unwrap_or_else(|| "=".to_owned()), None),
            (rule.params.join(", "), None),
            (format_duration(rule.timeout), None),
        ]);
    }
    if let Some(Resident { name, protocol, timeout, .. }) = config.resident() {
        let rest = ["·", "*", name, protocol, "=", "=", "", &format_duration(timeout)];
        table.coloured_row(rest.map(|cell| (cell.to_owned(), Some(Role::Faint))).to_vec());
    }
    let note = "The first row that matches wins. `=`: as the caller said. `·`: always there.";
    let note = output.out().paint(Role::Faint, note);
    format!("{}\n{note}{}", table.render(output.out()), exposed(config, output))
}

/// What is exposed, behind the routes; nothing where nothing is.
fn exposed(config: &Config, output: &Output) -> String {
    if config.exposes.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["EXPOSED", "ON", "AS", "METHODS"]);
    for row in &config.exposes {
        let expose = &row.expose;
        let methods =
            if expose.methods.is_empty() { "all".to_owned() } else { expose.methods.join(", ") };
        table.coloured_row(vec![
            (expose.service.clone(), Some(Role::Strong)),
            (row.on.join(", "), None),
            (
                if expose.name == expose.service { "=".to_owned() } else { expose.name.clone() },
                None,
            ),
            (methods, None),
        ]);
    }
    format!("\n\n{}", table.render(output.out()).trim_end())
}

/// A row as a program reads it.
#[derive(Serialize)]
struct Row<'a> {
    r#match: &'a str,
    upstream: &'a str,
    protocol: &'static str,
    service: Option<&'a str>,
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    params: &'a [String],
    dialect: &'static str,
    timeout: String,
    /// Whether it stands in no file: the last row, which is always there.
    implicit: bool,
}

impl<'a> Row<'a> {
    fn new(rule: &'a Rule, config: &Config) -> Self {
        Self {
            r#match: rule.pattern.as_str(),
            upstream: &rule.upstream,
            protocol: protocol(&rule.upstream, config),
            service: rule.service.as_deref(),
            method: rule.method.as_deref(),
            subject: rule.subject.as_deref(),
            params: &rule.params,
            dialect: rule.dialect.as_str(),
            timeout: format_duration(rule.timeout),
            implicit: false,
        }
    }

    fn implicit(resident: Resident) -> Self {
        Self {
            r#match: "*",
            upstream: resident.name,
            protocol: resident.protocol,
            service: None,
            method: None,
            subject: None,
            params: &[],
            dialect: Dialect::Strict.as_str(),
            timeout: format_duration(resident.timeout),
            implicit: true,
        }
    }
}
