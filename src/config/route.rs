//! The tables as the operator writes them: `[upstreams.NAME]` and `[[routes]]`.

use std::sync::Arc;
use std::time::Duration;

use super::problem::did_you_mean;
use super::section::Section;
use crate::protocol::EGRESSES;
use crate::router::pattern::Pattern;
use crate::router::table::{HUB, Rule};
use crate::upstream::Connector;

const MAX_IN_FLIGHT: usize = 4_096;

/// An `[upstreams.NAME]` table.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// Its name.
    pub name: String,
    /// The protocol's own settings.
    pub connector: Arc<dyn Connector>,
    /// How many calls may wait for it at once.
    pub max_in_flight: usize,
    /// Differs where any of its keys do: tells whether a reload changed it. Never shown.
    pub fingerprint: u64,
}

impl UpstreamConfig {
    /// Reads the table; `None` where its protocol is not known.
    pub(super) fn read(name: String, section: &mut Section<'_>) -> Option<Self> {
        let fingerprint = section.fingerprint();
        if name == HUB {
            section.problem_here(format!(
                "[upstreams.{HUB}]: the hub is an upstream by that name already: choose another one"
            ));
        }
        if name.is_empty() || name.contains(['.', ':', ' ']) {
            section.problem_here(format!(
                "[upstreams.\"{name}\"]: a name is a word without dots, colons and blanks"
            ));
        }
        let protocol = section.required_text("protocol");
        let max_in_flight = section.count("max_in_flight", MAX_IN_FLIGHT, 1, 1_000_000);
        let Some((_, read)) = EGRESSES.iter().find(|(word, _)| *word == protocol) else {
            if !protocol.is_empty() {
                let words: Vec<_> =
                    EGRESSES.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                let hint = did_you_mean(&protocol, EGRESSES.iter().map(|(word, _)| *word));
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

/// Reads one `[[routes]]` row.
pub(super) fn read_route(
    section: &mut Section<'_>,
    upstreams: &[(String, bool)],
    timeout: Duration,
) -> Rule {
    let pattern = section.required_text("match");
    if !pattern.is_empty() && !pattern.contains('.') && !pattern.contains('*') {
        section.problem("match", format!("`match` in {}: \"{pattern}\" can match no call: write \"{pattern}.*\" for all methods of a service", section.title()));
    }
    let upstream = section.required_text("upstream");
    let known = |name: &str| name == HUB || upstreams.iter().any(|(known, _)| known == name);
    if !upstream.is_empty() && !known(&upstream) {
        let names = upstreams.iter().map(|(name, _)| name.as_str()).chain([HUB]);
        let hint = match did_you_mean(&upstream, names) {
            hint if hint.is_empty() => format!(": add [upstreams.{upstream}]"),
            hint => hint,
        };
        section.problem(
            "upstream",
            format!("unknown upstream `{upstream}` in {}{hint}", section.title()),
        );
    }
    let (service, method) = (section.text("service"), section.text("method"));
    for (key, renamed) in [("service", &service), ("method", &method)] {
        if renamed.as_deref() == Some("") {
            section.problem(
                key,
                format!(
                    "`{key}` in {} is empty: leave it out to keep the caller's",
                    section.title()
                ),
            );
        }
    }
    if method.as_deref().is_some_and(|method| method.contains('.')) {
        section.problem(
            "method",
            format!(
                "`method` in {} holds a dot: what stands before it belongs into `service`",
                section.title()
            ),
        );
    }
    Rule {
        pattern: Pattern::new(&pattern),
        upstream,
        service,
        method,
        params: section.texts("params"),
        timeout: section.duration("timeout", timeout),
    }
}
