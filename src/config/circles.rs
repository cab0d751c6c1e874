//! Calls that would go round for ever: exposed on the broker that they are sent to, or sent to Genkan's own
//! listener, by one row or by several that lead to each other.
//!
//! A call is followed by its name, as a glob: `orders.*`. A row narrows it, the upstream says under which
//! name it goes on, and whoever takes that name there says what it is called then.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use super::expose::ExposeConfig;
use super::ingress::IngressConfig;
use super::route::UpstreamConfig;
use super::section::Section;
use super::sites;
use crate::route::Rule;
use crate::route::first_words::FirstWords;
use crate::route::pattern::Pattern;
use crate::upstream::Sent;

/// The most steps of one call: a gateway ends calls of more hops.
const MOST_STEPS: usize = 16;

/// An `[[expose]]` row, and its number in the file.
pub(super) type Numbered<'a> = (usize, &'a ExposeConfig);

/// Reports each circle once, at the first row of it that exposes a service, or else at its first route.
pub(super) fn check(
    root: &Section<'_>,
    rules: &[Option<Rule>],
    exposes: &[Numbered<'_>],
    upstreams: &[UpstreamConfig],
    ingresses: &[IngressConfig],
) {
    let listeners = ingresses.iter().flat_map(|ingress| ingress.settings.tcp());
    let listeners = listeners.filter_map(sites::of_listener).collect();
    let patterns = rules.iter().map(|rule| rule.as_ref().map_or("", |rule| rule.pattern.as_str()));
    let words = FirstWords::of(patterns);
    let places = places(exposes, upstreams);
    let roads = Roads { rules, words, exposes, places, listeners };
    let mut walk =
        Walk { roads: &roads, path: Vec::new(), done: HashSet::new(), told: HashSet::new() };
    let mut circles = Vec::new();
    for (_, row) in exposes {
        for name in names(row) {
            walk.follow(&name, &mut circles);
        }
    }
    // Whatever comes round by an exposed service has been found by now: what is left leads to a listener of
    // Genkan's own, as hardly any row does.
    let own: HashSet<&str> = upstreams
        .iter()
        .filter(|one| one.connector.sites().iter().any(|site| roads.listeners.contains(site)))
        .map(|one| one.name.as_str())
        .collect();
    for rule in rules.iter().flatten().filter(|rule| own.contains(rule.upstream.as_str())) {
        // What has no dot in it can have some where a `*` stands.
        let pattern = rule.pattern.as_str();
        let dotted = format!("{pattern}.*");
        let is_whole = pattern.contains('.') || !pattern.ends_with('*');
        walk.follow(if is_whole { pattern } else { &dotted }, &mut circles);
    }
    for circle in circles {
        root.problem(&circle.key, circle.message);
    }
}

/// The calls of an exposed service.
fn names(ExposeConfig { expose, .. }: &ExposeConfig) -> Vec<String> {
    let all = ["*".to_owned()];
    let methods = if expose.methods.is_empty() { &all } else { expose.methods.as_slice() };
    methods.iter().map(|method| format!("{}.{method}", expose.service)).collect()
}

/// What the tables say.
struct Roads<'a> {
    rules: &'a [Option<Rule>],
    /// The rules' patterns.
    words: FirstWords<'a>,
    exposes: &'a [Numbered<'a>],
    places: HashMap<&'a str, There<'a>>,
    listeners: Vec<String>,
}

/// What is at an upstream.
struct There<'a> {
    upstream: &'a UpstreamConfig,
    /// The rows that expose something on its broker, each with the upstream that it names.
    exposed: Vec<(usize, &'a ExposeConfig, &'a UpstreamConfig)>,
}

/// All upstreams, by their names.
fn places<'a>(
    exposes: &[Numbered<'a>],
    upstreams: &'a [UpstreamConfig],
) -> HashMap<&'a str, There<'a>> {
    let mut by_broker: HashMap<&str, Vec<(usize, &ExposeConfig)>> = HashMap::new();
    for (number, row) in exposes {
        for on in &row.on {
            by_broker.entry(on).or_default().push((*number, row));
        }
    }
    let there = |upstream: &'a UpstreamConfig| {
        let ons = upstreams.iter().filter(|on| by_broker.contains_key(on.name.as_str()));
        let mut exposed: Vec<_> = ons
            .filter(|on| on.shares_with(upstream))
            .flat_map(|on| by_broker[on.name.as_str()].iter().map(move |(at, row)| (*at, *row, on)))
            .collect();
        // In the order of the file, each once.
        exposed.sort_by_key(|(number, ..)| *number);
        exposed.dedup_by_key(|(number, ..)| *number);
        (upstream.name.as_str(), There { upstream, exposed })
    };
    upstreams.iter().map(there).collect()
}

/// One step of a call: a row sends it, and it comes in again.
#[derive(Clone, Debug)]
struct Step {
    /// What it was called before.
    name: String,
    rule: usize,
    upstream: String,
    /// The row that takes it over there; `None` where a listener does.
    expose: Option<usize>,
    /// What it is called from then on.
    next: String,
}

