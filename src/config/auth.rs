//! `[auth]`: by what callers are known.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::access;
use super::globs;
use super::route::read_own_limits;
use super::secret::{FoundSecret, url_without_credentials};
use super::section::Section;
use crate::auth::settings::{AuthConfig, JwksConfig, JwtConfig, KeyConfig, KeySource, parse_hash};
use crate::auth::tokens::key_file::KeyFile;
use crate::auth::tokens::key_set::KeySet;
use crate::redact;
use crate::route::pattern::Pattern;
use crate::tls::ClientFiles;
use crate::units::parse_date;

const DAY: Duration = Duration::from_secs(86_400);
/// How often an issuer is asked for its keys.
const REFRESH: Duration = Duration::from_secs(600);
const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// Reads `[auth]`.
pub(super) fn read(root: &mut Section<'_>) -> AuthConfig {
    let is_on = root.has("auth");
    let mut section = root.section("auth");
    let own_methods = access::read_key(&mut section, "own_methods");
    let (mut keys, mut unread) = (Vec::<KeyConfig>::new(), Vec::new());
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    for mut section in section.sections("keys") {
        let name = section.peek_text("name").unwrap_or_default();
        let Some(key) = read_key(&mut section) else {
            unread.push(name);
            continue;
        };
        let title = section.title();
        if !names.insert(key.name.clone()) {
            let message = format!(
                "`name` in {title}: another key is called `{}` already: where the one replaces the \
                     other, write both in one table, `hash = [\"…\", \"…\"]`",
                key.name
            );
            section.problem("name", message);
        }
        if !key.hashes.iter().all(|hash| hashes.insert(*hash)) {
            let message = format!(
                "`hash` in {title} stands there already, or is another key's: make a new one"
            );
            section.problem("hash", message);
        }
        keys.push(key);
    }
    let has_tokens = section.has("jwt");
    let jwt = read_jwt(&mut section.section("jwt"), has_tokens).map(Arc::new);
    AuthConfig { is_on, own_methods, keys, unread, jwt }
}

fn read_key(section: &mut Section<'_>) -> Option<KeyConfig> {
    let name = section.required_text("name");
    if let Some(name) = name.as_deref().filter(|name| !is_name(name)) {
        let shown = super::secret::quoted(name);
        let message = format!(
            "`name` in {}: {shown} is no name: letters, digits, `-`, `_` and `.`, 64 at most",
            section.title()
        );
        section.problem("name", message);
    }
    let hashes = section.required_texts("hash");
    let read = hashes.as_ref().and_then(|all| all.iter().map(|hash| parse_hash(hash)).collect());
    if hashes.is_some() && read.is_none() {
        // It may be the key itself.
        let message = format!(
            "`hash` in {} is no hash of a key: `genkan key new NAME` makes a key, and prints the \
                 line",
            section.title()
        );
        section.problem("hash", message);
    }
    let restricted = section.has("routes");
    let routes = section.texts("routes");
    if restricted && routes.iter().all(String::is_empty) {
        let message = format!(
            "`routes` in {} names none, so that nothing can be called with the key: leave it out for all",
            section.title()
        );
        section.warn("routes", message);
    }
    globs::warn_of_foreign(section, "routes", routes.iter().map(String::as_str));
    let routes =
        restricted.then(|| routes.iter().map(|route| Pattern::new(route)).collect::<Vec<_>>());
    let user_id = section.text("user_id");
    if user_id.as_deref().is_some_and(|id| !is_user_id(id)) {
        let message = format!(
            "`user_id` in {} is no user id: services are told it in a header, so it has 1 to 256 bytes, no line \
             breaks or other control characters, and no blank at either end",
            section.title()
        );
        section.problem("user_id", message);
    }
    let expires = read_end(section);
    let limits = read_own_limits(section);
    Some(KeyConfig { name: name?, hashes: read?, routes, user_id, expires, limits })
}

/// The end of a key: a date is the last day on which it is good.
fn read_end(section: &mut Section<'_>) -> Option<SystemTime> {
    let text = section.text("expires")?;
    let Some((at, is_day)) = parse_date(&text) else {
        let message = format!(
            "`expires` in {} must be a date such as 2027-12-31, or 2027-12-31T12:00:00Z",
            section.title()
        );
        section.problem("expires", message);
        return None;
    };
    let end = if is_day { at + DAY } else { at };
    if end <= SystemTime::now() {
        let message =
            format!("`expires` in {}: the key has expired: make a new one", section.title());
        section.warn("expires", message);
    }
    Some(end)
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= 64 && name.bytes().all(fits)
}

fn is_user_id(id: &str) -> bool {
    (1..=256).contains(&id.len()) && !id.contains(char::is_control) && id.trim() == id
}

