//! The configuration: where it is found, how it is read, what is wrong with it.
//!
//! A file is read to its end whatever is wrong in it, so that every problem is told at once,
//! with its line and the mend. The only place that reads the environment.

mod access;
mod admin;
pub mod audit;
mod auth;
mod bridge;
pub mod certificates;
mod circles;
mod document;
pub mod environment;
pub mod expose;
pub mod file;
mod globs;
pub mod hosts;
mod idempotency;
pub mod ingress;
pub mod log;
mod overlay;
mod places;
pub mod problem;
mod route;
pub mod secret;
pub mod section;
pub mod sites;
pub mod socket;
mod source;
#[cfg(test)]
mod tests;
pub mod twice;
pub mod url;
mod validate;
mod value;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use admin::AdminConfig;
pub use route::{ReadConnector, UpstreamConfig};
pub use source::Variables;

use crate::auth::settings::AuthConfig;
use crate::budget;
use crate::event_port::EventAddresses;
use crate::route::Rule;
use crate::route::bridge::{Bridge, Topic};
use crate::route::idempotency::Room;
use crate::route::rate::Limits;
use certificates::CertificateFile;
use expose::ExposeConfig;
use ingress::{IngressConfig, ReadIngress, Resident};
use log::LogConfig;
use problem::{Problem, Severity};
use section::Section;
use source::Source;

/// Where a configuration is looked for when none is named, in this order.
pub const SEARCHED: [&str; 2] = ["genkan.toml", "/etc/genkan/genkan.toml"];
/// What messages call the configuration that is used where no file is found.
pub const EMBEDDED: &str = "the embedded default";

/// More than any configuration takes, in bytes.
const LARGEST: usize = 16 << 20;
/// How long a call may take where neither its route nor its caller says.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that an operator can set.
#[derive(Clone)]
pub struct Config {
    /// How long SIGTERM waits for calls in flight.
    pub drain_timeout: Duration,
    /// How long a call may take, where its route does not say.
    pub timeout: Duration,
    /// How many threads carry calls.
    pub workers: usize,
    /// How many bytes of payloads the process may hold at once.
    pub max_memory: usize,
    /// `[log]`.
    pub log: LogConfig,
    /// The ways in, each with its table: `[http]`, `[hub]`.
    pub ingresses: Vec<IngressConfig>,
    /// `[auth]`.
    pub auth: AuthConfig,
    /// Whether callers are known: a row says who may call, and one that does not is closed.
    pub guarded: bool,
    /// `[admin]`.
    pub admin: AdminConfig,
    /// `[upstreams.*]`, in the order of the file.
    pub upstreams: Vec<UpstreamConfig>,
    /// `[idempotency]`: how much is kept of calls that have keys.
    pub idempotency: Room,
    /// `[limits]`: of all calls together.
    pub limits: Limits,
    /// `[[routes]]`, in the order of the file.
    pub routes: Vec<Rule>,
    /// `[[expose]]`, in the order of the file.
    pub exposes: Vec<ExposeConfig>,
    /// `[[bridges]]`, in the order of the file.
    pub bridges: Vec<Bridge>,
    /// `[[topics]]`, in the order of the file.
    pub topics: Vec<Topic>,
    /// The files of certificates that any table names.
    pub certificates: Vec<CertificateFile>,
}

