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
use super::{ConfigArgs, Status, explain_event, explain_own, help, whom};
use crate::auth::settings::KeyConfig;
use crate::call::{CallName, Context, Deadline, Request};
use crate::caller::{Caller, Scheme};
use crate::config::{Config, UpstreamConfig};
use crate::fault::{Fault, FaultKind};
use crate::printable::printable;
use crate::route::access::{Access, Refusal};
use crate::route::rate::Limits;
use crate::route::{HUB, Rule};
use crate::trace::TraceParent;
use crate::units::format_duration;
use crate::upstream::Envelope;

/// The arguments of `genkan explain`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Show which route a call takes and what would be sent, or where an event goes.\n\n\
        Says why the route wins, and shows the envelope, headers, subject or routing key of \
        the message. With --event, which bridges and topics take what happens at a place, and what they \
        promise. Sends nothing and connects to nothing.",
    after_help = help::examples(&[
        ("genkan explain orders.create id:=7 size=L", "the route and the message of a call"),
        ("genkan explain --event rabbit:orders.created", "where a Nameko event goes"),
        ("genkan explain orders.create --as key:web", "whether that key may make it, and why not"),
    ])
)]
pub struct Args {
    /// What would be called: service.method, or a method that a row gives to a service
    #[arg(value_name = "NAME.METHOD", required_unless_present = "event")]
    pub name: Option<String>,
    #[arg(value_name = "PARAM", help = PARAM_HELP, allow_negative_numbers = true)]
    /// The params, as [`super::params::read`] takes them.
    pub params: Vec<String>,
    /// An event instead of a call: where it happens, as in `from` of a bridge
    #[arg(long, value_name = "UPSTREAM:ADDRESS", conflicts_with_all = ["name", "params"])]
    pub event: Option<String>,
    /// Say whether WHOM may make the call, or hear the event: nobody, key:NAME, sub:SUBJECT, cert:SUBJECT, scope:SCOPE,
    /// claim:NAME=VALUE, hub:MODULE, unix:USER or UPSTREAM:; more than once for one caller
    #[arg(long = "as", value_name = "WHOM")]
    pub whom: Vec<String>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Explains a call.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    if let Some(place) = args.event {
        let Some((_, config, _)) = args.config.load(&crate::protocol::readers(), output)? else {
            return Ok(Status::Fault);
        };
        let whom = (!args.whom.is_empty()).then(|| whom::read(&args.whom, &config)).transpose()?;
        return explain_event::run(&place, whom.as_ref(), &config, output);
    }
    let name = CallName::parse_bare(args.name.unwrap_or_default())
        .map_err(|name| CommandError::Usage(format!("`{name}` is not of the form NAME.METHOD")))?;
    let params = params::read(&args.params)?;
    let Some((_, config, _)) = args.config.load(&crate::protocol::readers(), output)? else {
        return Ok(Status::Fault);
    };
    let whom = (!args.whom.is_empty()).then(|| whom::read(&args.whom, &config)).transpose()?;
    if let Some(owner) = explain_own::answers_itself(&config, name.as_str()) {
        return explain_own::run(&name, owner, (whom.as_ref(), &config), output);
    }
    let decision = Decision::new(&name, &config, whom.as_ref().map(|whom| (whom, &args.whom[..])));
    let mut context = Context::new(TraceParent::generate());
    context.user_id = whom.as_ref().and_then(Caller::user_id).map(str::to_owned);
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
        Form::Json => {
            output.print(&serde_json::to_string(&Explained::new(&decision, &config, &sent))?)?
        }
    }
    let may = !matches!(decision.may, Some(Err(_)));
    Ok(if sent.is_ok() && may { Status::Done } else { Status::Fault })
}

/// Whether somebody may call, in words.
pub(super) fn said(paint: Paint, may: &Result<(), Fault>) -> String {
    match may {
        Ok(()) => paint.paint(Role::Good, "may call").to_string(),
        Err(fault) => {
            let kind = paint.paint(Role::Error, fault.kind().as_str());
            format!("{kind}: {}", printable(fault.message()))
        }
    }
}

/// Whether a row lets somebody call, and why not: more than the caller would be told.
fn may_call(
    name: &str,
    (whom, words): (&Caller, &[String]),
    (access, row): (&Access, String),
    config: &Config,
) -> Result<(), Fault> {
    access.lets_call(whom, name).map_err(|refusal| match refusal {
        Refusal::Forbidden => {
            let why = whom::why_not(words, (access, &row), (whom, name), config);
            let message = format!("`{}` may not call `{name}`: {why}", words.join("`, `"));
            Fault::not_sent(FaultKind::AccessDenied, message)
        }
        Refusal::Unknown | Refusal::Denied(_) => refusal.fault("call", name, whom),
    })
}

