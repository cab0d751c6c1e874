//! `[[expose]]`: services that are made callable on brokers, as if they lived there.

use std::sync::Arc;

use super::problem::did_you_mean;
use super::route::UpstreamConfig;
use super::secret::quoted;
use super::section::Section;
use crate::route::expose::Expose;
use crate::route::pattern::Pattern;
use crate::route::{HUB, Rule};

/// An `[[expose]]` row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposeConfig {
    /// The upstreams on which the service is exposed.
    pub on: Vec<String>,
    /// The service.
    pub expose: Arc<Expose>,
}

impl ExposeConfig {
    /// Whether the service is exposed on that upstream.
    pub fn is_on(&self, upstream: &str) -> bool {
        self.on.iter().any(|on| on == upstream)
    }

    /// Reads one row; `None` where it names no service, or no place for it.
    pub(super) fn read(
        section: &mut Section<'_>,
        names: &[String],
        upstreams: &[UpstreamConfig],
        earlier: &[ExposeConfig],
    ) -> Option<Self> {
        let service = section.required_text("service");
        if !section.has("on") {
            let title = section.title();
            section.problem_here(format!("{title} needs `on`: add `on = [\"UPSTREAM\"]`"));
        }
        let on = section.texts("on");
        let name = section.text("as").filter(|name| {
            if name.is_empty() {
                let message = format!("`as` in {} is empty: leave it out", section.title());
                section.problem("as", message);
            }
            !name.is_empty()
        });
        let methods = section.texts("methods");
        let prefetch = section.has("prefetch").then(|| section.count("prefetch", 1, 1, 10_000));
        let dialect = section.text("dialect");
        for (key, is_empty, means) in [
            ("on", on.is_empty(), "exposes it nowhere: name upstreams, or take the row out"),
            ("methods", methods.is_empty(), "names none: leave it out to expose all methods"),
        ] {
            if is_empty && section.is_set(key) {
                section.problem(key, format!("`{key} = []` in {} {means}", section.title()));
            }
        }
        let service = service?;
        let expose = Arc::new(Expose {
            name: name.unwrap_or_else(|| service.clone()),
            service,
            methods,
            prefetch: prefetch.and_then(|count| u16::try_from(count).ok()),
            dialect,
        });
        for place in &on {
            check_place(section, place, names);
        }
        let places = upstreams.iter().filter(|upstream| on.contains(&upstream.name));
        for UpstreamConfig { name, connector, .. } in places {
            for (key, message) in connector.object_to(&expose) {
                section.problem(key, format!("`{key}` in {}: {message}", section.title()));
            }
            let taken = |row: &&ExposeConfig| row.is_on(name) && row.expose.name == expose.name;
            if let Some(row) = earlier.iter().find(taken) {
                let message = format!(
                    "{} exposes `{}` on `{name}`, as another row does with the service `{}`: give \
                     one of them another name with `as`",
                    section.title(),
                    expose.name,
                    row.expose.service
                );
                section.problem(if section.is_set("as") { "as" } else { "service" }, message);
            }
        }
        Some(Self { on, expose })
    }
}

fn check_place(section: &Section<'_>, place: &str, names: &[String]) {
    let title = section.title();
    if place == HUB {
        let message = format!(
            "`on` in {title}: modules of the hub call every service that a [[routes]] row names: \
             leave `{HUB}` out"
        );
        section.problem("on", message);
        return;
    }
    if !section.is_of_a_whole() || names.iter().any(|name| name == place) {
        return;
    }
    let hint = did_you_mean(place, names.iter().map(String::as_str));
    let shown = quoted(place).replace('"', "`");
    section.problem("on", format!("unknown upstream {shown} in {title}{hint}"));
}

/// Reports a service that is exposed where its own calls would go: they would come back for ever.
pub(super) fn leads_away(
    section: &Section<'_>,
    row: &ExposeConfig,
    routes: &[Option<Rule>],
    upstreams: &[UpstreamConfig],
) {
    let address = |name: &str| {
        let known = upstreams.iter().find(|upstream| upstream.name == name)?;
        Some((known.connector.protocol(), known.connector.address()))
    };
    for (index, rule) in routes.iter().enumerate().filter_map(|(i, rule)| Some((i, rule.as_ref()?)))
    {
        if !takes(rule, &row.expose) {
            continue;
        }
        let called = rule.service.as_deref().unwrap_or(&row.expose.service);
        let name = &row.expose.name;
        let is_back = match &rule.subject {
            Some(subject) => subject.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')),
            None => called == name,
        };
        let there = address(&rule.upstream);
        let back = row.on.iter().find(|on| {
            is_back && (**on == rule.upstream || there.is_some() && there == address(on))
        });
        if let Some(on) = back {
            let message = format!(
                "{} exposes `{}` on `{on}`, and [[routes]] #{} sends its calls back there: they would \
                 go round in a circle: send them elsewhere, or expose it under another name with `as`",
                section.title(),
                row.expose.name,
                index + 1
            );
            section.problem("on", message);
        }
        if rule.pattern.covers(&Pattern::new(&format!("{}.*", row.expose.service))) {
            return;
        }
    }
}

/// Whether the row decides about some call of the service, where no earlier one does.
fn takes(rule: &Rule, expose: &Expose) -> bool {
    if expose.methods.is_empty() {
        let all = Pattern::new(&format!("{}.*", expose.service));
        return rule.pattern.meets(&all);
    }
    expose.methods.iter().any(|method| rule.matches(&format!("{}.{method}", expose.service)))
}
