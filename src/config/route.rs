//! The tables as the operator writes them: `[upstreams.NAME]` and `[[routes]]`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::problem::did_you_mean;
use super::secret::{quoted, shown_path};
use super::section::Section;
use super::{access, globs, idempotency};
use crate::call::{Context, Deadline, Params, Request};
use crate::fault::Fault;
use crate::offer::schema_file::SchemaFile;
use crate::route::breaker::BreakerRule;
use crate::route::pattern::Pattern;
use crate::route::rate::Limits;
use crate::route::{Dialect, HUB, Rule};
use crate::trace::TraceParent;
use crate::upstream::Connector;

const MAX_IN_FLIGHT: usize = 4_096;
const MAX_RETRIES: usize = 10;
/// Who leaves the line is looked for in it, so that it is to be short.
const MAX_QUEUE: usize = 10_000;
/// What of an upstream changes without another connection.
const ALIVE: [&str; 2] = ["max_in_flight", "breaker"];

/// Reads an `[upstreams.NAME]` table. Problems are reported to the section; a connector comes
/// back in any case, so that every table is read to its end.
pub type ReadConnector = Arc<dyn Fn(&mut Section<'_>) -> Box<dyn Connector> + Send + Sync>;

/// An `[upstreams.NAME]` table.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// Its name.
    pub name: String,
    /// The protocol's own settings.
    pub connector: Arc<dyn Connector>,
    /// How many calls may wait for it at once.
    pub max_in_flight: usize,
    /// When a service that does not answer is left alone for a while.
    pub breaker: Option<BreakerRule>,
    /// Differs where any of its keys or of the files that they name do, `max_in_flight` and the
    /// breaker excepted: tells whether a reload asks for another connection. Never shown.
    pub fingerprint: u64,
}

impl UpstreamConfig {
    /// Whether both are on one broker, by whatever names it is called.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        let sites = other.connector.sites();
        let is_alike = self.connector.protocol() == other.connector.protocol();
        self.name == other.name
            || (is_alike && self.connector.sites().iter().any(|site| sites.contains(site)))
    }

    /// Reads the table; `None` where its protocol is not known.
    pub(super) fn read(
        name: String,
        section: &mut Section<'_>,
        readers: &[(&'static str, ReadConnector)],
    ) -> Option<Self> {
        let fingerprint = section.fingerprint(&ALIVE);
        if name == HUB {
            section.problem_here(format!(
                "[upstreams.{HUB}]: the hub is an upstream by that name already: choose another one"
            ));
        }
        if !is_name(&name) {
            section.problem_here(format!(
                "[upstreams.\"{name}\"]: a name is a word without dots, colons and blanks"
            ));
        }
        let protocol = section.required_text("protocol").unwrap_or_default();
        let max_in_flight = section.count("max_in_flight", MAX_IN_FLIGHT, 1, 1_000_000);
        let breaker = section.has("breaker").then(|| read_breaker(&mut section.section("breaker")));
        let Some((_, read)) = readers.iter().find(|(word, _)| *word == protocol) else {
            if !protocol.is_empty() {
                let words: Vec<_> = readers.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                let hint = did_you_mean(&protocol, readers.iter().map(|(word, _)| *word));
                section.problem(
                    "protocol",
                    format!(
                        "`protocol` in {} must be one of {}{hint}",
                        section.title(),
                        words.join(", ")
                    ),
                );
            }
            section.ignore_rest();
            return None;
        };
        let connector = Arc::from(read(section));
        Some(Self { name, connector, max_in_flight, breaker, fingerprint })
    }
}

fn read_breaker(section: &mut Section<'_>) -> BreakerRule {
    let (window, open_for) = (Duration::from_secs(10), Duration::from_secs(5));
    let slow = section.has("slow").then(|| section.duration("slow", open_for));
    BreakerRule {
        failures: section.part("failures", 0.5),
        least: section.count("least", 20, 1, 1_000_000),
        window: section.duration("window", window),
        open_for: section.duration("open_for", open_for),
        slow,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', ':', ' '])
}

/// The upstreams that rows may name.
pub(super) struct KnownUpstreams<'a> {
    /// By their names; `None` for one whose protocol is not known.
    by_name: HashMap<&'a str, Option<&'a UpstreamConfig>>,
    /// The mends for names that there are not: many rows may share a slip of the pen.
    mends: RefCell<HashMap<String, String>>,
}

impl<'a> KnownUpstreams<'a> {
    /// Those of these names, of which some could be read.
    pub(super) fn new(names: &'a [String], read: &'a [UpstreamConfig]) -> Self {
        let names = names.iter().map(|name| (name.as_str(), None));
        let read = read.iter().map(|upstream| (upstream.name.as_str(), Some(upstream)));
        Self { by_name: names.chain(read).collect(), mends: RefCell::default() }
    }

    fn config(&self, name: &str) -> Option<&'a UpstreamConfig> {
        self.by_name.get(name).copied().flatten()
    }

    fn has(&self, name: &str) -> bool {
        name == HUB || self.by_name.contains_key(name)
    }

    /// What to write instead of a name that there is not.
    fn mend(&self, name: &str) -> String {
        let find = || match did_you_mean(name, self.by_name.keys().copied().chain([HUB])) {
            hint if !hint.is_empty() => hint,
            _ if is_name(name) => format!(": add [upstreams.{name}]"),
            _ => ": write the NAME of an [upstreams.NAME] table".to_owned(),
        };
        self.mends.borrow_mut().entry(name.to_owned()).or_insert_with(find).clone()
    }
}

