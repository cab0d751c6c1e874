//! What the page `/routes` tells: the routing table in force, and how its upstreams do.

use std::time::Duration;

use serde::Serialize;

use crate::router::circuit::CircuitState;
use crate::router::table::{Row, Table};
use crate::router::target::Target;
use crate::units::format_duration;
use crate::upstream::Readiness;

/// The page.
#[derive(Serialize)]
pub(super) struct RoutesPage<'a> {
    routes: Vec<Route<'a>>,
    upstreams: Vec<Place<'a>>,
}

#[derive(Serialize)]
struct Route<'a> {
    r#match: &'a str,
    upstream: &'a str,
    service: Option<&'a str>,
    method: Option<&'a str>,
    timeout: String,
    /// Whether it stands in no file: the last row, which is always there.
    implicit: bool,
}

#[derive(Serialize)]
struct Place<'a> {
    name: &'a str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    in_flight: usize,
    max_in_flight: usize,
    /// The services that did not answer when they were called last.
    open: Vec<Open>,
}

/// A service that did not answer: it is left alone, or the next call tries it.
#[derive(Serialize)]
pub(super) struct Open {
    service: String,
    state: &'static str,
    retry_after: String,
    /// Whether it is left alone now.
    #[serde(skip)]
    refuses: bool,
}

impl<'a> RoutesPage<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        let rows = table.rows().iter().map(|row| Route::new(row, false));
        let last = table.last();
        let routes = rows.chain(last.target.is_some().then(|| Route::new(last, true))).collect();
        let known = table.targets();
        let last = last.target.iter().filter(|last| !known.iter().any(|it| it.name == last.name));
        let upstreams = known.iter().chain(last).map(|target| Place::new(target, table)).collect();
        Self { routes, upstreams }
    }
}

impl<'a> Route<'a> {
    fn new(row: &'a Row, implicit: bool) -> Self {
        let rule = &row.rule;
        Self {
            r#match: rule.pattern.as_str(),
            upstream: &rule.upstream,
            service: rule.service.as_deref(),
            method: rule.method.as_deref(),
            timeout: format_duration(rule.timeout),
            implicit,
        }
    }
}

impl<'a> Place<'a> {
    fn new(target: &'a Target, table: &Table) -> Self {
        let why = match target.upstream.readiness() {
            Readiness::Ready => None,
            Readiness::NotReady(why) => Some(why),
        };
        Self {
            name: &target.name,
            ready: why.is_none(),
            why,
            in_flight: target.in_flight(),
            max_in_flight: target.max_in_flight(),
            open: open(target, table),
        }
    }
}

/// The services of an upstream that did not answer: those of the one breaker that all of its rows share.
pub(super) fn open(target: &Target, table: &Table) -> Vec<Open> {
    let rows = || table.rows().iter().filter(|row| row.rule.upstream == target.name);
    let breaker = rows().find_map(|row| row.breaker());
    let open = breaker.map(|breaker| breaker.open()).unwrap_or_default();
    let told = open.into_iter().map(|(service, state)| {
        let refuses = state.refuses();
        let (state, left) = match state {
            CircuitState::Open(left) if !left.is_zero() => ("open", left),
            CircuitState::Open(_) | CircuitState::HalfOpen | CircuitState::Closed => {
                ("half_open", Duration::ZERO)
            }
        };
        // In whole seconds, as the fault says it.
        let left = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
        Open { service, state, retry_after: format_duration(left), refuses }
    });
    told.collect()
}

impl Open {
    /// The same as a line of `/readyz`; none of what nobody is kept from.
    pub(super) fn line(&self, upstream: &str) -> Option<String> {
        let service = crate::printable::printable_line(&self.service);
        let until = match self.state {
            "open" => format!("its calls are refused for {}", self.retry_after),
            _ => "one call tries it, and the others are refused".to_owned(),
        };
        let line = format!("{upstream}: `{service}` does not answer, {until}: its breaker is open");
        self.refuses.then_some(line)
    }
}
