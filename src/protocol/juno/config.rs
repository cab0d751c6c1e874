//! `[hub]`: where it listens, its limits, and who may register as what.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::NAME;
use super::egress::explain;
use super::events::ADDRESSES;
use super::hub::{Limits, Settings};
use crate::config::audit::{Advice, Exposure};
use crate::config::ingress::{IngressSettings, Resident};
use crate::config::secret::FoundSecret;
use crate::config::section::Section;
use crate::config::socket::{Listen, SocketAccess};
use crate::route::access::Grant;
use crate::units::format_size;

/// What `max_argument` is at least: names and ids have their own limits, and errors repeat them.
const MIN_ARGUMENT: usize = 16 << 10;
/// What `max_line` is at least: a module's registration fits.
const LEAST_LINE: usize = 1 << 10;
/// How long the hub waits for a connection that gets nowhere, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// The settings of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubConfig {
    /// Where it listens; it may listen nowhere.
    pub(super) listen: Vec<Listen>,
    /// Who may connect to its Unix sockets.
    pub(super) access: SocketAccess,
    /// Whether a failed call of a module is answered with a result `{"error": …}`.
    pub(super) errors_as_data: bool,
    /// Whether a second module of an id joins the first.
    pub(super) share: bool,
    /// The longest line, in bytes.
    pub(super) max_line: usize,
    /// How much may wait to be sent to a module, in bytes.
    pub(super) max_queue: usize,
    /// The most connections; a further one waits to be accepted.
    pub(super) max_connections: usize,
    pub(super) max_modules: usize,
    pub(super) max_functions: usize,
    pub(super) max_hooks: usize,
    pub(super) max_calls: usize,
    /// The longest line that a module is sent, in bytes.
    pub(super) max_argument: usize,
    /// How many calls may wait for the hub's modules, whoever made them.
    pub(super) max_in_flight: usize,
    /// How long a call may take that no `[[routes]]` row sends to the hub.
    pub(super) timeout: Duration,
    /// How long a connection may be without a module.
    pub(super) register_timeout: Duration,
    /// How long the rest of a line may take to come, and how long a module for which much waits
    /// may take nothing of it.
    pub(super) stall_timeout: Duration,
    /// What a module must show to register under an id.
    pub(super) tokens: HashMap<String, FoundSecret>,
}

/// Reads `[hub]`, for the list of protocols.
pub(super) fn read(section: &mut Section<'_>, timeout: Duration) -> Arc<dyn IngressSettings> {
    Arc::new(HubConfig::read(section, timeout))
}

impl IngressSettings for HubConfig {
    fn tcp(&self) -> Vec<SocketAddr> {
        let addresses = self.listen.iter().filter_map(|place| match place {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        });
        addresses.collect()
    }

    fn largest_message(&self) -> (usize, &'static str) {
        (self.max_line, "max_line")
    }