/// Reads one `[[routes]]` row; `None` where it names no calls, or no upstream for them.
pub(super) fn read_route(
    section: &mut Section<'_>,
    upstreams: &KnownUpstreams<'_>,
    timeout: Duration,
) -> Option<Rule> {
    let pattern = section.required_text("match");
    let upstream = section.required_text("upstream");
    if let Some(upstream) = &upstream {
        check_upstream(section, upstream, upstreams);
    }
    let (service, method) = (read_name(section, "service"), read_name(section, "method"));
    let can = |pattern: &str| {
        can_match(pattern) || (service.is_some() && !pattern.is_empty() && !pattern.contains('.'))
    };
    if let Some(pattern) = pattern.as_deref().filter(|pattern| !can(pattern)) {
        section.problem("match", never_matches(pattern, section.title()));
    }
    if let Some(pattern) = pattern.as_deref().filter(|pattern| pattern.contains(['[', '{', '|'])) {
        let message = format!(
            "`match` in {}: {} has a `[`, `{{` or `|`, which stands for itself: the glob knows `*` and \
             `?` alone",
            section.title(),
            quoted(pattern)
        );
        section.warn("match", message);
    }
    if let Some(pattern) = &pattern {
        globs::warn_of_foreign(section, "match", [&**pattern]);
    }
    let connector = upstream.as_deref().and_then(|name| upstreams.config(name));
    if let Some(UpstreamConfig { connector, .. }) = connector {
        let names = (service.as_deref(), method.as_deref());
        check_names(section, connector.as_ref(), names);
    }
    let subject = section.text("subject");
    if let (Some(subject), Some(UpstreamConfig { connector, .. })) = (&subject, connector) {
        check_subject(section, connector.as_ref(), subject);
    }
    if let (Some(_), Some(upstream)) = (&subject, &upstream)
        && !connector.is_some_and(|known| known.connector.has_subjects())
    {
        let message = format!(
            "`subject` in {}: the upstream {} has no subjects: leave it out",
            section.title(),
            quoted(upstream).replace('"', "`")
        );
        section.problem("subject", message);
    }
    let params = read_params(section);
    let dialect = section.choice("dialect", &Dialect::WORDS, Dialect::Strict);
    let schema = read_schema(section, service.as_deref(), pattern.as_deref());
    let idempotent = section.flag("idempotent", false);
    let retries = section.count("retries", 0, 0, MAX_RETRIES);
    if retries > 0 && !idempotent {
        let message = format!(
            "`retries` in {}: a call that is tried again may run twice: add `idempotent = true` where that \
             does no harm, or leave it out",
            section.title()
        );
        section.problem("retries", message);
    }
    let timeout = section.duration("timeout", timeout);
    let idempotency = idempotency::read(section, timeout);
    let limits = read_limits(section);
    let access = access::read(section);
    let pattern = Pattern::new(&pattern?);
    let upstream = upstream?;
    Some(Rule {
        pattern,
        upstream,
        service,
        method,
        subject,
        params,
        dialect,
        schema,
        idempotent,
        retries,
        idempotency,
        timeout,
        limits,
        access,
    })
}

/// The limits of a row, or of the whole gateway.
pub(super) fn read_limits(section: &mut Section<'_>) -> Limits {
    Limits { total_rate: section.rate("total_rate"), ..read_own_limits(section) }
}

/// The limits of one caller: it has no others with whom it could share one.
pub(super) fn read_own_limits(section: &mut Section<'_>) -> Limits {
    let rate = section.rate("rate");
    let most = section.has("max_in_flight");
    let max_in_flight = most.then(|| section.count("max_in_flight", MAX_IN_FLIGHT, 1, 1_000_000));
    let queue = section.has("queue").then(|| section.count("queue", 1, 1, MAX_QUEUE));
    if queue.is_some() && !most {
        let message = format!(
            "`queue` in {}: there is nothing to wait for: add `max_in_flight`, the number of calls at \
             once over which others wait, or leave it out",
            section.title()
        );
        section.problem("queue", message);
    }
    Limits { rate, total_rate: None, max_in_flight, queue: queue.unwrap_or_default() }
}

