//! `allow`: who may, in the rows that say so; and what is odd about it when all tables are seen
//! together.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use super::globs;
use super::ingress::IngressConfig;
use super::problem::did_you_mean;
use super::route::UpstreamConfig;
use super::secret::quoted;
use super::section::Section;
use super::validate::Rows;
use crate::auth::settings::AuthConfig;
use crate::route::access::{Access, Grant};
use crate::route::bridge::Topic;
use crate::route::pattern::Pattern;

/// How many words of one `allow` that fit nobody are told one by one.
const MOST_TOLD: usize = 5;
/// For how many names in all is looked which other one they may have been meant by: that takes a look at each.
const MOST_HINTS: usize = 100;

/// The names of the keys in order, so that looking for one costs hardly more where they are many.
pub(super) struct KeyNames<'a> {
    names: BTreeSet<&'a str>,
    hints: Cell<usize>,
}

impl<'a> KeyNames<'a> {
    /// Those of the keys that could be read, and those of the others.
    pub(super) fn of(auth: &'a AuthConfig) -> Self {
        let unread = auth.unread.iter().map(String::as_str);
        let names = auth.keys.iter().map(|key| key.name.as_str()).chain(unread).collect();
        Self { names, hints: Cell::new(0) }
    }

    fn have(&self, pattern: &Pattern) -> bool {
        let Some((beginning, _)) = pattern.ends() else {
            return self.names.contains(pattern.as_str());
        };
        let mut alike = self.names.range(beginning..).take_while(|it| it.starts_with(beginning));
        alike.any(|name| pattern.matches(name))
    }

    fn hint(&self, pattern: &Pattern) -> String {
        self.hints.set(self.hints.get() + 1);
        match self.hints.get() <= MOST_HINTS {
            true => did_you_mean(pattern.as_str(), self.names.iter().copied()),
            false => String::new(),
        }
    }
}

/// By what callers are known.
pub(super) struct Sources<'a> {
    pub(super) auth: &'a AuthConfig,
    /// The names of its keys.
    pub(super) keys: KeyNames<'a>,
    /// Clients' certificates among it.
    pub(super) certificates: bool,
    /// There is something.
    pub(super) guarded: bool,
    /// The names of the upstreams.
    pub(super) upstreams: &'a [String],
    /// Those that could be read.
    pub(super) connectors: &'a [UpstreamConfig],
    /// The ways in.
    pub(super) ingresses: &'a [IngressConfig],
}

impl Sources<'_> {
    /// Whether an upstream vouches for its callers, as far as is known.
    fn vouches(&self, upstream: &str) -> bool {
        let mut connectors = self.connectors.iter().filter(|known| known.name == upstream);
        connectors.next().is_none_or(|known| known.connector.vouches_for_callers())
    }
}

/// Reads `allow`.
pub(super) fn read(section: &mut Section<'_>) -> Access {
    read_key(section, "allow")
}

/// The same, by another key.
pub(super) fn read_key(section: &mut Section<'_>, key: &'static str) -> Access {
    let is_there = section.has(key);
    let words = section.texts(key);
    let (mut grants, mut wrong) = (Vec::with_capacity(words.len()), 0);
    let complain = |what: String| {
        section.problem(key, format!("`{key}` in {}: {what}", section.title()));
    };
    globs::warn_of_foreign(section, key, words.iter().map(String::as_str));
    for word in &words {
        match Grant::parse(word) {
            Ok(grant) => grants.push(grant),
            Err(mend) => {
                wrong += 1;
                if wrong <= MOST_TOLD {
                    complain(format!("{} names no callers: {mend}", quoted(word)));
                }
            }
        }
    }
    if wrong > MOST_TOLD {
        complain(format!("{} more of its words name no callers", wrong - MOST_TOLD));
    }
    if is_there { Access::Only(grants) } else { Access::Open }
}