    fn fits_nobody(&self, grant: &Grant) -> Option<String> {
        let is_unix = |place: &Listen| matches!(place, Listen::Unix(_));
        match grant {
            Grant::Module(id) if !self.tokens.keys().any(|known| id.matches(known)) => {
                Some(format!(
                    "a module is known by its token, and [hub.tokens] has none for `{id}`: add one"
                ))
            }
            Grant::SystemUser(_) if !self.listen.iter().any(is_unix) => Some(
                "users of the system are known by a Unix socket, and the hub has none: add \
                 \"unix:///run/genkan/hub.sock\" to `listen` in [hub]"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn advise(&self, _exposure: &Exposure) -> Vec<Advice> {
        let mut advice = Vec::new();
        let open = self.tcp().into_iter().find(|address| !address.ip().is_loopback());
        if let Some(address) = open {
            let what = if self.tokens.is_empty() {
                "may register as any module, take its calls and make calls of its own: add [hub.tokens], or \
                 listen on loopback or a Unix socket"
            } else {
                "and sits on the way reads the tokens and all calls, for there is no TLS: listen on a Unix \
                 socket, or keep that network to yourself"
            };
            advice.push(Advice::new(
                "listen",
                format!("`listen` in [hub]: who reaches {address} {what}"),
            ));
        }
        if let Some(mode) = self.access.mode.filter(|mode| mode & 0o006 != 0) {
            let what = format!(
                "`mode` in [hub]: with {mode:04o} every user of the system may connect to the socket: write \
                 \"0660\", and a `group`"
            );
            advice.push(Advice::new("mode", what));
        }
        advice
    }

    fn upstream(&self) -> Option<Resident> {
        let (max_in_flight, timeout) = (self.max_in_flight, self.timeout);
        Some(Resident {
            name: NAME,
            protocol: "juno",
            max_in_flight,
            timeout,
            explain,
            events: Some(ADDRESSES),
        })
    }
}

impl HubConfig {
    /// Reads `[hub]`. `timeout` is what calls get where nothing else is said.
    fn read(section: &mut Section<'_>, timeout: Duration) -> Self {
        let styles = [("frames", false), ("data", true)];
        let instances = [("refuse", false), ("share", true)];
        let config = Self {
            listen: listen(section),
            access: SocketAccess::read(section),
            errors_as_data: section.choice("errors", &styles, false),
            share: section.choice("instances", &instances, false),
            max_line: section.size_from("max_line", 1 << 20, LEAST_LINE),
            max_queue: section.size("max_queue", 8 << 20),
            max_connections: section.count("max_connections", 16_384, 1, 1_000_000),
            max_modules: section.count("max_modules", 10_000, 1, 1_000_000),
            max_functions: section.count("max_functions", 1_000, 1, 1_000_000),
            max_hooks: section.count("max_hooks", 1_000, 1, 1_000_000),
            max_calls: section.count("max_calls", 4_096, 1, 1_000_000),
            max_argument: section.size("max_argument", usize::MAX),
            max_in_flight: section.count("max_in_flight", 65_536, 1, 10_000_000),
            timeout: section.duration("timeout", timeout),
            register_timeout: section.duration("register_timeout", PATIENCE),
            stall_timeout: section.duration("stall_timeout", PATIENCE),
            tokens: section.section("tokens").secrets_by_name().into_iter().collect(),
        };
        if config.max_queue < config.max_line {
            section.problem(
                "max_queue",
                "`max_queue` in [hub] must hold at least one line: make it as large as `max_line`",
            );
        }
        if config.max_argument < MIN_ARGUMENT {
            let least = format_size(MIN_ARGUMENT);
            let message = format!(
                "`max_argument` in [hub] must be at least {least}: answers of the hub itself are \
                 as long"
            );
            section.problem("max_argument", message);
        }
        for (id, token) in &config.tokens {
            if token.secret.expose().is_empty() {
                section.problem("tokens", format!("the token of `{id}` in [hub.tokens] is empty"));
            }
        }
        config.access.check(section, &config.listen);
        config
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            limits: Limits {
                modules: self.max_modules,
                functions: self.max_functions,
                hooks: self.max_hooks,
                calls: self.max_calls,
                argument: self.max_argument,
            },
            share: self.share,
            errors_as_data: self.errors_as_data,
            tokens: self
                .tokens
                .iter()
                .map(|(id, token)| (id.clone(), token.secret.clone()))
                .collect(),
        }
    }
}

fn listen(section: &mut Section<'_>) -> Vec<Listen> {
    if !section.has("listen") {
        return vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 2203)))];
    }
    let mut places: Vec<Listen> = Vec::new();
    for text in section.texts("listen") {
        match Listen::parse(&text) {
            Ok(place) if places.contains(&place) && !is_any_port(&place) => {
                section.problem("listen", format!("`listen` in [hub]: `{text}` is there twice"));
            }
            Ok(place) => places.push(place),
            Err(what) => section.problem("listen", format!("`listen` in [hub]: {what}")),
        }
    }
    places
}

