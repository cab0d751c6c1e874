//! `[registry]`: who may announce himself, and whom Genkan tells of the services behind it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::upstream::place::{Place, Target};
use super::methods::Method;
use crate::call::is_plain_name;
use crate::config::audit::{Advice, Exposure};
use crate::config::ingress::IngressSettings;
use crate::config::secret::{quoted, url_without_credentials};
use crate::config::section::Section;
use crate::route::pattern::Pattern;
use crate::tls::ClientFiles;

/// Gemstone's services announce themselves every 30 seconds: one announcement that is lost, or two,
/// costs nothing.
const TTL: Duration = Duration::from_secs(90);
/// How many services may announce themselves.
const MOST: usize = 10_000;
/// What is read of a ping by the registry: it is a small call like any.
const LARGEST: usize = 4 << 10;

/// The settings of the registry.
#[derive(Clone)]
pub(super) struct RegistryConfig {
    /// The names that may be announced.
    pub(super) allow: Vec<Pattern>,
    /// How long an announcement holds.
    pub(super) ttl: Duration,
    /// The most entries.
    pub(super) max_services: usize,
    /// Where what is known is kept for the next start.
    pub(super) state_dir: Option<PathBuf>,
    /// The registries that are told.
    pub(super) announce: Vec<Arc<Place>>,
    /// What they are told of: a service's name, and its URL here.
    pub(super) told: Vec<(String, String)>,
    /// For `https://`.
    pub(super) certificates: Arc<ClientFiles>,
}

impl IngressSettings for RegistryConfig {
    /// What it is asked comes in by HTTP's listener.
    fn tcp(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    fn own_methods(&self) -> &'static [&'static str] {
        &Method::NAMES
    }

    fn lets_announce(&self, names: &Pattern) -> bool {
        self.allow.iter().any(|allowed| allowed.meets(names))
    }

    fn advise(&self, exposure: &Exposure) -> Vec<Advice> {
        let open_to = exposure.open_to.filter(|_| exposure.own_methods && !self.allow.is_empty());
        let advice = open_to.map(|address| {
            let what = format!(
                "`allow` in [registry]: whoever reaches {address} may announce services of these names, and \
                 gets their calls: say who may in `own_methods` of [auth]"
            );
            Advice::new("allow", what)
        });
        advice.into_iter().collect()
    }

    fn largest_message(&self) -> (usize, &'static str) {
        (LARGEST, "ping")
    }
}

/// Reads `[registry]`, for the list of protocols.
pub(in crate::protocol::jsonrpc) fn read(
    section: &mut Section<'_>,
    _timeout: Duration,
) -> Arc<dyn IngressSettings> {
    Arc::new(RegistryConfig::read(section))
}

impl RegistryConfig {
    /// What holds before anything is configured: nobody may announce himself.
    pub(super) fn nobody() -> Self {
        Self {
            allow: Vec::new(),
            ttl: TTL,
            max_services: MOST,
            state_dir: None,
            announce: Vec::new(),
            told: Vec::new(),
            certificates: Arc::default(),
        }
    }

    fn read(section: &mut Section<'_>) -> Self {
        let allow = section.texts("allow");
        if allow.iter().any(String::is_empty) {
            section.problem(
                "allow",
                "`allow` in [registry] has an empty pattern: write a glob over names, such as \
                 \"reports.*\"",
            );
        }
        let announce = read_announce(section);
        let told = read_told(section, !announce.is_empty());
        Self {
            allow: allow.iter().map(|text| Pattern::new(text)).collect(),
            ttl: section.duration("ttl", TTL),
            max_services: section.count("max_services", MOST, 1, 100_000),
            state_dir: read_state_dir(section),
            announce,
            told,
            certificates: Arc::new(ClientFiles::read(section)),
        }
    }
}

fn read_state_dir(section: &mut Section<'_>) -> Option<PathBuf> {
    let folder = section.path("state_dir")?;
    if !folder.is_dir() {
        let shown = folder.display();
        let message = format!(
            "`state_dir` in [registry]: there is no folder {shown}: make it, and let Genkan's user \
             write there"
        );
        section.warn("state_dir", message);
    }
    Some(folder)
}

fn read_announce(section: &mut Section<'_>) -> Vec<Arc<Place>> {
    let mut places: Vec<Arc<Place>> = Vec::new();
    for text in section.texts("announce") {
        let fail = |what: &str| {
            let shown = url_without_credentials(&text);
            section.problem("announce", format!("`announce` in [registry]: {shown} {what}"));
        };
        // As for `genkan call --registry`: a registry is asked at /api unless its URL says otherwise.
        let parsed = Place::parse(&text).and_then(|place| {
            let (_, rest) = text.split_once("://").unwrap_or_default();
            let names_none = place.is_tcp() && rest.trim_end_matches('/').find('/').is_none();
            match names_none {
                true => Place::parse(&format!("{}/api", text.trim_end_matches('/'))),
                false => Ok(place),
            }
        });
        match parsed {
            Ok(place) if places.iter().any(|other| other.is_same(&place)) => {
                fail("stands there twice: keep one");
            }
            Ok(place) => places.push(Arc::new(place)),
            Err(what) => fail(&what),
        }
    }
    places
}