/// Which row decides about a call.
struct Decision<'a> {
    name: &'a CallName,
    /// The row's number, from 1, and the row; none for the implicit last one.
    rule: Option<(usize, &'a Rule)>,
    upstream: Option<&'a UpstreamConfig>,
    timeout: Duration,
    access: Access,
    /// Whether whoever was asked about may call; none where nobody was.
    may: Option<Result<(), Fault>>,
    /// The key of whoever was asked about.
    key: Option<&'a KeyConfig>,
}

impl<'a> Decision<'a> {
    fn new(name: &'a CallName, config: &'a Config, asked: Option<(&Caller, &[String])>) -> Self {
        let mut rules = config.routes.iter().enumerate();
        let rule = rules.find(|(_, rule)| rule.matches(name.as_str()));
        let upstream = rule.and_then(|(_, rule)| {
            config.upstreams.iter().find(|upstream| upstream.name == rule.upstream)
        });
        let rest = || config.resident().map_or(config.timeout, |resident| resident.timeout);
        let timeout = rule.map_or_else(rest, |(_, rule)| rule.timeout);
        let of_the_rest = if config.guarded { Access::Closed } else { Access::Open };
        let access = rule.map_or(of_the_rest, |(_, rule)| rule.access.clone());
        let shorter = rule.and_then(|(_, rule)| {
            let name = rule.shorter(name.as_str())?;
            let other = config.routes.iter().find(|other| other.matches(&name))?;
            let row =
                format!("the row `{}`, by whose name the service may take it,", other.pattern);
            (other.upstream == rule.upstream).then_some((&other.access, row))
        });
        let may = asked.map(|asked| {
            let row = if rule.is_some() { "the row" } else { "the implicit last row" };
            let rows = [Some((&access, row.to_owned())), shorter];
            rows.into_iter()
                .flatten()
                .try_for_each(|row| may_call(name.as_str(), asked, row, config))
        });
        let whom = asked.map(|(whom, _)| whom);
        let rule = rule.map(|(index, rule)| (index + 1, rule));
        let key = whom.and_then(Caller::in_force).filter(|known| known.scheme == Scheme::Key);
        let key = key
            .and_then(|known| config.auth.keys.iter().find(|config| config.name == known.subject));
        Self { name, rule, upstream, timeout, access, may, key }
    }