/// The file that describes the methods.
fn read_schema(
    section: &mut Section<'_>,
    service: Option<&str>,
    pattern: Option<&str>,
) -> Option<SchemaFile> {
    let path = section.path("schema")?;
    let of_pattern = pattern.and_then(|pattern| pattern.rsplit_once('.'));
    let owner = service.or(of_pattern.map(|(service, _)| service)).unwrap_or_default();
    let read = SchemaFile::read(&path, owner);
    let problem = |why| {
        let message = format!("`schema` in {}: {}: {why}", section.title(), shown_path(&path));
        section.problem("schema", message);
    };
    read.map_err(problem).ok()
}

/// Whether the glob matches any `service.method`, of which neither part is empty.
fn can_match(pattern: &str) -> bool {
    if pattern.ends_with('.') {
        return false;
    }
    let inner: Vec<char> = pattern.chars().skip(1).collect();
    let before_last = inner.split_last().map_or(&[][..], |(_, before)| before);
    pattern.contains('*') || before_last.iter().any(|c| matches!(c, '.' | '?'))
}

fn never_matches(pattern: &str, title: &str) -> String {
    let mend = match pattern.trim_matches('.') {
        name if quoted(name).starts_with('"') && !name.is_empty() && !name.contains('.') => {
            format!(
                "\"{name}.*\" for all methods of a service, or add `service` to give the method \
                 {name} to one"
            )
        }
        _ => "\"SERVICE.METHOD\", or \"SERVICE.*\" for all methods of a service".to_owned(),
    };
    format!("`match` in {title}: {} can match no call: write {mend}", quoted(pattern))
}

fn check_upstream(section: &Section<'_>, upstream: &str, known: &KnownUpstreams<'_>) {
    // In a part of the file that could not be read, there may be one.
    if known.has(upstream) || !section.is_of_a_whole() {
        return;
    }
    let mend = known.mend(upstream);
    let shown = quoted(upstream).replace('"', "`");
    section.problem("upstream", format!("unknown upstream {shown} in {}{mend}", section.title()));
}

/// What a service or a method is called over there.
fn read_name(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let name = section.text(key)?;
    let title = section.title();
    if name.is_empty() {
        let message = format!("`{key}` in {title} is empty: leave it out to keep the caller's");
        section.problem(key, message);
        return None;
    }
    if key == "method" && name.contains('.') {
        let message = format!(
            "`method` in {title} holds a dot: what stands before it belongs into `service`"
        );
        section.problem(key, message);
        return None;
    }
    Some(name)
}

/// Asks the protocol whether it would send calls by these names. Each is tried by itself.
fn check_names(
    section: &Section<'_>,
    connector: &dyn Connector,
    (service, method): (Option<&str>, Option<&str>),
) {
    if service.is_none() && method.is_none() {
        return;
    }
    let refusal = |service: &str, method: &str| refusal(connector, (service, method), None);
    if refusal("service", "method").is_some() {
        // Not the names' fault.
        return;
    }
    let tried = [
        ("service", service.and_then(|name| refusal(name, "method"))),
        ("method", method.and_then(|name| refusal("service", name))),
    ];
    for (key, fault) in tried {
        if let Some(fault) = fault {
            let title = section.title();
            let message = format!(
                "every call of this row would be refused: {}: write what the {key} is called over \
                 there as `{key}` in {title}",
                fault.message()
            );
            section.problem(key, message);
        }
    }
}

/// The same for the subject of a row.
fn check_subject(section: &Section<'_>, connector: &dyn Connector, subject: &str) {
    let name = ("service", "method");
    if !connector.has_subjects() || refusal(connector, name, None).is_some() {
        return;
    }
    if let Some(fault) = refusal(connector, name, Some(subject)) {
        let message = format!(
            "every call of this row would be refused: {}: write where calls go as `subject` in {}",
            fault.message(),
            section.title()
        );
        section.problem("subject", message);
    }
}

/// Why the protocol would not send a call.
fn refusal(connector: &dyn Connector, name: (&str, &str), subject: Option<&str>) -> Option<Fault> {
    let context = Context::new(TraceParent::generate());
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(1));
    let request = Request { subject, ..Request::new(name, &Params::None, &context, deadline) };
    connector.explain(&request).err()
}

fn read_params(section: &mut Section<'_>) -> Vec<String> {
    let params = section.texts("params");
    let title = section.title();
    if params.iter().any(String::is_empty) {
        section.problem("params", format!("`params` in {title} holds an empty name: leave it out"));
    }
    let twice = |(index, name): (usize, &String)| params[..index].contains(name);
    let named = params.iter().enumerate().filter(|(_, name)| !name.is_empty());
    let mut again: Vec<_> = named.filter(|param| twice(*param)).map(|(_, name)| name).collect();
    again.dedup();
    for name in again {
        let message = format!("{} is twice in `params` in {title}: keep one", quoted(name));
        section.problem("params", message);
    }
    params
}
