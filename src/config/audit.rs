//! `genkan check --audit`: what is no mistake, and what an operator whom all the world can reach should
//! mend all the same.
//!
//! What the keys of a protocol's table mean, its own settings know, and say in [`Advice`]. Here is what the
//! tables say that are nobody's, or that only all of them together tell.

use std::net::SocketAddr;
use std::time::Duration;

use super::problem::{Place, Problem, Severity};
use super::source::Source;
use super::{Config, IngressConfig};
use crate::route::Rule;
use crate::route::access::{Access, Grant};
use crate::route::bridge::Topic;
use crate::route::rate::Limits;
use crate::units::format_duration;

/// How many rows a message names.
const NAMED: usize = 3;
/// How far clocks are apart at most that somebody looks after.
const MOST_SKEW: Duration = Duration::from_secs(300);

/// Something to mend in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The key, below the table: `tls.cert_file`.
    pub key: &'static str,
    /// What can happen, and the mend.
    pub what: String,
}

impl Advice {
    /// An advice about a key of a table.
    pub fn new(key: &'static str, what: impl Into<String>) -> Self {
        Self { key, what: what.into() }
    }
}

/// Who can reach what, for whoever gives advice.
#[derive(Clone, Copy, Debug)]
pub struct Exposure {
    /// Where whoever reaches it may call, if that is not loopback.
    pub open_to: Option<SocketAddr>,
    /// Whether all of them may use Genkan's own methods.
    pub own_methods: bool,
}

/// All advice, each with its place.
pub(super) fn audit(config: &Config, source: &Source) -> Vec<Problem> {
    let open = config.ingresses.iter().find_map(open_to);
    let open_to = open.as_ref().map(|(address, _)| *address);
    let exposure = Exposure { open_to, own_methods: config.auth.own_methods.is_for_all() };
    let mut audit = Audit { source, told: Vec::new() };
    if let Some((address, key)) = open {
        audit.open_rows(config, address, &key);
    }
    audit.limits(config);
    audit.callers(config);
    for IngressConfig { name, settings } in &config.ingresses {
        for Advice { key, what } in settings.advise(&exposure) {
            audit.tell(&format!("{name}.{key}"), what);
        }
    }
    audit.forwarded(config);
    for upstream in &config.upstreams {
        for Advice { key, what } in upstream.connector.advise() {
            let table = format!("upstreams.{}", upstream.name);
            audit.tell(&format!("{table}.{key}"), format!("`{key}` in [{table}]: {what}"));
        }
    }
    for Advice { key, what } in config.admin.advise() {
        audit.tell(&format!("admin.{key}"), what);
    }
    audit.secrets();
    audit.told
}

/// Where an ingress is reached that asks nobody who he is, and the key that says so.
fn open_to(ingress: &IngressConfig) -> Option<(SocketAddr, String)> {
    let (address, key) = ingress.settings.open_to()?;
    (!address.ip().is_loopback()).then(|| (address, format!("{}.{key}", ingress.name)))
}

struct Audit<'a> {
    source: &'a Source,
    told: Vec<Problem>,
}