/// Tells of rows that nobody may use, and of those that the world may.
pub(super) fn check(root: &Section<'_>, (rows, topics): (&Rows, &[Topic]), sources: &Sources<'_>) {
    let open = sources.ingresses.iter().find_map(|ingress| {
        let (address, key) = ingress.settings.open_to()?;
        (!address.ip().is_loopback()).then(|| (address, format!("{}.{key}", ingress.name)))
    });
    let rules = rows.rules().iter().enumerate();
    let rules: Vec<_> = rules.filter_map(|(row, rule)| Some((row, rule.as_ref()?))).collect();
    for (row, rule) in &rules {
        check_row(root, ("routes", *row), &rule.access, sources, "call", open.as_ref());
    }
    for (row, topic) in topics.iter().enumerate() {
        check_row(root, ("topics", row), &topic.access, sources, "listen", open.as_ref());
    }
    check_keys(root, rows, sources);
    if let Some((address, key)) = open.filter(|_| !sources.guarded && !rules.is_empty()) {
        let message = format!(
            "whoever reaches {address} may call whatever a row matches: add [[auth.keys]] or \
             [auth.jwt], and `allow` to the rows; or listen on loopback, behind a proxy that knows \
             its callers"
        );
        root.warn(&key, message);
    }
}

/// Warns of keys that are for calls that nothing takes.
fn check_keys(root: &Section<'_>, rows: &Rows, sources: &Sources<'_>) {
    // A row that could not be read may be the one. Where there are none, as in the lines of `genkan key new`,
    // it is not the key that is odd.
    let is_known = root.is_of_a_whole() && rows.rules().iter().all(Option::is_some);
    if !is_known || rows.rules().is_empty() {
        return;
    }
    let rules = || rows.rules().iter().flatten();
    let own_methods = || sources.ingresses.iter().flat_map(|one| one.settings.own_methods());
    // Many keys are for the same calls.
    let mut known: HashMap<&str, bool> = HashMap::new();
    for (index, key) in sources.auth.keys.iter().enumerate() {
        let strays = key.routes.iter().flatten().filter(|route| {
            !*known.entry(route.as_str()).or_insert_with(|| {
                own_methods().any(|method| route.matches(method))
                    || rules().any(|rule| rule.pattern.meets(route))
            })
        });
        let strays: Vec<_> = strays.map(|route| quoted(route.as_str())).collect();
        let meet = match strays.as_slice() {
            [] => continue,
            [one] => format!("{one} meets"),
            several if several.len() <= MOST_TOLD => format!("{} meet", several.join(", ")),
            many => {
                let told = many[..MOST_TOLD].join(", ");
                format!("{told} and {} more meet", many.len() - MOST_TOLD)
            }
        };
        let message = format!(
            "`routes` in [[auth.keys]] #{}: {meet} no [[routes]] row, so that `{}` makes no such call: write what \
             a row takes, such as \"orders.*\", or add the row",
            index + 1,
            key.name
        );
        root.warn(&format!("auth.keys[{index}].routes"), message);
    }
}

/// The same for one row.
fn check_row(
    root: &Section<'_>,
    (array, row): (&str, usize),
    access: &Access,
    sources: &Sources<'_>,
    does: &str,
    open: Option<&(SocketAddr, String)>,
) {
    let (title, key) = (format!("[[{array}]] #{}", row + 1), format!("{array}[{row}].allow"));
    let grants = match access {
        Access::Open | Access::Closed if sources.guarded => {
            let message = format!(
                "{title} has no `allow`, so with [auth] nobody may {does}: name those who may, or \
                 write `allow = [\"any\"]`"
            );
            return root.warn(&format!("{array}[{row}]"), message);
        }
        Access::Open | Access::Closed => return,
        Access::Only(grants) => grants,
    };
    let (mut odd, mut wrong) = (0, 0);
    for grant in grants {
        match look_at(grant, sources, odd < MOST_TOLD) {
            // What makes it fit may stand in a part of the file that could not be read.
            Found::Odd(_) if !root.is_of_a_whole() => {}
            Found::Fine => {}
            Found::Odd(what) => {
                odd += 1;
                if odd <= MOST_TOLD {
                    root.warn(&key, format!("`allow` in {title}: {what}"));
                }
            }
            Found::Wrong(what) => {
                wrong += 1;
                if wrong <= MOST_TOLD {
                    root.problem(&key, format!("`allow` in {title}: {what}"));
                }
            }
        }
    }
    if odd > MOST_TOLD {
        let more = odd - MOST_TOLD;
        root.warn(&key, format!("`allow` in {title}: {more} more of its words fit nobody"));
    }
    if wrong > MOST_TOLD {
        let more = wrong - MOST_TOLD;
        root.problem(
            &key,
            format!("`allow` in {title}: {more} more of its words name no upstream"),
        );
    }
    if let Some((address, _)) = open
        && access.is_for_all()
    {
        let message = format!(
            "`allow` in {title} has \"any\": whoever reaches {address} may {does}, known or not"
        );
        root.warn(&key, message);
    }
}

