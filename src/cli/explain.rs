//! `genkan explain`: what would happen to a call. Sends nothing.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::output::Output;
use super::output::{Form, Paint, Role};
use super::params::PARAM_HELP;
use super::routes::protocol;
use super::{CommandError, json, params};
use super::{ConfigArgs, Status, help};
use crate::call::{CallName, Context, Deadline, Request, TraceParent};
use crate::config::{Config, UpstreamConfig};
use crate::fault::{Fault, FaultKind};
use crate::printable::printable;
use crate::route::{HUB, Rule};
use crate::units::format_duration;
use crate::upstream::Envelope;

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
    /// What would be called: service.method, or a method that a row gives to a service
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
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    let name = CallName::parse_bare(args.name)
        .map_err(|name| CommandError::Usage(format!("`{name}` is not of the form NAME.METHOD")))?;
    let params = params::read(&args.params)?;
    let Some((_, config, _)) = args.config.load(output)? else { return Ok(Status::Fault) };
    let decision = Decision::new(&name, &config);
    let context = Context::new(TraceParent::generate());
    let deadline = Deadline::after(Instant::now(), decision.timeout);
    let name = (decision.service(), decision.method());
    let mut request = Request::new(name, &params, &context, deadline);
    if let Some((_, rule)) = decision.rule {
        (request.subject, request.param_names) = (rule.subject.as_deref(), &rule.params);
    }
    let sent = match decision.upstream {
        _ if decision.service().is_empty() => {
            let message = "the name has no dot, and no [[routes]] row that matches it has a \
                           `service`: call SERVICE.METHOD, or add one";
            Err(Fault::not_sent(FaultKind::UnknownService, message))
        }
        Some(upstream) => upstream.connector.explain(&request),
        None => match config.resident() {
            Some(resident) => (resident.explain)(&request),
            None => {
                let message = "no [[routes]] row matches";
                Err(Fault::not_sent(FaultKind::UnknownService, message))
            }
        },
    };
    match output.form() {
        Form::Human => output.print(&human(&decision, &config, &sent, output.out()))?,
        Form::Json => output.print(&serde_json::to_string(&Explained::new(&decision, &sent))?)?,
    }
    Ok(if sent.is_ok() { Status::Done } else { Status::Fault })
}

/// Which row decides about a call.
struct Decision<'a> {
    name: &'a CallName,
    /// The row's number, from 1, and the row; none for the implicit last one.
    rule: Option<(usize, &'a Rule)>,
    upstream: Option<&'a UpstreamConfig>,
    timeout: Duration,
}

impl<'a> Decision<'a> {
    fn new(name: &'a CallName, config: &'a Config) -> Self {
        let mut rules = config.routes.iter().enumerate();
        let rule = rules.find(|(_, rule)| rule.matches(name.as_str()));
        let upstream = rule.and_then(|(_, rule)| {
            config.upstreams.iter().find(|upstream| upstream.name == rule.upstream)
        });
        let rest = || config.resident().map_or(config.timeout, |resident| resident.timeout);
        let timeout = rule.map_or_else(rest, |(_, rule)| rule.timeout);
        Self { name, rule: rule.map(|(index, rule)| (index + 1, rule)), upstream, timeout }
    }

    fn service(&self) -> &'a str {
        self.rule.map_or(self.name.service(), |(_, rule)| rule.service(self.name))
    }

    fn method(&self) -> &'a str {
        self.rule.map_or(self.name.method(), |(_, rule)| rule.method(self.name))
    }

    fn upstream_name(&self) -> &'a str {
        self.rule.map_or(HUB, |(_, rule)| rule.upstream.as_str())
    }
}

fn human(
    decision: &Decision<'_>,
    config: &Config,
    sent: &Result<Envelope, Fault>,
    paint: Paint,
) -> String {
    let mut text = format!("{}\n", paint.paint(Role::Strong, printable(decision.name.as_str())));
    let mut line = |label: &str, value: &str| {
        text.push_str(&format!("  {} {value}\n", paint.paint(Role::Faint, format!("{label:<17}"))));
    };
    match decision.rule {
        Some((number, rule)) => {
            let passed = match number {
                1 => "the first row".to_owned(),
                2 => "row 1 does not match".to_owned(),
                number => format!("rows 1 to {} do not match", number - 1),
            };
            line("route", &format!("[[routes]] #{number} \"{}\" ({passed})", rule.pattern));
        }
        None => line("route", "no [[routes]] row matches: the implicit last one"),
    }
    let upstream = decision.upstream_name();
    let address = decision.upstream.map(|upstream| upstream.connector.address());
    let address = address.map(|address| format!(" at {address}")).unwrap_or_default();
    line("upstream", &format!("{upstream} ({}{address})", protocol(upstream, config)));
    if decision.service() != decision.name.service() {
        let said = decision.name.service();
        let said = if said.is_empty() { "(none)" } else { said };
        line("service", &format!("{said} → {}", decision.service()));
    }
    if decision.method() != decision.name.method() {
        line("method", &format!("{} → {}", decision.name.method(), decision.method()));
    }
    line("timeout", &format_duration(decision.timeout));
    match sent {
        Ok(envelope) => {
            for (label, value) in &envelope.address {
                line(label, &printable(value));
            }
            for (index, (name, value)) in envelope.headers.iter().enumerate() {
                let label = if index == 0 { "headers" } else { "" };
                line(label, &format!("{name}: {}", printable(value)));
            }
            let body = match serde_json::from_str::<&RawValue>(&envelope.body) {
                Ok(raw) => json::pretty(raw.get(), paint).replace('\n', "\n                    "),
                Err(_) if envelope.body.is_empty() => "(empty)".to_owned(),
                Err(_) => printable(&envelope.body),
            };
            line("body", &body);
        }
        Err(fault) => {
            let kind = paint.paint(Role::Error, fault.kind().as_str());
            line("refused", &format!("{kind}: {}", printable(fault.message())));
        }
    }
    text
}

/// The decision as a program reads it.
#[derive(Serialize)]
struct Explained<'a> {
    name: &'a str,
    route: Option<&'a str>,
    row: Option<usize>,
    upstream: &'a str,
    service: &'a str,
    method: &'a str,
    timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Sent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Refused<'a>>,
}

#[derive(Serialize)]
struct Sent<'a> {
    address: serde_json::Map<String, serde_json::Value>,
    headers: serde_json::Map<String, serde_json::Value>,
    body: &'a str,
}

#[derive(Serialize)]
struct Refused<'a> {
    kind: &'static str,
    message: &'a str,
}

impl<'a> Explained<'a> {
    fn new(decision: &Decision<'a>, sent: &'a Result<Envelope, Fault>) -> Self {
        let text = |value: &str| serde_json::Value::from(value);
        Self {
            name: decision.name.as_str(),
            route: decision.rule.map(|(_, rule)| rule.pattern.as_str()),
            row: decision.rule.map(|(number, _)| number),
            upstream: decision.upstream_name(),
            service: decision.service(),
            method: decision.method(),
            timeout: format_duration(decision.timeout),
            sent: sent.as_ref().ok().map(|envelope| Sent {
                address: envelope.address.iter().map(|(k, v)| ((*k).to_owned(), text(v))).collect(),
                headers: envelope.headers.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
                body: &envelope.body,
            }),
            fault: sent
                .as_ref()
                .err()
                .map(|fault| Refused { kind: fault.kind().as_str(), message: fault.message() }),
        }
    }
}
