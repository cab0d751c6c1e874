//! `[[expose]]`: services that are made callable on brokers, as if they lived there.

use std::sync::Arc;

use super::problem::did_you_mean;
use super::route::UpstreamConfig;
use super::secret::quoted;
use super::section::Section;
use crate::route::HUB;
use crate::route::expose::Expose;
use crate::upstream::Sent;

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
        let mut methods = section.texts("methods");
        let subjects = section.section("subjects").texts_by_name();
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
        check_methods(section, &methods);
        for (method, _) in &subjects {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        let service = service?;
        let expose = Arc::new(Expose {
            name: name.unwrap_or_else(|| service.clone()),
            service,
            methods,
            subjects,
            prefetch: prefetch.and_then(|count| u16::try_from(count).ok()),
            dialect,
        });
        for place in &on {
            check_place(section, place, names);
        }
        let places = upstreams.iter().filter(|upstream| on.contains(&upstream.name));
        for upstream in places {
            let name = &upstream.name;
            for (key, message) in upstream.connector.object_to(&expose) {
                section.problem(key, format!("`{key}` in {}: {message}", section.title()));
            }
            if let Some((there, row)) = taken(upstream, &expose, earlier, upstreams) {
                let broker = match there == name {
                    true => String::new(),
                    false => format!(", which is the same broker as `{name}`"),
                };
                let message = format!(
                    "{} exposes `{}` on `{name}`, as another row does with the service `{}` on \
                     `{there}`{broker}: give one of them another name with `as`",
                    section.title(),
                    expose.name,
                    row.expose.service
                );
                section.problem(if section.is_set("as") { "as" } else { "service" }, message);
            } else if let Some((subject, there, row)) = met(upstream, &expose, earlier, upstreams) {
                let message = format!(
                    "calls on {} would come to {} on `{name}` and to the service `{}`, as another row \
                     exposes it on `{there}`: take one of the two out",
                    quoted(&subject).replace('"', "`"),
                    section.title(),
                    row.expose.service
                );
                section.problem("subjects", message);
            }
        }
        Some(Self { on, expose })
    }
}

/// Complains of methods that nothing is called by.
fn check_methods(section: &Section<'_>, methods: &[String]) {
    let all = "leave `methods` out to expose all";
    let odd = methods.iter().find_map(|method| match method.as_str() {
        "" => Some(format!("holds an empty name: {all}")),
        "*" => Some(format!("holds \"*\": a method's whole name is written: {all}")),
        _ => None,
    });
    if let Some(odd) = odd {
        section.problem("methods", format!("`methods` in {} {odd}", section.title()));
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

/// The upstream that a row says, where this one is.
fn there<'a>(
    row: &ExposeConfig,
    upstream: &UpstreamConfig,
    upstreams: &'a [UpstreamConfig],
) -> Option<&'a UpstreamConfig> {
    let mut ons = row.on.iter().filter_map(|on| upstreams.iter().find(|other| other.name == *on));
    ons.find(|on| on.shares_with(upstream))
}

/// The row that exposes something by that name where this upstream is, and the upstream that it says.
fn taken<'a>(
    upstream: &UpstreamConfig,
    expose: &Expose,
    earlier: &'a [ExposeConfig],
    upstreams: &'a [UpstreamConfig],
) -> Option<(&'a str, &'a ExposeConfig)> {
    let mut rows = earlier.iter().filter(|row| row.expose.name == expose.name);
    rows.find_map(|row| Some((there(row, upstream, upstreams)?.name.as_str(), row)))
}

/// A subject of one row on which calls come to another one too, where this upstream is: the subject, the
/// upstream that the other row says, and the row.
fn met<'a>(
    upstream: &UpstreamConfig,
    expose: &Expose,
    earlier: &'a [ExposeConfig],
    upstreams: &'a [UpstreamConfig],
) -> Option<(String, &'a str, &'a ExposeConfig)> {
    earlier.iter().filter(|row| has_subjects(&row.expose) || has_subjects(expose)).find_map(|row| {
        let there = there(row, upstream, upstreams)?;
        let subject = subject_of_both(&row.expose, upstream, expose)
            .or_else(|| subject_of_both(expose, there, &row.expose))?;
        Some((subject, there.name.as_str(), row))
    })
}

fn has_subjects(expose: &Expose) -> bool {
    !expose.subjects.is_empty()
}

/// A method's own subject that another service is called on too.
fn subject_of_both(own: &Expose, there: &UpstreamConfig, other: &Expose) -> Option<String> {
    let mut subjects = own.subjects.iter();
    let both = subjects.find(|(_, subject)| {
        let sent = Sent { service: "", method: "", subject: Some(subject) };
        let reached = there.connector.takes(other, &sent);
        reached.iter().any(|method| other.call_name(method).is_some())
    });
    both.map(|(_, subject)| subject.clone())
}