/// Reads `[auth.jwt]`; none where it names no keys that can be used.
fn read_jwt(section: &mut Section<'_>, is_there: bool) -> Option<JwtConfig> {
    let fingerprint = section.fingerprint(&[]);
    let url = section.text("jwks_url");
    let file = section.path("key_file");
    let secret = section.found_secret("secret", "secret_file");
    let refresh = section.duration("refresh", REFRESH);
    let certificates = ClientFiles::read_authority(section);
    let issuers = section.texts("issuer");
    let audiences = section.texts("audience");
    let clock_skew = section.duration_or_none("clock_skew", CLOCK_SKEW);
    let mut claim = |key, default: &str| section.text(key).unwrap_or_else(|| default.to_owned());
    let (subject, scopes) = (claim("subject", "sub"), claim("scopes", "scope"));
    let user_id = claim("user_id", &subject);
    let claims = section.texts("claims");
    if !is_there {
        return None;
    }
    let has_empty = |texts: &[String]| texts.iter().any(String::is_empty);
    for (key, is_empty) in [
        ("issuer", has_empty(&issuers)),
        ("audience", has_empty(&audiences)),
        ("claims", has_empty(&claims)),
        ("subject", subject.is_empty()),
        ("scopes", scopes.is_empty()),
        ("user_id", user_id.is_empty() && !subject.is_empty()),
    ] {
        if is_empty {
            let message =
                format!("`{key}` in [auth.jwt] is empty, as nothing of a token is: leave it out");
            section.problem(key, message);
        }
    }
    if audiences.is_empty() {
        let message = "`audience` in [auth.jwt] is not set: tokens that the issuer made for others \
                       are taken too";
        section.warn("jwks_url", message);
    }
    let (keys, file) = match (url, file, secret) {
        (Some(url), None, None) => {
            (read_url(section, &url, refresh, certificates).map(KeySource::Url), None)
        }
        (None, Some(file), None) => {
            let file = KeyFile::public(file);
            (read_key_file(section, &file).map(fixed), Some(file))
        }
        (None, None, Some(FoundSecret { secret, file })) => {
            let read = KeySet::of_secret(secret.expose().as_bytes());
            let key = if file.is_some() { "secret_file" } else { "secret" };
            let complain = |why| section.problem(key, format!("`{key}` in [auth.jwt]: {why}"));
            (read.map_err(complain).ok().map(fixed), file.map(KeyFile::secret))
        }
        (None, None, None) => {
            section.problem_here(
                "[auth.jwt] needs one of `jwks_url`, `key_file` and `secret_file`, by which tokens \
                 are verified",
            );
            (None, None)
        }
        _ => {
            section.problem_here(
                "[auth.jwt] has several of `jwks_url`, `key_file` and `secret_file`: keep the one by \
                 which tokens are verified",
            );
            (None, None)
        }
    };
    Some(JwtConfig {
        keys: keys?,
        file,
        issuers,
        audiences,
        clock_skew,
        subject,
        user_id,
        scopes,
        claims,
        fingerprint,
    })
}

/// The keys that a file holds.
fn read_key_file(section: &Section<'_>, file: &KeyFile) -> Option<KeySet> {
    match file.read() {
        Ok(keys) => {
            if let Some(excess) = keys.excess() {
                section.warn("key_file", format!("`key_file` in [auth.jwt]: {excess}"));
            }
            Some(keys)
        }
        Err(why) => {
            section.problem("key_file", format!("`key_file` in [auth.jwt]: {why}"));
            None
        }
    }
}

fn fixed(keys: KeySet) -> KeySource {
    KeySource::Fixed(Arc::new(keys))
}