fn is_any_port(place: &Listen) -> bool {
    matches!(place, Listen::Tcp(address) if address.port() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Problem;
    use crate::config::read_for_test;

    fn read(text: &str) -> (HubConfig, Vec<Problem>) {
        read_for_test(text, |root| {
            HubConfig::read(&mut root.section("hub"), Duration::from_secs(30))
        })
    }

    #[test]
    fn the_default_listens_on_loopback() {
        let (config, problems) = read("");
        assert_eq!(config.listen, [Listen::Tcp(([127, 0, 0, 1], 2203).into())]);
        assert!(!config.errors_as_data && !config.share && config.tokens.is_empty());
        assert_eq!((config.max_line, config.timeout), (1 << 20, Duration::from_secs(30)));
        assert_eq!(problems, []);
    }

    #[test]
    fn everything_can_be_set() {
        let (config, problems) = read(
            "[hub]\nlisten = [\"unix:///hub.sock\", \"tcp://[::1]:7\"]\nmode = \"0660\"\n\
             owner = \"root\"\ngroup = \"0\"\nerrors = \"data\"\ninstances = \"share\"\n\
             timeout = \"2s\"\n[hub.tokens]\nBilling = \"s3cret\"\n\"a.b\" = \"x\"\n",
        );
        assert_eq!(problems, []);
        let unix = Listen::Unix("/hub.sock".into());
        assert_eq!(config.listen, [unix, Listen::Tcp("[::1]:7".parse().expect("valid"))]);
        assert_eq!(config.access.mode, Some(0o660));
        assert!(config.errors_as_data && config.share);
        assert_eq!(config.tokens.get("Billing").map(|found| found.secret.expose()), Some("s3cret"));
        assert_eq!(config.tokens.get("a.b").map(|found| found.secret.expose()), Some("x"));
        assert_eq!(read("hub.listen = []\n").0.listen, []);
    }

    #[test]
    fn mistakes_are_named_with_their_mend() {
        let long = format!("[hub]\nlisten = \"unix:///{}\"", "s".repeat(107));
        let cases = [
            ("[hub]\nlisten = [\"tpc://127.0.0.1:1\"]", "did you mean `tcp`?"),
            ("[hub]\nlisten = \"tcp://localhost:2203\"", "an address and a port"),
            ("[hub]\nlisten = [\"unix:///a\", \"unix:///a\"]", "twice"),
            ("[hub]\nlisten = \"unix://run/a\"", "relative"),
            ("[hub]\nmax_line = \"1B\"", "at least 1KiB"),
            ("[hub]\nlisten = \"unix:///no/such/a\"", "no folder /no/such for"),
            ("[hub]\nlisten = \"unix:///a\"\nowner = \"nosuch\"", "no `nosuch` in /etc/passwd"),
            ("[hub]\nlisten = \"unix:///a\"\ngroup = \"nosuch\"", "no `nosuch` in /etc/group"),
            (long.as_str(), "has 108 bytes, and the system allows 107"),
            ("[hub]\nmode = \"0888\"", "octal, such as \"0660\""),
            ("[hub]\nmax_queue = \"1KiB\"", "at least one line"),
            ("[hub]\nmax_argument = \"1KiB\"", "at least 16KiB"),
            ("[hub]\nerror = \"data\"", "did you mean `errors`?"),
            ("[hub.tokens]\nbilling = 5", "must be a string in quotes"),
            ("[hub.tokens]\nbilling = \"\"", "is empty"),
            ("[hub.tokens]\nbilling = {}", "needs `file`"),
            ("[hub.tokens]\nbilling = { file = \"/no/such/file\" }", "cannot read /no/such/file"),
        ];
        for (text, part) in cases {
            let (_, problems) = read(text);
            assert!(
                problems.iter().any(|problem| problem.message.contains(part)),
                "{text}: {problems:?}"
            );
        }
    }
}