/// What is to be said of a word.
enum Found {
    Fine,
    Odd(String),
    Wrong(String),
}

fn look_at(grant: &Grant, sources: &Sources<'_>, is_told: bool) -> Found {
    match grant {
        Grant::Key(name) => {
            if sources.keys.have(name) {
                return Found::Fine;
            }
            let hint = if is_told { sources.keys.hint(name) } else { String::new() };
            Found::Odd(format!("no [[auth.keys]] is called `{}`{hint}", name.as_str()))
        }
        Grant::Upstream(name, user) => {
            if sources.upstreams.iter().any(|known| known == name) {
                return look_at_user(name, user, sources);
            }
            let names = sources.upstreams.iter().map(String::as_str).chain(Grant::KINDS);
            let hint = did_you_mean(name, names);
            Found::Wrong(format!("there is no upstream {}{hint}", quoted(name).replace('"', "`")))
        }
        Grant::Certificate(_) if !sources.certificates => Found::Odd(
            "nobody is asked for a certificate: name `client_ca_file` in [http.tls]".to_owned(),
        ),
        Grant::Scope(_) | Grant::Claim(..) if sources.auth.jwt.is_none() => Found::Odd(format!(
            "`{grant}` fits nobody: scopes and claims are those of tokens, and there is no [auth.jwt]: \
             add it"
        )),
        Grant::Claim(name, _) => {
            let claims = || sources.auth.jwt.iter().flat_map(|jwt| jwt.claims.iter());
            if claims().any(|known| known == name) {
                return Found::Fine;
            }
            let hint = did_you_mean(name, claims().map(String::as_str));
            Found::Odd(format!(
                "`{grant}` fits nobody: `claims` in [auth.jwt] does not name {}: add it there{hint}",
                quoted(name)
            ))
        }
        Grant::Subject(_) => {
            let mut upstreams = sources.upstreams.iter();
            let known = sources.auth.jwt.is_some()
                || sources.certificates
                || upstreams.any(|name| sources.vouches(name));
            if known {
                return Found::Fine;
            }
            Found::Odd(format!(
                "`{grant}` fits nobody: no token, no certificate and no upstream vouches for a subject: add \
                 [auth.jwt], `client_ca_file` in [http.tls] or `trust_context = true` to an upstream"
            ))
        }
        Grant::Module(_) | Grant::SystemUser(_) => {
            let mut told = sources.ingresses.iter();
            let why = told.find_map(|ingress| ingress.settings.fits_nobody(grant));
            why.map_or(Found::Fine, |why| Found::Odd(format!("`{grant}` fits nobody: {why}")))
        }
        Grant::Any | Grant::Certificate(_) | Grant::Scope(_) => Found::Fine,
    }
}

/// What is to be said of whom an upstream is to vouch for.
fn look_at_user(name: &str, user: &Pattern, sources: &Sources<'_>) -> Found {
    // Whoever is not vouched for has an empty subject.
    if user.matches("") || sources.vouches(name) {
        return Found::Fine;
    }
    Found::Odd(format!(
        "`{name}:{user}` fits nobody: what callers by way of `{name}` say of themselves is not believed: write \
         \"{name}:\" for all of them, or `trust_context = true` in [upstreams.{name}] if it has verified them"
    ))
}
