//! The tables as the operator writes them: `[upstreams.NAME]` and `[[routes]]`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::problem::did_you_mean;
use super::secret::quoted;
use super::section::Section;
use crate::call::{Context, Deadline, Params, Request, TraceParent};
use crate::route::pattern::Pattern;
use crate::route::{Dialect, HUB, Rule};
use crate::upstream::Connector;

const MAX_IN_FLIGHT: usize = 4_096;

/// Reads an `[upstreams.NAME]` table. Problems are reported to the section; a connector comes
/// back in any case, so that every table is read to its end.
pub type ReadConnector = fn(&mut Section<'_>) -> Box<dyn Connector>;

/// An `[upstreams.NAME]` table.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// Its name.
    pub name: String,
    /// The protocol's own settings.
    pub connector: Arc<dyn Connector>,
    /// How many calls may wait for it at once.
    pub max_in_flight: usize,
    /// Differs where any of its keys or of the files that they name do, `max_in_flight` excepted:
    /// tells whether a reload asks for another connection. Never shown.
    pub fingerprint: u64,
}

impl UpstreamConfig {
    /// Reads the table; `None` where its protocol is not known.
    pub(super) fn read(
        name: String,
        section: &mut Section<'_>,
        readers: &[(&'static str, ReadConnector)],
    ) -> Option<Self> {
        let fingerprint = section.fingerprint(&["max_in_flight"]);
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
        Some(Self { name, connector, max_in_flight, fingerprint })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', ':', ' '])
}

/// Reads one `[[routes]]` row; `None` where it names no calls, or no upstream for them.
pub(super) fn read_route(
    section: &mut Section<'_>,
    names: &[String],
    upstreams: &[UpstreamConfig],
    timeout: Duration,
) -> Option<Rule> {
    let pattern = section.required_text("match");
    let upstream = section.required_text("upstream");
    if let Some(upstream) = &upstream {
        check_upstream(section, upstream, names);
    }
    let (service, method) = (read_name(section, "service"), read_name(section, "method"));
    let can = |pattern: &str| {
        can_match(pattern) || (service.is_some() && !pattern.is_empty() && !pattern.contains('.'))
    };
    if let Some(pattern) = pattern.as_deref().filter(|pattern| !can(pattern)) {
        section.problem("match", never_matches(pattern, section.title()));
    }
    let connector = upstreams.iter().find(|known| Some(&known.name) == upstream.as_ref());
    if let Some(UpstreamConfig { connector, .. }) = connector {
        let names = (service.as_deref(), method.as_deref());
        check_names(section, connector.as_ref(), names);
    }
    let subject = section.text("subject");
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
    let timeout = section.duration("timeout", timeout);
    let pattern = Pattern::new(&pattern?);
    let upstream = upstream?;
    Some(Rule { pattern, upstream, service, method, subject, params, dialect, timeout })
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

fn check_upstream(section: &Section<'_>, upstream: &str, names: &[String]) {
    let is_known = upstream == HUB || names.iter().any(|name| name == upstream);
    // In a part of the file that could not be read, there may be one.
    if is_known || !section.is_of_a_whole() {
        return;
    }
    let hint = match did_you_mean(upstream, names.iter().map(String::as_str).chain([HUB])) {
        hint if !hint.is_empty() => hint,
        _ if is_name(upstream) => format!(": add [upstreams.{upstream}]"),
        _ => ": write the NAME of an [upstreams.NAME] table".to_owned(),
    };
    let shown = quoted(upstream).replace('"', "`");
    section.problem("upstream", format!("unknown upstream {shown} in {}{hint}", section.title()));
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
    let context = Context::new(TraceParent::generate());
    let refusal = |service: &str, method: &str| {
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(1));
        connector.explain(&Request::new((service, method), &Params::None, &context, deadline)).err()
    };
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