/// Reads `services` and `public_url`.
fn read_told(section: &mut Section<'_>, announces: bool) -> Vec<(String, String)> {
    let (services, public_url) = (section.texts("services"), section.text("public_url"));
    for name in services.iter().filter(|name| !is_plain_name(name)) {
        let message = format!(
            "`services` in [registry]: {} is no service's name: words of ASCII letters, digits, `_` and \
             `-`, with a dot between two",
            quoted(name)
        );
        section.problem("services", message);
    }
    match (announces, services.is_empty(), &public_url) {
        (true, true, _) => section.problem(
            "announce",
            "`announce` in [registry] has nothing to tell: add `services = [\"orders\"]`",
        ),
        (true, false, None) => section.problem(
            "announce",
            "`announce` in [registry] needs `public_url`, the URL at which others reach this \
             gateway: add `public_url = \"http://HOST:PORT\"`",
        ),
        (false, false, _) => section.warn(
            "services",
            "`services` in [registry] are announced to nobody: add `announce = [\"URL\"]`",
        ),
        _ => {}
    }
    let Some(base) = public_url else { return Vec::new() };
    let base = base.trim_end_matches('/');
    let complaint = match Place::parse(base) {
        Ok(place) if place.login.is_some() => {
            Some("holds credentials, which everybody would be told".to_owned())
        }
        Ok(place) if matches!(place.target, Target::Unix(_)) => {
            Some("must begin with http:// or https:// and name a host".to_owned())
        }
        Ok(_) if base.contains('?') => Some("has a query, which it cannot have".to_owned()),
        Ok(_) => None,
        Err(what) => Some(what),
    };
    if let Some(what) = complaint {
        let shown = url_without_credentials(base);
        section.problem("public_url", format!("`public_url` in [registry]: {shown} {what}"));
    }
    let base = base.strip_suffix("/api").unwrap_or(base).to_owned();
    let told = services.into_iter().map(|name| {
        let url = format!("{base}/api/{name}");
        (name, url)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_for_test;

    fn read(keys: &str) -> (RegistryConfig, Vec<String>) {
        let (config, problems) = read_for_test(&format!("[registry]\n{keys}"), |root| {
            RegistryConfig::read(&mut root.section("registry"))
        });
        (config, problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn by_default_nobody_may_announce_himself() {
        let (config, problems) = read("");
        assert!(config.allow.is_empty() && config.announce.is_empty() && problems.is_empty());
        assert_eq!((config.ttl, config.max_services), (TTL, 10_000));
    }

    #[test]
    fn what_others_are_told() {
        for base in ["http://gate:8080", "http://gate:8080/", "http://gate:8080/api"] {
            let (config, problems) = read(&format!(
                "announce = [\"http://u:geheim@other:8000/api\"]\nservices = [\"orders\", \
                 \"a.b\"]\npublic_url = \"{base}\""
            ));
            assert_eq!(problems, [""; 0]);
            let told = |name: &str| (name.to_owned(), format!("http://gate:8080/api/{name}"));
            assert_eq!(config.told, [told("orders"), told("a.b")]);
        }
    }

    #[test]
    fn a_registry_is_asked_at_api_where_its_url_has_no_path() {
        for (url, at) in [
            ("http://h:8000", "http://h:8000/api"),
            ("http://h/", "http://h/api"),
            ("http://h/x", "http://h/x"),
            ("unix:/run/x.sock", "unix:///run/x.sock:/"),
        ] {
            let rest = "services = [\"a\"]\npublic_url = \"http://g\"";
            let (config, problems) = read(&format!("announce = [\"{url}\"]\n{rest}"));
            assert_eq!(problems, [""; 0]);
            assert_eq!(config.announce[0].to_string(), at);
        }
    }

    #[test]
    fn mistakes_are_named_with_their_mend() {
        let told = "announce = [\"http://h/api\"]\nservices = [\"orders\"]\npublic_url = ";
        for (keys, words) in [
            ("allow = [\"\"]", "empty pattern"),
            ("announce = [\"ftp://u:geheim@h\"]", "ftp://h must be a URL"),
            ("announce = [\"http://h/\", \"http://h/\"]\nservices = [\"a\"]", "twice"),
            ("announce = [\"http://h/\"]", "nothing to tell"),
            ("announce = [\"http://h/\"]\nservices = [\"a\"]", "needs `public_url`"),
            ("services = [\"a\"]", "announced to nobody"),
            (&format!("{told}\"http://u:geheim@h\""), "holds credentials"),
            (&format!("{told}\"unix:///x.sock\""), "must begin with http://"),
            (&format!("{told}\"http://h?x\""), "has a query"),
            (
                "announce = [\"http://h/\"]\nservices = [\"a b\"]\npublic_url = \"http://h\"",
                "no service's",
            ),
            ("state_dir = \"/no/such\"", "no folder /no/such"),
            ("ttl = \"0s\"", "must be a duration"),
        ] {
            let (_, problems) = read(keys);
            assert!(problems.iter().any(|it| it.contains(words)), "{keys}: {problems:?}");
            assert!(!problems.concat().contains("geheim"), "{problems:?}");
        }
    }
}
