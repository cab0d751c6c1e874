//! What callers ask the registry: `ping`, `locate_service`, and `get_service_specs`, which
//! Gemstone's clients up to 0.9 ask for before anything else (WIRE, sections 4.3 and 4.4).

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::announcement::{self, LONGEST_NAME, excerpt, invalid};
use super::book::Form;
use super::{AGENT, Registry, Service};
use crate::call::{CallName, Params, Payload};
use crate::fault::Fault;
use crate::route::pattern::Pattern;
use crate::router::table::Table;

/// How many methods of rows are named.
const MOST_NAMED: usize = 1_000;

/// A method of the registry's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::jsonrpc) enum Method {
    /// A service announces itself.
    Ping,
    /// Somebody looks for services.
    LocateService,
    /// Somebody asks what can be called.
    GetServiceSpecs,
}

impl Method {
    /// All of them, with what their callers are told of them.
    const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Ping, "ping", "Announces a service: {name, url} or {name, host, port}."),
        (Self::LocateService, "locate_service", "Where services are: {name}, a glob."),
        (Self::GetServiceSpecs, "get_service_specs", "What can be called."),
    ];

    /// The names.
    pub(in crate::protocol::jsonrpc) const NAMES: [&'static str; 3] =
        [Self::ALL[0].1, Self::ALL[1].1, Self::ALL[2].1];

    /// The one by that name, which names no service.
    pub(in crate::protocol::jsonrpc) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(method, ..)| *method)
    }

    /// Its name.
    pub(in crate::protocol::jsonrpc) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(method, ..)| *method == self).map_or("", |(_, name, _)| name)
    }
}

impl Registry {
    /// Answers a call of one of its methods.
    pub(in crate::protocol::jsonrpc) fn answer(
        &self,
        method: Method,
        params: &Params,
        table: &Table,
    ) -> Result<Payload, Fault> {
        let answered = match method {
            Method::Ping => announcement::read(params)
                .and_then(|(key, form)| self.hear(key, form))
                .map(|()| Payload::NULL),
            Method::LocateService => self.locate(params),
            Method::GetServiceSpecs => Ok(self.specs(table)),
        };
        self.metrics.asked(method.as_str(), answered.as_ref().map(drop));
        answered
    }

    /// The URLs of those that are believed and match. Asked by position, as Gemstone's clients up
    /// to 0.9 do, each is told in the form in which it was announced: those of 0.3 want host and
    /// port, and know services of their own generation alone.
    fn locate(&self, params: &Params) -> Result<Payload, Fault> {
        let (pattern, by_position) = wanted(params)?;
        let services = self.services();
        // Several names may be at one URL.
        let mut told = HashSet::new();
        let found =
            services.iter().filter(|service| service.is(&pattern) && told.insert(service.url()));
        let shown = |service: &Service| match &service.form {
            Form::HostAndPort(host, port) if by_position => json!({"host": host, "port": port}),
            _ => Value::from(service.url()),
        };
        Ok(payload(found.map(shown).collect()))
    }

    /// What can be called here: its own methods, and those that rows name to the letter.
    fn specs(&self, table: &Table) -> Payload {
        let mut methods: Map<String, Value> =
            named(table, "").map(|name| (name.to_owned(), Value::Null)).collect();
        methods.extend(
            Method::ALL.iter().map(|(_, name, what)| ((*name).to_owned(), Value::from(*what))),
        );
        payload(json!({"name": "genkan", "instance": self.agent, "methods": methods}))
    }

    /// What a service's own address says of it, where its row names its methods to the letter.
    pub(in crate::protocol::jsonrpc) fn specs_of(
        &self,
        service: &str,
        table: &Table,
    ) -> Option<Payload> {
        let prefix = format!("{service}.");
        let names = named(table, &prefix).filter_map(|name| name.strip_prefix(&prefix));
        let methods: Map<String, Value> =
            names.map(|name| (name.to_owned(), Value::Null)).collect();
        if methods.is_empty() {
            return None;
        }
        Some(payload(json!({"name": service, "methods": methods})))
    }

    /// Answers the probe of a registry, its own or another Genkan's, at a service's own address: no
    /// service has to. `None` where it is none. The second is whether it is its own.
    pub(in crate::protocol::jsonrpc) fn answer_probe(
        &self,
        name: &CallName,
        agent: Option<&str>,
    ) -> Option<(Payload, bool)> {
        let agent = agent.filter(|agent| agent.starts_with(AGENT))?;
        let is_own = agent == self.agent;
        let itself = is_own.then_some(agent);
        let specs = json!({"name": name.service(), "instance": itself, "methods": {}});
        Some((payload(specs), is_own))
    }
}