impl Roads<'_> {
    /// Where calls of that name can come in again.
    fn steps(&self, name: &str) -> Vec<Step> {
        let called = Pattern::new(name);
        let mut steps = Vec::new();
        for number in self.words.may_meet(name) {
            let Some(rule) = &self.rules[number] else { continue };
            // A name without a dot goes where a row names the service.
            let is_its = match name.contains('.') {
                true => true,
                false => rule.service.is_some() && !rule.pattern.as_str().contains('.'),
            };
            if is_its && rule.pattern.meets(&called) {
                let narrowed = narrowed(name, &called, rule);
                self.steps_by(number, rule, &narrowed, &mut steps);
                if rule.pattern.covers(&called) {
                    break;
                }
            }
        }
        steps
    }

    fn steps_by(&self, number: usize, rule: &Rule, name: &str, steps: &mut Vec<Step>) {
        let Some(There { upstream: there, exposed }) = self.places.get(rule.upstream.as_str())
        else {
            return;
        };
        let (service, method) = name.rsplit_once('.').unwrap_or(("", name));
        let sent = Sent {
            service: rule.service.as_deref().unwrap_or(service),
            method: rule.method.as_deref().unwrap_or(method),
            subject: rule.subject.as_deref(),
        };
        let mut add = |expose, next| {
            let (name, upstream) = (name.to_owned(), rule.upstream.clone());
            steps.push(Step { name, rule: number, upstream, expose, next });
        };
        for (expose, row, here) in exposed {
            let methods = &row.expose.methods;
            let service = &row.expose.service;
            for method in here.connector.takes(&row.expose, &sent) {
                if methods.is_empty() {
                    add(Some(*expose), format!("{service}.{method}"));
                    continue;
                }
                let asked = Pattern::new(&method);
                for method in methods.iter().filter(|method| asked.matches(method)) {
                    add(Some(*expose), format!("{service}.{method}"));
                }
            }
        }
        let is_own = |site: &String| self.listeners.contains(site);
        if there.connector.sites().iter().any(is_own) {
            for next in there.connector.comes_in_as(&sent) {
                add(None, next);
            }
        }
    }
}

/// What a row leaves of a name: as much as can be said in one glob.
fn narrowed(name: &str, called: &Pattern, rule: &Rule) -> String {
    let is_narrower = called.covers(&rule.pattern) && !rule.pattern.covers(called);
    if is_narrower { rule.pattern.as_str().to_owned() } else { name.to_owned() }
}

struct Walk<'a> {
    roads: &'a Roads<'a>,
    path: Vec<Step>,
    /// Names of which all is known.
    done: HashSet<String>,
    /// The circles that were told of, by their routes.
    told: HashSet<Vec<usize>>,
}

struct Circle {
    key: String,
    message: String,
}

impl Walk<'_> {
    fn follow(&mut self, name: &str, circles: &mut Vec<Circle>) {
        if self.path.len() >= MOST_STEPS || self.done.contains(name) {
            return;
        }
        for step in self.roads.steps(name) {
            let begin = self.path.iter().position(|earlier| earlier.name == step.next);
            let begin = begin.or_else(|| (step.name == step.next).then_some(self.path.len()));
            let next = step.next.clone();
            self.path.push(step);
            match begin {
                Some(begin) => {
                    let circle = &self.path[begin..];
                    let mut rules: Vec<usize> = circle.iter().map(|step| step.rule).collect();
                    rules.sort_unstable();
                    if self.told.insert(rules) {
                        circles.push(told(circle, self.roads.exposes));
                    }
                }
                None => self.follow(&next, circles),
            }
            self.path.pop();
        }
        self.done.insert(name.to_owned());
    }
}

/// What is said of a circle.
fn told(circle: &[Step], exposes: &[Numbered<'_>]) -> Circle {
    let known = |number: usize| exposes.iter().find(|(at, _)| *at == number).map(|(_, row)| *row);
    let way = |step: &Step| {
        let Step { rule, upstream, .. } = step;
        let route = format!("[[routes]] #{} to `{upstream}`", rule + 1);
        match step.expose.and_then(|number| Some((number, known(number)?))) {
            Some((number, row)) => {
                let name = &row.expose.name;
                format!("{route}, where [[expose]] #{} takes them as `{name}`", number + 1)
            }
            None => format!("{route}, which is this gateway's own listener"),
        }
    };
    let ways: Vec<_> = circle.iter().map(way).collect();
    let first = circle.iter().filter_map(|step| step.expose).min();
    let route = circle.first().map_or(0, |step| step.rule);
    let (about, key) = match first {
        Some(number) => {
            let name = known(number).map_or("", |row| &row.expose.service);
            (format!("[[expose]] #{} \"{name}\"", number + 1), format!("expose[{number}].on"))
        }
        None => (format!("[[routes]] #{}", route + 1), format!("routes[{route}].upstream")),
    };
    let mend = match first {
        Some(_) => "send them elsewhere, or expose them under another name with `as`",
        None => "send them elsewhere",
    };
    let ways = ways.join(", by ");
    let message = format!("{about}: its calls would go round in a circle: by {ways}: {mend}");
    Circle { key, message }
}