impl Audit<'_> {
    fn tell(&mut self, path: &str, message: String) {
        let place = self.source.place(path);
        self.told.push(Problem { severity: Severity::Advice, place, message });
    }

    /// Where callers are known, `check` warns of each row that lets all of them.
    fn open_rows(&mut self, config: &Config, address: SocketAddr, key: &str) {
        if config.guarded {
            return;
        }
        let mend = "add [[auth.keys]] or [auth.jwt], and say who may in `allow`";
        for (row, rule) in config.routes.iter().enumerate() {
            let title = format!("[[routes]] #{} \"{}\"", row + 1, rule.pattern);
            let message = format!("{title}: whoever reaches {address} may call that: {mend}");
            self.tell(&format!("routes[{row}]"), message);
        }
        for (row, Topic { pattern, .. }) in config.topics.iter().enumerate() {
            let title = format!("[[topics]] #{} \"{pattern}\"", row + 1);
            let message = format!("{title}: whoever reaches {address} may listen to that: {mend}");
            self.tell(&format!("topics[{row}]"), message);
        }
        if let Some(resident) = config.resident() {
            let message = format!(
                "whoever reaches {address} may call all that `{}` has and no row takes: {mend}",
                resident.name
            );
            self.tell(key, message);
        }
    }

    /// Callers' credentials that go on, and can be read on the way.
    fn forwarded(&mut self, config: &Config) {
        let places = config.upstreams.iter().filter_map(|it| it.connector.read_on_the_way());
        let mut places: Vec<_> = places.collect();
        if places.is_empty() {
            return;
        }
        let more = places.len().saturating_sub(NAMED);
        places.truncate(NAMED);
        let mut places = places.join(", ");
        if more > 0 {
            places.push_str(&format!(" and {more} more"));
        }
        let ingresses = config.ingresses.iter();
        let ingresses =
            ingresses.filter(|it| it.settings.forwards_credentials()).map(|it| it.name.to_owned());
        let upstreams = config.upstreams.iter().filter(|it| it.connector.forwards_credentials());
        let upstreams = upstreams.map(|it| format!("upstreams.{}", it.name));
        for table in ingresses.chain(upstreams) {
            let message = format!(
                "`forward_authorization` in [{table}]: callers' keys and tokens go on to {places} without TLS: they \
                 can be read on the way: speak TLS there, or leave it out"
            );
            self.tell(&format!("{table}.forward_authorization"), message);
        }
    }

    fn limits(&mut self, config: &Config) {
        if config.limits != Limits::default() {
            return;
        }
        let free = config.routes.iter().enumerate();
        let is_free =
            |rule: &Rule| rule.limits == Limits::default() && !is_for_limited_keys(rule, config);
        let free: Vec<_> = free.filter(|(_, rule)| is_free(rule)).collect();
        let names = free.iter().take(NAMED).map(|(_, rule)| format!("`{}`", rule.pattern));
        let mut names = names.collect::<Vec<_>>().join(", ");
        match free.len() {
            0 if config.routes.is_empty() => names.push_str("anything"),
            0 => return,
            all if all > NAMED => names.push_str(&format!(" and {} more rows", all - NAMED)),
            _ => {}
        }
        let message = format!(
            "nothing says how often one caller may call {names}, nor how many calls may be under way at \
             once: add `rate = \"100/s\"` and `max_in_flight = 100`, in measures that fit, to the rows or \
             to [limits]"
        );
        let path = free.first().map_or("limits".to_owned(), |(row, _)| format!("routes[{row}]"));
        self.tell(&path, message);
    }

    fn callers(&mut self, config: &Config) {
        for (index, key) in config.auth.keys.iter().enumerate() {
            if key.expires.is_none() {
                let message = format!(
                    "[[auth.keys]] #{} `{}` has no end: whoever finds it can call for ever: add \
                     `expires = 2027-12-31`, and a new key before that",
                    index + 1,
                    key.name
                );
                self.tell(&format!("auth.keys[{index}]"), message);
            }
        }
        let Some(jwt) = &config.auth.jwt else { return };
        let unchecked = [
            ("issuer", jwt.issuers.is_empty(), "tokens of any issuer that shares the keys"),
            ("audience", jwt.audiences.is_empty(), "tokens that were issued for others"),
        ];
        if jwt.clock_skew > MOST_SKEW {
            let message = format!(
                "`clock_skew` in [auth.jwt]: a token is taken for {} after its end: keep clocks by NTP, and \
                 leave a minute",
                format_duration(jwt.clock_skew)
            );
            self.tell("auth.jwt.clock_skew", message);
        }
        for (key, _, whose) in unchecked.into_iter().filter(|(_, is_unchecked, _)| *is_unchecked) {
            // Cognito's access tokens say so by `client_id`.
            let instead = match key {
                "audience" => {
                    "; where its tokens have no `aud`, name another claim of theirs in `claims`, and ask for it in \
                     each `allow`, as in \"claim:client_id=ID\""
                }
                _ => "",
            };
            let message =
                format!("[auth.jwt] has no `{key}`: {whose} are taken too: add it{instead}");
            self.tell(&format!("auth.jwt.{key}"), message);
        }
    }

    fn secrets(&mut self) {
        for (path, mend) in self.source.plain_secrets() {
            // In the environment it is where it may be.
            if let Place::Line(..) = self.source.place(&path) {
                let message = format!(
                    "`{path}` is a secret, and stands in the file: whoever can read the file, or a copy of \
                     it, has it: {mend}"
                );
                self.tell(&path, message);
            }
        }
    }
}

/// Whether all who may make a row's calls have keys that are held to limits.
fn is_for_limited_keys(rule: &Rule, config: &Config) -> bool {
    let Access::Only(grants) = &rule.access else { return false };
    let keys = || config.auth.keys.iter();
    let is_limited = |grant: &Grant| match grant {
        Grant::Key(name) => keys()
            .filter(|key| name.matches(&key.name))
            .all(|key| key.limits.rate.is_some() && key.limits.max_in_flight.is_some()),
        _ => false,
    };
    grants.iter().all(is_limited)
}