/// What reads the protocols' tables, which the configuration itself knows nothing of.
pub struct Readers {
    /// For `[upstreams.NAME]`, by the word in `protocol = "…"`.
    pub egresses: Vec<(&'static str, ReadConnector)>,
    /// For the ways in, by the names of their tables.
    pub ingresses: Vec<(&'static str, ReadIngress)>,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The defaults, because there is no file.
    Embedded,
}

impl Origin {
    /// The file that was named, else the first one that exists, else the embedded default.
    pub fn find(named: Option<PathBuf>) -> Self {
        let searched = || SEARCHED.iter().map(PathBuf::from).find(|path| path.is_file());
        named.or_else(searched).map_or(Origin::Embedded, Origin::File)
    }

    /// How messages call it.
    pub fn name(&self) -> String {
        match self {
            Origin::File(path) => path.display().to_string(),
            Origin::Embedded => EMBEDDED.to_owned(),
        }
    }

    /// Its text, as the bytes that it is kept in, for a process that must not be held up: only a
    /// regular file is read.
    pub fn read_again(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Origin::File(path) => file::read(path, LARGEST),
            Origin::Embedded => Ok(Vec::new()),
        }
    }

    /// The same at the start, from whatever can be read.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Origin::File(path) => file::read_any(path, LARGEST),
            Origin::Embedded => Ok(Vec::new()),
        }
    }
}

/// A configuration that was read, with what is wrong or dubious in it.
pub struct Loaded {
    /// What it says; wrong values are replaced by defaults.
    pub config: Config,
    /// Every problem, in the order of the lines.
    pub problems: Vec<Problem>,
    source: Source,
}

impl Loaded {
    /// The configuration, if nothing in it is wrong; else the problems.
    pub fn into_valid(self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        if self.problems.iter().any(|problem| problem.severity == Severity::Error) {
            Err(self.problems)
        } else {
            Ok((self.config, self.problems))
        }
    }
}

impl Loaded {
    /// Where a key is set, or the nearest table around it: `routes[2]`, `upstreams.rabbit`.
    pub fn place(&self, path: &str) -> problem::Place {
        self.source.place(path)
    }

    /// What an operator whom the world can reach should mend, in the order of the lines. To be asked
    /// where nothing is wrong.
    pub fn audit(&self) -> Vec<Problem> {
        let mut advice = audit::audit(&self.config, &self.source);
        advice.sort_by_key(|advice| advice.place.line());
        advice
    }
}

/// Reads a configuration from where it lives, with the environment over it.
pub fn load(origin: &Origin, readers: &Readers) -> Loaded {
    match origin.read() {
        Ok(text) => load_text(origin, &text, readers),
        Err(error) => {
            let mut loaded = parse(&origin.name(), "", environment::all(), readers);
            loaded.problems.insert(0, unreadable(origin, &error));
            loaded
        }
    }
}

/// Reads a configuration from the text that was found where it lives.
pub fn load_text(origin: &Origin, text: &[u8], readers: &Readers) -> Loaded {
    parse_bytes(&origin.name(), text, environment::all(), readers)
}

/// Reads a configuration from its text; `name` is how problems call the file.
pub fn parse(name: &str, text: &str, environment: Variables, readers: &Readers) -> Loaded {
    parse_bytes(name, text.as_bytes(), environment, readers)
}

fn parse_bytes(name: &str, text: &[u8], environment: Variables, readers: &Readers) -> Loaded {
    let problems = RefCell::new(Vec::new());
    let (source, values) = Source::load(name, text, environment, &problems);
    let config = {
        let mut root = Section::root(values, &source, &problems);
        Config::read(&mut root, readers)
    };
    let mut problems = problems.into_inner();
    problems.sort_by_key(|problem| problem.place.line());
    Loaded { config, problems, source }
}