    /// Who may call, in words.
    fn allowed(&self) -> Option<String> {
        match &self.access {
            Access::Open => None,
            Access::Closed => Some("nobody: the row has no `allow`".to_owned()),
            Access::Only(grants) if grants.is_empty() => Some("nobody".to_owned()),
            Access::Only(grants) => {
                Some(grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
        }
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
    if let Some((_, rule)) = decision.rule.filter(|(_, rule)| rule.retries > 0) {
        line("retries", &format!("{}, where it did not get there or the way failed", rule.retries));
    }
    if let Some(Idempotency { ttl, required }) = idempotency(decision) {
        let without = if required { "is refused" } else { "runs each time" };
        let told = format!("once for a key, answers kept for {ttl}; a call without one {without}");
        line("idempotency", &told);
    }
    for Limit { key, most, of } in limits(decision, config) {
        line(key, &format!("{most}, of the {of}"));
    }
    if let Some(allowed) = decision.allowed() {
        line("allowed", &printable(&allowed));
    }
    if let Some(may) = &decision.may {
        line("as asked", &said(paint, may));
    }
    for Exposed { on, name } in exposed(decision.name, config) {
        line("exposed", &format!("on {on} as {}", printable(&name)));
    }
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

/// What becomes of a call that has a key.
#[derive(Serialize)]
struct Idempotency {
    ttl: String,
    required: bool,
}

fn idempotency(decision: &Decision<'_>) -> Option<Idempotency> {
    let (_, rule) = decision.rule?;
    let kept = rule.idempotency?;
    Some(Idempotency { ttl: format_duration(kept.ttl), required: kept.required })
}

/// A limit that a call is held to.
#[derive(Serialize)]
struct Limit {
    key: &'static str,
    most: String,
    of: &'static str,
}

fn limits(decision: &Decision<'_>, config: &Config) -> Vec<Limit> {
    let key = decision.key.map(|key| (&key.limits, "key"));
    let row = decision.rule.map(|(_, rule)| (&rule.limits, "row"));
    let all = key.into_iter().chain(row).chain([(&config.limits, "gateway")]);
    let mut told = Vec::new();
    for (limits, of) in all {
        let Limits { rate, total_rate, max_in_flight, queue } = limits;
        let from = if of == "key" { "" } else { " from each caller" };
        let each = rate.map(|rate| ("rate", format!("{rate}{from}")));
        let total = total_rate.map(|rate| ("total_rate", format!("{rate} from all callers")));
        let at_once = max_in_flight.map(|most| ("max_in_flight", format!("{most} at once")));
        let queue = (*queue > 0).then(|| ("queue", format!("{queue} more wait for their turn")));
        let limits = [each, total, at_once, queue].into_iter().flatten();
        told.extend(limits.map(|(key, most)| Limit { key, most, of }));
    }
    let breaker = decision.upstream.and_then(|upstream| upstream.breaker.as_ref());
    told.extend(decision.upstream.map(|upstream| {
        let most = format!("{} at once", upstream.max_in_flight);
        Limit { key: "max_in_flight", most, of: "upstream" }
    }));
    told.extend(breaker.map(|rule| {
        let most = format!(
            "{}% of {} calls failed in {}: then none for {}",
            rule.failures * 100.0,
            rule.least,
            format_duration(rule.window),
            format_duration(rule.open_for)
        );
        Limit { key: "breaker", most, of: "upstream" }
    }));
    told
}

/// Where a call is taken too, and what it is called there.
#[derive(Serialize)]
struct Exposed<'a> {
    on: &'a str,
    name: String,
}

fn exposed<'a>(name: &CallName, config: &'a Config) -> Vec<Exposed<'a>> {
    let rows = config.exposes.iter().filter(|row| row.expose.service == name.service());
    let rows = rows.filter(|row| row.expose.call_name(name.method()).is_some());
    let places = rows.flat_map(|row| row.on.iter().map(|on| (on, &row.expose)));
    let told = places.filter_map(|(on, expose)| {
        let upstream = config.upstreams.iter().find(|upstream| upstream.name == *on)?;
        Some(Exposed { on, name: upstream.connector.exposed_as(expose, name.method()) })
    });
    told.collect()
}

/// The decision as a program reads it.
#[derive(Serialize)]
struct Explained<'a> {
    name: &'a str,
    route: Option<&'a str>,
    row: Option<usize>,
    upstream: &'a str,
    /// Where that is; none of the hub, which is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_address: Option<String>,
    service: &'a str,
    method: &'a str,
    timeout: String,
    /// Who may call; none where there is nothing by which anybody could be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_call: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<Refused<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency: Option<Idempotency>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<Limit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exposed: Vec<Exposed<'a>>,
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
pub(super) struct Refused<'a> {
    kind: &'static str,
    message: &'a str,
}

impl<'a> Refused<'a> {
    pub(super) fn new(fault: &'a Fault) -> Self {
        Self { kind: fault.kind().as_str(), message: fault.message() }
    }
}

impl<'a> Explained<'a> {
    fn new(
        decision: &'a Decision<'a>,
        config: &'a Config,
        sent: &'a Result<Envelope, Fault>,
    ) -> Self {
        let text = |value: &str| serde_json::Value::from(value);
        Self {
            name: decision.name.as_str(),
            route: decision.rule.map(|(_, rule)| rule.pattern.as_str()),
            row: decision.rule.map(|(number, _)| number),
            upstream: decision.upstream_name(),
            upstream_address: decision.upstream.map(|upstream| upstream.connector.address()),
            service: decision.service(),
            method: decision.method(),
            timeout: format_duration(decision.timeout),
            retries: decision.rule.map(|(_, rule)| rule.retries).filter(|retries| *retries > 0),
            idempotency: idempotency(decision),
            limits: limits(decision, config),
            allow: match &decision.access {
                Access::Open => None,
                Access::Closed => Some(Vec::new()),
                Access::Only(grants) => Some(grants.iter().map(ToString::to_string).collect()),
            },
            may_call: decision.may.as_ref().map(Result::is_ok),
            denied: match &decision.may {
                Some(Err(fault)) => Some(Refused::new(fault)),
                _ => None,
            },
            exposed: exposed(decision.name, config),
            sent: sent.as_ref().ok().map(|envelope| Sent {
                address: envelope.address.iter().map(|(k, v)| ((*k).to_owned(), text(v))).collect(),
                headers: envelope.headers.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
                body: &envelope.body,
            }),
            fault: sent.as_ref().err().map(Refused::new),
        }
    }
}