fn read_url(
    section: &Section<'_>,
    url: &str,
    refresh: Duration,
    certificates: ClientFiles,
) -> Option<JwksConfig> {
    let read = url.parse::<http::Uri>().ok().filter(|_| !url.contains('@'));
    let is_https = |uri: &http::Uri| uri.scheme_str() == Some("https");
    let Some(uri) = read.filter(is_https) else {
        let message = "`jwks_url` in [auth.jwt] must be `https://HOST/PATH`: whoever could change \
                       what comes from there could make tokens";
        section.problem("jwks_url", message);
        return None;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let shown = url_without_credentials(url);
    redact::register(url);
    Some(JwksConfig {
        host,
        port: uri.port_u16().unwrap_or(443),
        path,
        refresh,
        certificates,
        shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_for_test;
    use crate::route::rate::{Limits, Rate};

    const HASH: &str = "sha256:000000000000000000000000000000000000000000000000000000000000002A";

    #[test]
    fn what_is_empty_of_a_token_is_told() {
        for key in ["issuer", "audience", "claims", "subject", "scopes", "user_id"] {
            let text = format!("[auth.jwt]\nsecret = \"{}\"\n{key} = \"\"\n", "s".repeat(40));
            let (_, problems) = read_for_test(&text, read);
            let is_it = |message: &str| {
                message.starts_with(&format!("`{key}` in")) && message.contains("is empty")
            };
            assert!(problems.iter().any(|it| is_it(&it.message)), "{key}: {problems:?}");
        }
    }

    #[test]
    fn a_key_is_read() {
        let text = format!(
            "[[auth.keys]]\nname = \"web\"\nhash = \"{HASH}\"\nroutes = [\"orders.*\"]\n\
             user_id = \"7\"\nexpires = 2999-12-31\nrate = \"9/m\"\nmax_in_flight = 2\nqueue = 3\n"
        );
        let (auth, problems) = read_for_test(&text, read);
        assert_eq!(problems, []);
        assert!(auth.is_on);
        let key = &auth.keys[0];
        assert_eq!((key.name.as_str(), key.hashes[0][31]), ("web", 42));
        assert_eq!(key.routes, Some(vec![Pattern::new("orders.*")]));
        let rate = Rate::parse("9/m");
        let limits = Limits { rate, total_rate: None, max_in_flight: Some(2), queue: 3 };
        assert_eq!(key.limits, limits);
        let last = parse_date("2999-12-31T23:59:59Z").expect("a date").0;
        assert!(key.expires.is_some_and(|end| end == last + Duration::from_secs(1)));
        let (nothing, _) = read_for_test("", read);
        assert!(!nothing.is_on);
    }

    #[test]
    fn a_key_that_is_replaced_has_two_hashes() {
        let other = HASH.replace("2A", "2B");
        let text = format!("[[auth.keys]]\nname = \"web\"\nhash = [\"{HASH}\", \"{other}\"]\n");
        let (auth, problems) = read_for_test(&text, read);
        assert_eq!(problems, []);
        let last: Vec<_> = auth.keys[0].hashes.iter().map(|hash| hash[31]).collect();
        assert_eq!(last, [42, 43]);
    }

    #[test]
    fn clocks_may_be_taken_for_the_same() {
        let skew = |skew: &str| {
            let secret = "0123456789abcdef0123456789abcdef";
            let text = format!("[auth.jwt]\nsecret = \"{secret}\"\nclock_skew = \"{skew}\"\n");
            let (auth, problems) = read_for_test(&text, read);
            let wrong = problems.iter().any(|problem| problem.to_string().contains("clock_skew"));
            (auth.jwt.map(|jwt| jwt.clock_skew), wrong)
        };
        assert_eq!(skew("0s"), (Some(Duration::ZERO), false));
        assert_eq!(skew("-1s"), (Some(CLOCK_SKEW), true));
    }

    #[test]
    fn what_is_wrong_with_a_key() {
        let said = |keys: &str| {
            let (_, problems) = read_for_test(&format!("[[auth.keys]]\n{keys}"), read);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        for (keys, words) in [
            ("hash = \"x\"", "[[auth.keys]] #1 needs `name`"),
            ("name = \"a b\"\nhash = \"x\"", "\"a b\" is no name"),
            ("name = \"web\"\nhash = \"gk_hunter2\"", "is no hash of a key"),
            (
                &format!("name = \"web\"\nhash = [\"{HASH}\", \"gk_hunter2\"]"),
                "is no hash of a key",
            ),
            (&format!("name = \"web\"\nhash = [\"{HASH}\", \"{HASH}\"]"), "stands there already"),
            ("name = \"web\"\nhash = []", "line 3 is empty: write `hash"),
            ("name = \"web\"\nhash = 7", "`hash`"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nexpires = \"soon\""), "must be a date"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nexpires = 2020-01-01"), "has expired"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nuser_id = \"\""), "is no user id"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nroutes = []"), "names none"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nroutes = [\"\"]"), "names none"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nrate = \"0/s\""), "`rate`"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nqueue = 5"), "nothing to wait for"),
            (&format!("name = \"web\"\nhash = \"{HASH}\"\nuser_id = \"7 \""), "is no user id"),
            (
                &format!("name = \"web\"\nhash = \"{HASH}\"\nuser_id = \"7\\r\\nX-Evil: 1\""),
                "is no user id",
            ),
            (
                &format!(
                    "name = \"a\"\nhash = \"{HASH}\"\n[[auth.keys]]\nname = \"a\"\nhash = \"{HASH}\""
                ),
                "another key is called `a`",
            ),
        ] {
            let said = said(keys);
            assert!(said.contains(words), "{keys}\n{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