/// Reads a piece of TOML with a protocol's own `read`: what it made, and every problem.
#[cfg(test)]
pub(crate) fn read_for_test<T>(
    text: &str,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> (T, Vec<Problem>) {
    let problems = RefCell::new(Vec::new());
    let (source, values) =
        Source::load("genkan.toml", text.as_bytes(), Variables::new(), &problems);
    let made = read(&mut Section::root(values, &source, &problems));
    (made, problems.into_inner())
}

impl Config {
    fn read(root: &mut Section<'_>, readers: &Readers) -> Self {
        let timeout = root.duration("timeout", CALL_TIMEOUT);
        let mut upstreams = Vec::new();
        let mut names = Vec::new();
        for (name, mut section) in root.named_sections("upstreams") {
            upstreams.extend(UpstreamConfig::read(name.clone(), &mut section, &readers.egresses));
            names.push(name);
        }
        let known = route::KnownUpstreams::new(&names, &upstreams);
        let mut rows = validate::Rows::default();
        for mut section in root.sections("routes") {
            let rule = route::read_route(&mut section, &known, timeout);
            if let Some(rule) = &rule {
                validate::reachable(&section, rule, &rows);
            }
            rows.add(rule);
        }
        let (numbers, exposes) = read_exposes(root, &names, &upstreams);
        let ingresses = readers.ingresses.iter().map(|(name, read)| {
            let settings = read(&mut root.section(name), timeout);
            IngressConfig { name, settings }
        });
        let ingresses: Vec<IngressConfig> = ingresses.collect();
        validate::own_methods(root, &rows, &ingresses);
        let numbered: Vec<_> = numbers.into_iter().zip(&exposes).collect();
        circles::check(root, rows.rules(), &numbered, &upstreams, &ingresses);
        validate::exposed(root, &rows, &numbered);
        let (bridges, mut topics) = read_events(root, &names, &upstreams, &ingresses);
        let mut auth = auth::read(root);
        let knows_callers = |ingress: &IngressConfig| ingress.settings.knows_callers();
        let certificates = ingresses.iter().any(knows_callers);
        let guarded = auth.is_on || certificates;
        let sources = access::Sources {
            auth: &auth,
            keys: access::KeyNames::of(&auth),
            certificates,
            guarded,
            upstreams: &names,
            connectors: &upstreams,
            ingresses: &ingresses,
        };
        access::check(root, (&rows, &topics), &sources);
        let idempotency = idempotency::read_room(root, &rows);
        validate::used(root, &upstreams, &rows, &exposes, (&bridges, &topics));
        let mut routes = rows.into_rules();
        if guarded {
            auth.own_methods = std::mem::take(&mut auth.own_methods).guarded();
            for rule in &mut routes {
                rule.access = std::mem::take(&mut rule.access).guarded();
            }
            for topic in &mut topics {
                topic.access = std::mem::take(&mut topic.access).guarded();
            }
        }
        let admin = AdminConfig::read(&mut root.section("admin"));
        validate::apart(root, &listeners(&admin, &ingresses));
        let max_memory = root.size("max_memory", budget::DEFAULT);
        validate::holds_messages(root, max_memory, &ingresses);
        validate::upstreams(root, max_memory, (&upstreams, &exposes), &ingresses);
        Self {
            drain_timeout: root.duration("drain_timeout", DRAIN_TIMEOUT),
            timeout,
            max_memory,
            workers: root.count("workers", default_workers(), 1, 512),
            log: LogConfig::read(&mut root.section("log")),
            ingresses,
            auth,
            guarded,
            admin,
            upstreams,
            idempotency,
            limits: route::read_limits(&mut root.section("limits")),
            routes,
            exposes,
            bridges,
            topics,
            certificates: root.certificates(),
        }
    }
}

/// Where something listens, each with the key that says so.
fn listeners(admin: &AdminConfig, ingresses: &[IngressConfig]) -> Vec<(String, SocketAddr)> {
    let admin = admin.listen.tcp().map(|address| ("admin.listen".to_owned(), address));
    let ingresses = ingresses.iter().flat_map(|IngressConfig { name, settings }| {
        let addresses = settings.tcp().into_iter();
        addresses.map(move |address| (format!("{name}.listen"), address))
    });
    admin.into_iter().chain(ingresses).collect()
}

/// The rows that could be read, and their numbers in the file.
fn read_exposes(
    root: &mut Section<'_>,
    names: &[String],
    upstreams: &[UpstreamConfig],
) -> (Vec<usize>, Vec<ExposeConfig>) {
    let (mut numbers, mut exposes) = (Vec::new(), Vec::new());
    for (number, mut section) in root.sections("expose").into_iter().enumerate() {
        if let Some(row) = ExposeConfig::read(&mut section, names, upstreams, &exposes) {
            numbers.push(number);
            exposes.push(row);
        }
    }
    (numbers, exposes)
}

fn read_events(
    root: &mut Section<'_>,
    names: &[String],
    upstreams: &[UpstreamConfig],
    ingresses: &[IngressConfig],
) -> (Vec<Bridge>, Vec<Topic>) {
    let named = names.iter().map(|name| (name.as_str(), None));
    let read = upstreams.iter().map(|one| (one.name.as_str(), one.connector.events()));
    let resident = ingresses.iter().find_map(|ingress| ingress.settings.upstream());
    let resident = resident.iter().map(|resident| (resident.name, resident.events));
    let places = bridge::EventPlaces::new(named.chain(read).chain(resident), upstreams);
    let bridges = root.sections("bridges").into_iter();
    let bridges: Vec<_> =
        bridges.filter_map(|mut section| bridge::read_bridge(&mut section, &places)).collect();
    let mut topics = twice::TopicRows::default();
    for mut section in root.sections("topics") {
        if let Some(row) = bridge::read_topic(&mut section, &places) {
            topics.add(&section, row);
        }
    }
    let topics = topics.into_rows();
    twice::check(root, &bridges, &topics);
    bridge::lead_round(root, &bridges, &topics, &places);
    (bridges, topics)
}

impl Config {
    /// Who answers calls of that name in the place of the routing table; `None` where that decides.
    pub fn answers_itself(&self, name: &str) -> Option<&'static str> {
        let is_own = |ingress: &&IngressConfig| ingress.settings.own_methods().contains(&name);
        let ingress = self.ingresses.iter().find(is_own)?;
        let row = self.routes.iter().find(|rule| rule.matches(name));
        let is_taken = row.is_some_and(|rule| rule.pattern.is_literal());
        (!is_taken).then_some(ingress.name)
    }

    /// Whether a call is about topics: then no row is asked, but for one that names it to the letter.
    pub fn is_about_topics(&self, name: &str) -> bool {
        let is_its = |ingress: &IngressConfig| ingress.settings.topic_methods().contains(&name);
        let row = self.routes.iter().find(|rule| rule.matches(name));
        let is_taken = row.is_some_and(|rule| rule.pattern.is_literal());
        !is_taken && self.ingresses.iter().any(is_its)
    }

    /// What the addresses of events are at an upstream; `None` where it has none.
    pub fn event_addresses(&self, upstream: &str) -> Option<EventAddresses> {
        let resident = self.resident().filter(|resident| resident.name == upstream);
        let mut upstreams = self.upstreams.iter();
        let named = upstreams.find(|one| one.name == upstream).map(|one| one.connector.events());
        named.unwrap_or_else(|| resident.and_then(|resident| resident.events))
    }

    /// Whether two upstreams are one server, by whatever names it is called: what happens at one happens at the other.
    pub fn are_one(&self, one: &str, other: &str) -> bool {
        bridge::are_one(&self.upstreams, one, other)
    }

    /// The upstream that is always there.
    pub fn resident(&self) -> Option<Resident> {
        self.ingresses.iter().find_map(|ingress| ingress.settings.upstream())
    }
}

/// Half of the cores: one thread carries tens of thousands of calls a second, threads that wake
/// each other cost more than they carry, and the brokers' libraries have threads of their own.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

fn unreadable(origin: &Origin, error: &std::io::Error) -> Problem {
    let place = problem::Place::File(origin.name());
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file: name another one with --config, or leave it out to start on \
             the embedded default"
                .to_owned()
        }
        _ => format!("cannot be read: {}", file::complaint(error)),
    };
    Problem { severity: Severity::Error, place, message }
}
