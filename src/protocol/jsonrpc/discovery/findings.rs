//! What the table makes of offers: under which names callers reach them, if they do. Does no I/O.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::name;
use crate::call::CallName;
use crate::offer::{Description, MOST, Offer, Offers};
use crate::route::Rule;
use crate::router::table::{Row, Table};

/// A method that is called under a name.
#[derive(Debug)]
pub(super) struct Found {
    /// What is told of it.
    pub(super) told: Description,
    /// The number of the row that takes its calls.
    pub(super) row: Option<usize>,
    /// How long the part of the name is that is the service's, where another one would make it another call.
    service_length: Option<usize>,
}

impl Found {
    /// By what it is called there, at a service's own address or at `/api`; `None` where it is not.
    pub(super) fn called_at<'a>(&self, service: Option<&str>, whole: &'a str) -> Option<&'a str> {
        let (parted_at, called) = match service {
            None => (name::read(None, whole.to_owned()).ok()?.service().len(), whole),
            Some(service) => (service.len(), whole.strip_prefix(service)?.strip_prefix('.')?),
        };
        self.service_length.is_none_or(|length| length == parted_at).then_some(called)
    }
}

/// Methods by the names under which they are called.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) methods: BTreeMap<String, Found>,
    pub(super) schemas: Map<String, Value>,
}

impl Findings {
    /// Adds what a row, by its number, makes of the offers of those that it sends to.
    pub(super) fn add(&mut self, table: &Table, number: Option<usize>, offers: &Offers) {
        let rule = &row(table, number).rule;
        let described = rule.schema.as_ref().map(|file| &file.document);
        if rule.pattern.is_literal() {
            let name = rule.pattern.as_str();
            let Some(called) = called(name) else { return };
            let (service, method) = (rule.service(&called), rule.method(&called));
            let by_file = described.and_then(|document| {
                let mut methods = document.methods.iter();
                let own = |known: &str| known == method || known == name;
                methods.find(|(known, _)| own(known)).map(|(_, description)| description)
            });
            let mut offered = offers.methods.iter();
            let by_service = || {
                offered
                    .find(|offer| offer.service == service && offer.method == method)
                    .map(|offer| &offer.description)
            };
            let found = by_file.or_else(by_service).cloned();
            let told = found.unwrap_or_else(Description::unknown);
            self.insert(table, number, (name, None), told);
        } else if rule.method.is_none() {
            let service = rule.known_service();
            for (name, description) in described.iter().flat_map(|document| &document.methods) {
                let whole = match service {
                    Some(_) if rule.service.is_some() => reached(rule, "", name),
                    Some(service) if !name.starts_with(&format!("{service}.")) => {
                        Some(format!("{service}.{name}"))
                    }
                    _ => Some(name.clone()),
                };
                if let Some(whole) = whole {
                    // Some files have their methods' names with the service.
                    let known = service.filter(|_| rule.service.is_none()).map(str::len);
                    let length = known.or_else(|| service_length(&whole, name));
                    self.insert(table, number, (&whole, length), description.clone());
                }
            }
            for Offer { service, method, description } in &offers.methods {
                if let Some(name) = reached(rule, service, method) {
                    let length = service_length(&name, method);
                    self.insert(table, number, (&name, length), description.clone());
                }
            }
        }
        let schemas = described.iter().flat_map(|document| &document.schemas);
        for (name, schema) in schemas.chain(&offers.schemas) {
            if self.schemas.len() < MOST && !self.schemas.contains_key(name) {
                self.schemas.insert(name.clone(), schema.clone());
            }
        }
    }

    /// Adds a method, unless another row takes its calls, or it is there: what was told first
    /// counts.
    fn insert(
        &mut self,
        table: &Table,
        row: Option<usize>,
        (name, service_length): (&str, Option<usize>),
        told: Description,
    ) {
        let is_reached = called(name).is_some() && table.position(name) == row;
        if is_reached && self.methods.len() < MOST && !self.methods.contains_key(name) {
            self.methods.insert(name.to_owned(), Found { told, row, service_length });
        }
    }
}

/// The row of that number.
pub(super) fn row(table: &Table, number: Option<usize>) -> &Row {
    number.and_then(|number| table.rows().get(number)).unwrap_or(table.last())
}

/// How long what stands before a method's name is, without the dot; `None` where nothing does.
fn service_length(whole: &str, method: &str) -> Option<usize> {
    whole.strip_suffix(method)?.strip_suffix('.').map(str::len)
}

fn called(name: &str) -> Option<CallName> {
    match CallName::parse(name.to_owned()) {
        Ok(name) => Some(name),
        Err(_) => CallName::parse_bare(name.to_owned()).ok(),
    }
}

/// The name under which a row takes calls of a service's method; `None` where the row alone does not tell.
fn reached(rule: &Rule, service: &str, method: &str) -> Option<String> {
    let name = match (&rule.service, rule.pattern.as_str().rsplit_once('.')) {
        (None, _) => format!("{service}.{method}"),
        (Some(_), Some((outside, _))) if !outside.contains(['*', '?']) => {
            format!("{outside}.{method}")
        }
        (Some(_), Some(_)) => return None,
        // Callers name no service.
        (Some(_), None) => method.to_owned(),
    };
    rule.matches(&name).then_some(name)
}