/// The names to the letter of the table's rows that begin so.
fn named<'a>(table: &'a Table, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let literal = table.rows().iter().filter(|row| row.rule.pattern.is_literal());
    let names = literal.map(|row| row.rule.pattern.as_str());
    names.filter(move |name| name.starts_with(prefix)).take(MOST_NAMED)
}

/// The params of `locate_service`.
#[derive(Deserialize)]
struct Wanted {
    name: String,
}

/// Which names are looked for, and whether that was said by position.
fn wanted(params: &Params) -> Result<(Pattern, bool), Fault> {
    let (json, by_position) = match params {
        Params::Array(json) => (json.as_str(), true),
        Params::Object(json) => (json.as_str(), false),
        Params::None | Params::Both { .. } => ("", false),
    };
    let Ok(Wanted { name }) = serde_json::from_str(json) else {
        let message = "`locate_service` takes {name}, the name of a service or a glob over names";
        return Err(invalid(message.to_owned()));
    };
    if name.len() > LONGEST_NAME {
        let start = excerpt(&name);
        return Err(invalid(format!("`{start}` is longer than any name: {LONGEST_NAME} bytes")));
    }
    Ok((Pattern::new(&name), by_position))
}

fn payload(value: Value) -> Payload {
    Payload::from_validated(value.to_string().into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::book::{Finding, Key};
    use super::*;

    fn registry(services: &[(&str, Form)]) -> Arc<Registry> {
        let registry = Registry::new();
        for (name, form) in services {
            let key = Key { name: (*name).to_owned(), url: format!("http://h/{name}") };
            let now = tokio::time::Instant::now();
            let mut book = registry.book();
            book.hear(now, key, form.clone());
            while let Some(key) = book.take_due(now) {
                book.probed(now, &key, Finding::Service);
            }
        }
        registry.publish();
        registry
    }

    fn located(registry: &Registry, params: &str) -> Result<String, String> {
        let json = Payload::from_validated(params.to_owned().into());
        let params = match params.as_bytes().first() {
            Some(b'[') => Params::Array(json),
            _ => Params::Object(json),
        };
        let found = registry.locate(&params);
        found.map(|found| found.as_str().to_owned()).map_err(|fault| fault.message().to_owned())
    }

    #[test]
    fn services_are_located_by_globs() {
        let old = Form::HostAndPort("h".to_owned(), 7);
        let registry = registry(&[("a.x", Form::Url), ("a.y", old), ("b.x", Form::Url)]);
        for (params, found) in [
            (r#"{"name":"a.*"}"#, r#"["http://h/a.x","http://h/a.y"]"#),
            (r#"["a.*"]"#, r#"["http://h/a.x",{"host":"h","port":7}]"#),
            (r#"["?.x"]"#, r#"["http://h/a.x","http://h/b.x"]"#),
            (r#"{"name":"b.x"}"#, r#"["http://h/b.x"]"#),
            (r#"{"name":"c"}"#, "[]"),
        ] {
            assert_eq!(located(&registry, params).expect("found"), found, "{params}");
        }
        for params in ["{}", "[]", "[1]", r#"["a","b"]"#] {
            let why = located(&registry, params).expect_err(params);
            assert!(why.contains("takes {name}"), "{params}: {why}");
        }
        let long = format!("[\"{}\"]", "*a".repeat(100));
        assert!(located(&registry, &long).expect_err("too long").contains("longer than"));
    }

    #[test]
    fn a_glob_that_is_hard_on_matchers_is_none_here() {
        let registry = registry(&[]);
        let mut book = registry.book();
        let now = tokio::time::Instant::now();
        for nth in 0..10_000 {
            let name = format!("{}{nth}", "a".repeat(120));
            book.hear(now, Key { name, url: String::new() }, Form::Url);
        }
        while let Some(key) = book.take_due(now) {
            book.probed(now, &key, Finding::Service);
        }
        drop(book);
        registry.publish();
        let glob = format!("[\"{}b\"]", "*a".repeat(63));
        assert_eq!(located(&registry, &glob).expect("an answer"), "[]");
    }
}
