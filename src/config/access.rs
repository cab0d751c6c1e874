//! `allow`: who may, in the rows that say so; and what is odd about it when all tables are seen
//! together.

use std::net::SocketAddr;

use super::ingress::IngressConfig;
use super::problem::did_you_mean;
use super::secret::quoted;
use super::section::Section;
use super::validate::Rows;
use crate::auth::settings::AuthConfig;
use crate::route::access::{Access, Grant};
use crate::route::bridge::Topic;

/// By what callers are known.
pub(super) struct Sources<'a> {
    pub(super) auth: &'a AuthConfig,
    /// Clients' certificates among it.
    pub(super) certificates: bool,
    /// There is something.
    pub(super) guarded: bool,
    /// The names of the upstreams.
    pub(super) upstreams: &'a [String],
}

/// Reads `allow`.
pub(super) fn read(section: &mut Section<'_>) -> Access {
    read_key(section, "allow")
}

/// The same, by another key.
pub(super) fn read_key(section: &mut Section<'_>, key: &'static str) -> Access {
    let is_there = section.has(key);
    let words = section.texts(key);
    let grants = words.iter().filter_map(|word| {
        let complain = |mend: String| {
            let title = section.title();
            let message = format!("`{key}` in {title}: {} names no callers: {mend}", quoted(word));
            section.problem(key, message);
        };
        Grant::parse(word).map_err(complain).ok()
    });
    let grants = grants.collect();
    if is_there { Access::Only(grants) } else { Access::Open }
}

/// Tells of rows that nobody may use, and of those that the world may.
pub(super) fn check(
    root: &Section<'_>,
    (rows, topics): (&Rows, &[Topic]),
    sources: &Sources<'_>,
    ingresses: &[IngressConfig],
) {
    let open = ingresses.iter().find_map(|ingress| {
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
    if let Some((address, key)) = open.filter(|_| !sources.guarded && !rules.is_empty()) {
        let message = format!(
            "whoever reaches {address} may call whatever a row matches: add [[auth.keys]] or \
             [auth.jwt], and `allow` to the rows; or listen on loopback, behind a proxy that knows \
             its callers"
        );
        root.warn(&key, message);
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
    for grant in grants {
        match look_at(grant, sources) {
            Found::Fine => {}
            Found::Odd(what) => root.warn(&key, format!("`allow` in {title}: {what}")),
            Found::Wrong(what) => root.problem(&key, format!("`allow` in {title}: {what}")),
        }
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

fn look_at(grant: &Grant, sources: &Sources<'_>) -> Found {
    match grant {
        Grant::Key(name) => {
            let unread = sources.auth.unread.iter().map(String::as_str);
            let names = sources.auth.keys.iter().map(|key| key.name.as_str());
            let mut names = names.chain(unread);
            if names.clone().any(|known| name.matches(known)) {
                return Found::Fine;
            }
            let hint = did_you_mean(name.as_str(), &mut names);
            Found::Odd(format!("no [[auth.keys]] is called `{}`{hint}", name.as_str()))
        }
        Grant::Upstream(name, _) => {
            if sources.upstreams.iter().any(|known| known == name) {
                return Found::Fine;
            }
            let names = sources.upstreams.iter().map(String::as_str).chain(Grant::KINDS);
            let hint = did_you_mean(name, names);
            Found::Wrong(format!("there is no upstream {}{hint}", quoted(name).replace('"', "`")))
        }
        Grant::Certificate(_) if !sources.certificates => Found::Odd(
            "nobody is asked for a certificate: name `client_ca_file` in [http.tls]".to_owned(),
        ),
        Grant::Any
        | Grant::Certificate(_)
        | Grant::Subject(_)
        | Grant::Scope(_)
        | Grant::Claim(..)
        | Grant::Module(_)
        | Grant::SystemUser(_) => Found::Fine,
    }
}
